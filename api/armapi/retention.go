package armapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
)

// Retentions manages how long enrolled people and faces are kept, and legal holds. Its refusals go to the caller.
type Retentions interface {
	// Keeping returns the retentions and holds of a resource.
	Keeping(ctx context.Context, of visage.Resource) (armwire.Keeping, error)
	// SetRetention sets the retention of a group or list, or, with neither kind nor id, of the resource; without days,
	// it removes it.
	SetRetention(ctx context.Context, of visage.Resource, r armwire.Retention) error
	// Expire erases the people and faces whose retention has ended; with dry, it only counts them.
	Expire(ctx context.Context, of visage.Resource, dry bool) (armwire.Expired, error)
	// Hold adds a legal hold, and Release removes it.
	Hold(ctx context.Context, of visage.Resource, h armwire.Hold) error
	Release(ctx context.Context, of visage.Resource, h armwire.Hold) error
	// Held reports whether anything in a resource is under a legal hold.
	Held(ctx context.Context, of visage.Resource) (bool, error)
}

// retentionRoutes are extensions: Azure keeps people and faces until they are deleted.
func (p *plane) retentionRoutes(route routeMaker) []api.Route {
	return []api.Route{
		route(http.MethodGet, one+"/retention", p.keeping,
			api.Doc{Summary: "Show how long an account keeps whom", Answer: armwire.Keeping{}}),
		route(http.MethodPut, one+"/retention", p.setRetention,
			api.Doc{Summary: "Set how long an account, or a group or list of it, keeps those in it",
				Body:   armwire.Retention{},
				Answer: armwire.Keeping{}}),
		route(http.MethodPost, one+"/expire", p.expire,
			api.Doc{Summary: "Erase those whose time is up now",
				Body: armwire.Expiration{}, Answer: armwire.Expired{}}),
		route(http.MethodPost, one+"/placeHold", p.placeHold,
			api.Doc{Summary: "Place a legal hold: nothing it is on is erased",
				Body: armwire.Hold{}, Answer: armwire.Keeping{}}),
		route(http.MethodPost, one+"/releaseHold", p.releaseHold,
			api.Doc{Summary: "Release a legal hold", Body: armwire.Hold{}, Answer: armwire.Keeping{}}),
	}
}

func (p *plane) keeping(r *api.Request) (any, error) {
	a, err := p.Accounts.Get(r.Context(), r.Path("account"))
	if err != nil {
		return nil, err
	}
	return answerKeeping(p.Retentions.Keeping(r.Context(), a.Resource))
}

func answerKeeping(k armwire.Keeping, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return k, nil
}

func (p *plane) setRetention(r *api.Request) (any, error) {
	var want armwire.Retention
	return p.keep(r, &want, func(of visage.Resource) error { return p.Retentions.SetRetention(r.Context(), of, want) })
}

func (p *plane) placeHold(r *api.Request) (any, error) {
	var want armwire.Hold
	return p.keep(r, &want, func(of visage.Resource) error { return p.Retentions.Hold(r.Context(), of, want) })
}

func (p *plane) releaseHold(r *api.Request) (any, error) {
	var want armwire.Hold
	return p.keep(r, &want, func(of visage.Resource) error { return p.Retentions.Release(r.Context(), of, want) })
}

// keep decodes a change, applies it to an account, and answers with all retentions and holds.
func (p *plane) keep(r *api.Request, want any, do func(visage.Resource) error) (any, error) {
	if err := read(r, want); err != nil {
		return nil, err
	}
	a, err := p.Accounts.Get(r.Context(), r.Path("account"))
	if err == nil {
		err = do(a.Resource)
	}
	if err != nil {
		return nil, err
	}
	return answerKeeping(p.Retentions.Keeping(r.Context(), a.Resource))
}

func (p *plane) expire(r *api.Request) (any, error) {
	var want armwire.Expiration
	if err := read(r, &want); err != nil {
		return nil, err
	}
	a, err := p.Accounts.Get(r.Context(), r.Path("account"))
	if err != nil {
		return nil, err
	}
	gone, err := p.Retentions.Expire(r.Context(), a.Resource, want.DryRun)
	if err != nil {
		return nil, err
	}
	return gone, nil
}

// mayRemove refuses to delete an account with a legal hold. Holds are sealed under the account's key: while the key is
// revoked, or the data is damaged, they cannot be read, and then deletion is allowed, since the data cannot be used any
// more.
func (p *plane) mayRemove(ctx context.Context, of visage.Resource) error {
	held, err := p.Retentions.Held(ctx, of)
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.Unavailable {
		return err // the key is unavailable for a while
	}
	if held {
		return visage.Refuse(visage.Conflict, "LegalHold",
			"Legal holds protect data in %q. Release all of them before you delete the resource.", of.Name)
	}
	return ctx.Err()
}
