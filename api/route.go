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

// Allow is the credential that a route requires.
type Allow int

// The credentials that a route can require.
const (
	Anyone      Allow = iota + 1 // none
	ResourceKey                  // a key of a Face resource, or a token that Config.Holders accepts
	BearerToken                  // a bearer token that Config.Tokens accepts
	PlaneToken                   // a bearer token that Plane.Admit accepts
)

// Route is one operation.
type Route struct {
	// Method is the HTTP method, in capitals.
	Method string
	// Pattern is the path, for example "/face/v1.2/facelists/{faceListId}". Literal segments match in any case. A
	// segment in braces matches any one segment, as Request.Path gives it; where a literal matches too, the literal
	// wins. Empty segments of a request's path are ignored: "//face/v1.2/detect/" is "/face/v1.2/detect".
	Pattern string
	// Allow is the credential that the route requires. Required.
	Allow Allow
	// MaxBody is the maximal length of a body in bytes; 0: bodies are not read.
	MaxBody int64
	// Timeout limits the duration of Handle, including the reading of the body. Required.
	Timeout time.Duration
	// Handle does the work. Its result is the body of a 200, encoded as JSON; nil is an empty 200; a Reply can set
	// status and headers. An error that is a *visage.Refusal or a *Problem is sent to the caller, any other gives a 500
	// without its text.
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

// node is one segment in the tree of patterns. net/http's mux is not used, because it redirects paths that are not
// clean, which loses the body of a POST, and matches literals in one case only.
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

// find returns the node of a path and the values of its wildcards; nil for an unknown path.
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

// end returns the plane of a node and the route for a method; the route is nil if there is none.
func (n *node) end(method string) (*Plane, *Route) {
	if e, ok := n.ends[method]; ok {
		return e.plane, e.route
	}
	for _, e := range n.ends {
		return e.plane, nil
	}
	return nil, nil
}

// methods lists the supported methods of a node, for the Allow header.
func (n *node) methods() string {
	var methods []string
	for method := range n.ends {
		methods = append(methods, method)
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

// maxSegments limits the work on a path; all patterns are much shorter.
const maxSegments = 32

// segmentsOf splits the path of a request into its decoded segments, without empty ones. It returns false for a path
// that no route can match: one that does not begin with a slash, or has too many segments.
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

// notAllowed refuses a method that a path does not support.
func notAllowed(n *node) *Problem {
	return &Problem{
		Status: http.StatusMethodNotAllowed, Allow: n.methods(),
		Message: "This path does not support the method of the request. Use one of those in the Allow header.",
	}
}
