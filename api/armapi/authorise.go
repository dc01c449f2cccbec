package armapi

import (
	"net/http"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
)

// authorise refuses a caller without a role that allows the route's action on the path's scope.
//
// Paths outside the subscription are open to every authenticated caller.
func (p *plane) authorise(r *api.Request) error {
	if !strings.Contains(r.Route().Pattern, "{subscription}") {
		return nil
	}
	if r.Route().Pattern == oneOperation {
		return nil // the handler checks that the operation is the caller's
	}
	pattern := r.Route().Pattern
	// registering a provider is an action of its own
	if r.Route().Method != http.MethodGet && strings.Contains(pattern, anyProvider) {
		pattern = strings.Replace(pattern, anyProvider, "/providers/"+r.Path("namespace"), 1)
	}
	return p.allow(r, actionOf(r.Route().Method, pattern), pathOf(r))
}

// allow refuses a caller without a role that allows an action on a path.
func (p *plane) allow(r *api.Request, action, path string) error {
	if p.May(r.Principal, action, path) {
		return nil
	}
	return visage.Refuse(visage.Denied, "AuthorizationFailed",
		"The client %q with object id %q has no role that allows the action %q on %q or on a scope above it.",
		r.Principal.AppID, r.Principal.ObjectID, action, path)
}

// anyProvider is part of the paths about a provider itself, as opposed to its resources.
const anyProvider = "/providers/{namespace}"

// actionOf returns the action of a route in the notation of roles: the provider, the types in the path, and the verb.
func actionOf(method, pattern string) string {
	of := "Microsoft.Resources" + pattern
	// the last provider is the subject of the action; earlier ones are its scope
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

// pathOf is the path of a request in the spelling of its route, whatever the client wrote.
func pathOf(r *api.Request) string {
	segments := strings.Split(r.Route().Pattern, "/")
	for i, segment := range segments {
		if name, found := strings.CutPrefix(segment, "{"); found {
			segments[i] = r.Path(strings.TrimSuffix(name, "}"))
		}
	}
	return strings.Join(segments, "/")
}

// forOperator restricts a route to operators: an owner of the subscription must not grant capacity to it, or copy the
// whole instance.
func (p *plane) forOperator(do handle) handle {
	return func(r *api.Request) (any, error) {
		if !p.IsOperator(r.Principal) {
			return nil, visage.Refuse(visage.Denied, "AuthorizationFailed",
				"The client %q with object id %q is not an operator of this instance: it needs the role Visage "+
					"Operator.",
				r.Principal.AppID, r.Principal.ObjectID)
		}
		return do(r)
	}
}
