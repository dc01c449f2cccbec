package api

import (
	"net/http"
	"strings"
	"time"
)

// homeOf returns the plane that has a host to itself; nil for a host that all planes share.
func (h *Handler) homeOf(host string) *Plane {
	for _, p := range h.planes {
		if p.Hosts != nil && p.Hosts(host) {
			return p
		}
	}
	return nil
}

// planeOf returns the plane whose dialect fits a path without a route; nil if none does. The host decides before the
// path: its clients read the answer.
func (h *Handler) planeOf(home *Plane, path string) *Plane {
	if home != nil {
		return home
	}
	path = strings.ToLower("/" + strings.Trim(path, "/") + "/")
	var best *Plane
	for _, p := range h.planes {
		if strings.HasPrefix(path, p.Prefix) && (best == nil || len(p.Prefix) > len(best.Prefix)) {
			best = p
		}
	}
	for _, p := range h.planes {
		if best == nil && p.Paths != nil && p.Paths(path) {
			best = p
		}
	}
	return best
}

// unknown refuses a request that has no route.
func (x *exchange) unknown(found *node) *Problem {
	if found != nil {
		return notAllowed(found)
	}
	p := &Problem{Status: http.StatusNotFound, Message: "There is no such path."}
	if x.plane != nil && x.plane.Unknown != "" {
		p.Message = x.plane.Unknown
	}
	return p
}

// nowhere is the route of an unknown path at a host of a plane with Alone, where only authenticated callers learn that
// a path is unknown. Clients ask without a token first, and learn from the 401 where to get one.
func nowhere(method string, refusal *Problem) *Route {
	return &Route{
		Method: method, Allow: PlaneToken, Timeout: 30 * time.Second,
		Handle: func(*Request) (any, error) { return nil, refusal },
	}
}
