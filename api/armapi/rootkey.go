package armapi

import (
	"context"
	"net/http"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
)

// RootKeys manages the root key of the instance and its protectors. Its refusals go to the caller.
type RootKeys interface {
	// RootKey says how the root key stands. It asks no protector.
	RootKey(ctx context.Context) (armwire.RootKey, error)
	// AddProtector adds the protector of an entry of the settings, after it has proved that it opens what it wraps.
	AddProtector(ctx context.Context, by visage.Caller, want armwire.RootProtectorRequest) (armwire.RootKey, error)
	// RemoveProtector removes a protector by its name.
	RemoveProtector(ctx context.Context, by visage.Caller, name string) error
	// TestProtectors asks every protector to open the root key.
	TestProtectors(ctx context.Context, by visage.Caller) (armwire.RootKey, error)
	// RotateRootKey makes a new root key; what the old one sealed is then sealed anew.
	RotateRootKey(ctx context.Context, by visage.Caller) (armwire.RootKey, error)
	// MakeKit makes a recovery kit and returns its file.
	MakeKit(ctx context.Context, by visage.Caller, want armwire.RecoveryRequest) (any, error)
	// ProveKit records that a recovery kit was opened.
	ProveKit(ctx context.Context, by visage.Caller, proof armwire.RecoveryProof) error
}

// rootKeyRoutes are for the operator only, since the root key is that of every resource.
func (p *plane) rootKeyRoutes(route routeMaker) []api.Route {
	const (
		root       = operations + "/rootKey"
		protectors = root + "/protectors"
	)
	answered := func(do func(context.Context, visage.Caller) (armwire.RootKey, error)) handle {
		return func(r *api.Request) (any, error) { return answerRootKey(do(r.Context(), r.Caller())) }
	}
	return []api.Route{
		route(http.MethodGet, root, p.forOperator(func(r *api.Request) (any, error) {
			return answerRootKey(p.RootKeys.RootKey(r.Context()))
		}), api.Doc{Summary: "Show the version of the root key and its protectors", Answer: armwire.RootKey{}}),
		route(http.MethodPost, protectors, p.forOperator(p.addProtector),
			api.Doc{Summary: "Add a protector of the root key", Body: armwire.RootProtectorRequest{},
				Answer: armwire.RootKey{}}),
		route(http.MethodDelete, protectors+"/{protector}", p.forOperator(func(r *api.Request) (any, error) {
			if err := p.RootKeys.RemoveProtector(r.Context(), r.Caller(), r.Path("protector")); err != nil {
				return nil, err
			}
			return api.Reply{Status: http.StatusNoContent}, nil
		}), api.Doc{Summary: "Remove a protector of the root key", Status: http.StatusNoContent}),
		route(http.MethodPost, root+"/test", p.forOperator(answered(p.RootKeys.TestProtectors)),
			api.Doc{Summary: "Ask every protector to open the root key", Answer: armwire.RootKey{}}),
		route(http.MethodPost, root+"/rotate", p.forOperator(answered(p.RootKeys.RotateRootKey)),
			api.Doc{Summary: "Make a new root key, and seal anew what the old one sealed", Answer: armwire.RootKey{}}),
		route(http.MethodPost, root+"/recovery", p.forOperator(p.makeKit),
			api.Doc{Summary: "Make a recovery kit of the root key", Body: armwire.RecoveryRequest{}}),
		route(http.MethodPost, root+"/recovery/prove", p.forOperator(p.proveKit),
			api.Doc{Summary: "Record that a recovery kit opens the root key", Body: armwire.RecoveryProof{},
				Status: http.StatusNoContent}),
	}
}

func answerRootKey(root armwire.RootKey, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return root, nil
}

func (p *plane) addProtector(r *api.Request) (any, error) {
	var body armwire.RootProtectorRequest
	if err := read(r, &body); err != nil {
		return nil, err
	}
	return answerRootKey(p.RootKeys.AddProtector(r.Context(), r.Caller(), body))
}

func (p *plane) makeKit(r *api.Request) (any, error) {
	var body armwire.RecoveryRequest
	if err := read(r, &body); err != nil {
		return nil, err
	}
	return p.RootKeys.MakeKit(r.Context(), r.Caller(), body)
}

func (p *plane) proveKit(r *api.Request) (any, error) {
	var body armwire.RecoveryProof
	if err := read(r, &body); err != nil {
		return nil, err
	}
	if err := p.RootKeys.ProveKit(r.Context(), r.Caller(), body); err != nil {
		return nil, err
	}
	return api.Reply{Status: http.StatusNoContent}, nil
}
