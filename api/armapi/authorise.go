package armapi

import (
	"net/http"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
)

// authorise refuses who has no role on what the path names that allows the route's action.
func (p *plane) authorise(r *api.Request) error {
	action, path := actionOf(r.Route().Method, r.Route().Pattern), pathOf(r)
	if p.May(r.Principal, action, path) {
		return nil
	}
	return visage.Refuse(visage.Denied, "AuthorizationFailed",
		"The client %q with object id %q has no role that allows the action %q on %q, or on what lies above it.",
		r.Principal.AppID, r.Principal.ObjectID, action, path)
}

// actionOf names what a route does as roles name it: the provider and the types in the path, and then what is done.
func actionOf(method, pattern string) string {
	_, of, found := strings.Cut(pattern, "/providers/")
	if !found {
		of = "Microsoft.Resources" + pattern
	}
	var action strings.Builder
	for segment := range strings.SplitSeq(of, "/") {
		if segment != "" && !strings.HasPrefix(segment, "{") {
			action.WriteString(segment + "/")
		}
	}
	switch method {
	case http.MethodGet:
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
