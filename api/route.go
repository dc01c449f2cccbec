package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Allow says who may use a route.
type Allow int

// Who may use a route.
const (
	Anyone      Allow = iota + 1 // no credential is looked at
	ResourceKey                  // whoever holds a key of a Face resource; the request works for that resource
	BearerToken                  // whoever sends a bearer token that Config.Tokens knows
	PlaneToken                   // whoever sends a bearer token that Plane.Admit lets in
)

// Route is one operation.
type Route struct {
	// Method is the HTTP method, in capitals.
	Method string
	// Pattern is the path, for example "/face/v1.2/facelists/{faceListId}". Literal segments match in any case. A
	// segment in braces matches any one segment, as Request.Path gives it; where a literal matches too, the literal
	// wins. Empty segments of a request's path mean nothing: "//face/v1.2/detect/" is "/face/v1.2/detect".
	Pattern string
	// Allow says who may use the route. Required.
	Allow Allow
	// MaxBody is the longest body in bytes; 0: bodies are not read.
	MaxBody int64
	// Timeout bounds the work of Handle, the reading of the body included. Required.
	Timeout time.Duration
	// Handle does the work. What it returns is the body of a 200, written as JSON; nil is an empty 200; a Reply says
	// more. An error that is a *visage.Refusal or a *Problem is told to the caller, any other is a blank 500.
	Handle func(*Request) (any, error)
	// Doc describes the route in the OpenAPI document.
	Doc Doc
}

// Label names the route in logs and metrics: its method and pattern.
func (r *Route) Label() string { return r.Method + " " + r.Pattern }

func (r *Route) check() error {
	switch {
	case r.Method == "" || !strings.HasPrefix(r.Pattern, "/"):
		return errors.New("method and a pattern that begins with a slash are required")
	case r.Allow < Anyone || r.Allow > PlaneToken:
		return errors.New("allow is required")
	case r.Timeout <= 0:
		return errors.New("timeout is required")
	case r.MaxBody < 0:
		return errors.New("the longest body cannot be negative")
	case r.Handle == nil:
		return errors.New("handle is required")
	}
	return nil
}

// node is one segment in the tree of patterns. net/http's own mux is not used because it answers paths that are not
// clean with a redirect, which loses the body of a POST, and matches literals in one case only.
type node struct {
	literals map[string]*node // by lower-case segment
	wild     *node
	names    []string // the wildcards of the routes that end here, in order
	ends     map[string]end
}

type end struct {
	plane *Plane
	route *Route
}

func newNode() *node { return &node{literals: map[string]*node{}, ends: map[string]end{}} }

func (n *node) add(p *Plane, r *Route) error {
	if err := r.check(); err != nil {
		return fmt.Errorf("route %s: %w", r.Label(), err)
	}
	var names []string
	for segment := range strings.SplitSeq(strings.Trim(r.Pattern, "/"), "/") {
		if name, ok := wildcard(segment); ok {
			names = append(names, name)
			if n.wild == nil {
				n.wild = newNode()
			}
			n = n.wild
			continue
		}
		literal := strings.ToLower(segment)
		if n.literals[literal] == nil {
			n.literals[literal] = newNode()
		}
		n = n.literals[literal]
	}
	if _, twice := n.ends[r.Method]; twice {
		return fmt.Errorf("route %s is there twice", r.Label())
	}
	if len(n.ends) > 0 && !slices.Equal(n.names, names) {
		return fmt.Errorf("route %s names its segments differently from another route of the same path", r.Label())
	}
	n.names = names
	n.ends[r.Method] = end{p, r}
	return nil
}

func wildcard(segment string) (name string, ok bool) {
	name, ok = strings.CutPrefix(segment, "{")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(name, "}")
}

// find returns the node of a path and the values of its wildcards; nil when there is none.
func (n *node) find(segments []string) (*node, []string) {
	if len(segments) == 0 {
		if len(n.ends) == 0 {
			return nil, nil
		}
		return n, nil
	}
	if next := n.literals[strings.ToLower(segments[0])]; next != nil {
		if found, values := next.find(segments[1:]); found != nil {
			return found, values
		}
	}
	if n.wild != nil {
		if found, values := n.wild.find(segments[1:]); found != nil {
			return found, append([]string{segments[0]}, values...)
		}
	}
	return nil, nil
}

// end returns the route of a method at a node, and the plane; when the node lacks the method, only the plane.
func (n *node) end(method string) (*Plane, *Route) {
	if e, ok := n.ends[method]; ok {
		return e.plane, e.route
	}
	for _, e := range n.ends {
		return e.plane, nil
	}
	return nil, nil
}

// methods lists what may be done at a node, for the Allow header.
func (n *node) methods() string {
	var methods []string
	for method := range n.ends {
		methods = append(methods, method)
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

// maxSegments bounds the work on a path; no pattern comes near it.
const maxSegments = 32

// segmentsOf splits the path of a request into its decoded segments, without the empty ones. It is false for a path
// that cannot be one of ours: one of another form than "/…", or with too many segments.
func segmentsOf(u *url.URL) ([]string, bool) {
	escaped := u.EscapedPath()
	if !strings.HasPrefix(escaped, "/") {
		return nil, false
	}
	var segments []string
	for part := range strings.SplitSeq(escaped, "/") {
		if part == "" {
			continue
		}
		segment, err := url.PathUnescape(part)
		if err != nil || len(segments) == maxSegments {
			return nil, false
		}
		segments = append(segments, segment)
	}
	return segments, true
}

// notAllowed is the refusal of a method that a path does not have.
func notAllowed(n *node) *Problem {
	return &Problem{
		Status: http.StatusMethodNotAllowed, Allow: n.methods(),
		Message: "This path does not support the method of the request. Use one of those in the Allow header.",
	}
}
