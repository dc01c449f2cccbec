package api

import (
	"net/http"
	"strings"
	"time"
)

// plainAnswer is how what belongs to no plane is refused: all dialects but that of tokens have this shape at their
// core.
type plainAnswer struct {
	Error plainDetail `json:"error"`
}

type plainDetail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// plainly spells a problem in no plane's dialect.
func plainly(p *Problem) plainAnswer {
	code := p.Code
	if code == "" {
		code = strings.ReplaceAll(http.StatusText(p.Status), " ", "")
	}
	return plainAnswer{plainDetail{code, p.Message}}
}

// homeOf returns the plane that has a host for itself; nil for a host where all planes are.
func (h *Handler) homeOf(host string) *Plane {
	for _, p := range h.planes {
		if p.Hosts != nil && p.Hosts(host) {
			return p
		}
	}
	return nil
}

// planeOf returns the plane whose dialect fits a path that has no route; nil for none. The host decides first: its
// clients read the answer.
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

// unknown is the refusal of a request that no route was found for.
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

// nowhere is the route of what a plane does not have at a host of its own: only those who prove themselves are told so.
// Clients ask without a token first, and learn from the 401 where to get one.
func nowhere(method string, refusal *Problem) *Route {
	return &Route{
		Method: method, Allow: PlaneToken, Timeout: 30 * time.Second,
		Handle: func(*Request) (any, error) { return nil, refusal },
	}
}
