package armapi

import (
	"net/http"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
)

// authorise refuses who has no role on what the path names that allows the route's action.
//
// What belongs to no subscription is for everybody who has proved who they are.
func (p *plane) authorise(r *api.Request) error {
	if !strings.Contains(r.Route().Pattern, "{subscription}") {
		return nil
	}
	if r.Route().Pattern == oneOperation {
		return nil // whose it is decides, and operation asks for that
	}
	pattern := r.Route().Pattern
	// to register a provider is an action of its own
	if r.Route().Method != http.MethodGet && strings.Contains(pattern, anyProvider) {
		pattern = strings.Replace(pattern, anyProvider, "/providers/"+r.Path("namespace"), 1)
	}
	return p.allow(r, actionOf(r.Route().Method, pattern), pathOf(r))
}

// allow refuses who has no role on a path that allows an action.
func (p *plane) allow(r *api.Request, action, path string) error {
	if p.May(r.Principal, action, path) {
		return nil
	}
	return visage.Refuse(visage.Denied, "AuthorizationFailed",
		"The client %q with object id %q has no role that allows the action %q on %q or on a scope above it.",
		r.Principal.AppID, r.Principal.ObjectID, action, path)
}

// anyProvider is in the paths that are about a provider and not about what it provides.
const anyProvider = "/providers/{namespace}"

// actionOf names what a route does as roles name it: the provider and the types in the path, and then what is done.
func actionOf(method, pattern string) string {
	of := "Microsoft.Resources" + pattern
	// the last is what it is about, those before it are where
	if at := strings.LastIndex(pattern, "/providers/"); at >= 0 && !strings.Contains(pattern, anyProvider) {
		of = pattern[at+len("/providers/"):]
	}
	var action strings.Builder
	for segment := range strings.SplitSeq(of, "/") {
		if segment != "" && !strings.HasPrefix(segment, "{") {
			action.WriteString(segment + "/")
		}
	}
	switch method {
	case http.MethodGet, http.MethodHead:
		return action.String() + "read"
	case http.MethodPut, http.MethodPatch:
		return action.String() + "write"
	case http.MethodDelete:
		return action.String() + "delete"
	}
	return action.String() + "action"
}

// pathOf is the path of a request as its route has it, so that it has one spelling whatever the client wrote.
func pathOf(r *api.Request) string {
	segments := strings.Split(r.Route().Pattern, "/")
	for i, segment := range segments {
		if name, found := strings.CutPrefix(segment, "{"); found {
			segments[i] = r.Path(strings.TrimSuffix(name, "}"))
		}
	}
	return strings.Join(segments, "/")
}

// forOperator lets the operator alone do something: whoever owns the subscription must not decide what it may have, nor
// carry the whole instance away.
func forOperator(do handle) handle {
	return func(r *api.Request) (any, error) {
		if r.Principal.Method != "operator" {
			return nil, visage.Refuse(visage.Denied, "AuthorizationFailed",
				"The client %q with object id %q is not the operator of this instance. Only the operator may do this.",
				r.Principal.AppID, r.Principal.ObjectID)
		}
		return do(r)
	}
}
