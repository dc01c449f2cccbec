package api

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/visage-face/visage"
)

// Request is what a handler sees of a request. It belongs to one goroutine.
type Request struct {
	ID        string           // the request id: a UUID, in the answer, the log and the audit
	Resource  visage.Resource  // whose credential opened the route; zero when Anyone may use it
	Principal visage.Principal // likewise

	http    *http.Request
	route   *Route
	path    []string // the values of the route's wildcards
	names   []string
	query   url.Values // by lower-case name; nil until it is needed
	body    *body
	handler *Handler
	x       *exchange

	uncounted bool // it is still to be counted against the rate of its address
}

// Inner reports whether the process sent the request to itself; see Config.Inner. Rules about where a request comes
// from do not apply to it.
func (r *Request) Inner() bool { return r.handler.cfg.Inner }

// Context returns the request's context. It ends when the client leaves or the route's Timeout is over.
func (r *Request) Context() context.Context { return r.http.Context() }

// Route returns the route that was found.
func (r *Request) Route() *Route { return r.route }

// Path returns the segment that the pattern's {name} matched, decoded, as the client wrote it. It panics for a name the
// pattern lacks.
func (r *Request) Path(name string) string {
	for i, n := range r.names {
		if n == name {
			return r.path[i]
		}
	}
	panic(fmt.Sprintf("route %s has no segment {%s}", r.route.Label(), name))
}

// Where returns the path of the request in the spelling of its route, with what its wildcards matched.
func (r *Request) Where() string {
	segments := strings.Split(r.route.Pattern, "/")
	for i, segment := range segments {
		if name, found := wildcard(segment); found {
			segments[i] = r.Path(name)
		}
	}
	return strings.Join(segments, "/")
}

// Written returns the first n segments of the path, decoded, as the client wrote them: the literals of the pattern
// match in any case, and some clients want theirs back.
func (r *Request) Written(n int) []string {
	segments, _ := segmentsOf(r.http.URL) // it was read before: the route was found by it
	return segments[:min(n, len(segments))]
}

// Query returns the value of a query parameter; names match in any case. ok is false when it was not given. A query
// that cannot be read, and a parameter given twice, are refusals of kind Invalid.
func (r *Request) Query(name string) (value string, ok bool, err error) {
	if r.query == nil {
		parsed, err := url.ParseQuery(r.http.URL.RawQuery)
		if err != nil {
			return "", false, visage.Refuse(visage.Invalid, "", "The query string of the URL is not valid: "+
				"percent-encode its names and values.")
		}
		r.query = make(url.Values, len(parsed))
		for n, values := range parsed {
			n = strings.ToLower(n)
			r.query[n] = append(r.query[n], values...)
		}
	}
	values := r.query[strings.ToLower(name)]
	switch len(values) {
	case 0:
		return "", false, nil
	case 1:
		return values[0], true, nil
	}
	return "", false, visage.Refuse(visage.Invalid, "", "The query parameter %s is given more than once.", name)
}

// Header returns the first value of a header; empty when there is none.
func (r *Request) Header(name string) string { return r.http.Header.Get(name) }

// Host returns the host that the client called, as it wrote it, maybe with a port.
func (r *Request) Host() string { return r.http.Host }

// ClientAddress returns the address that the request came from; the zero Addr for one that came over no network.
func (r *Request) ClientAddress() netip.Addr {
	from, err := netip.ParseAddrPort(r.http.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return from.Addr().Unmap()
}

// Bearer returns the bearer token of the header Authorization (RFC 6750 §2.1); empty when there is none.
func (r *Request) Bearer() string {
	scheme, token, _ := strings.Cut(r.http.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}

// Address returns the URL of path at Config.Origin or, where the client called a host below it, at that. What a request
// names as its host is never repeated otherwise.
func (r *Request) Address(path string) string {
	u := url.URL{Path: path}
	if r.handler.cfg.Origin.IsZero() {
		return u.EscapedPath()
	}
	at := r.handler.cfg.Origin
	if label, below := at.BelowHost(r.http.Host); below {
		at = at.Sub(label)
	}
	return at.String() + u.EscapedPath()
}

// ContentType returns the media type of the body in lower case, without parameters; empty when none was said or it
// cannot be read.
func (r *Request) ContentType() string {
	mediaType, _, err := mime.ParseMediaType(r.http.Header.Get("Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return ""
	}
	return mediaType
}

// ReadText is ReadBody for JSON: without the mark with which some clients begin UTF-8. Text in another encoding is a
// refusal of kind Invalid.
func (r *Request) ReadText() ([]byte, error) {
	body, err := r.ReadBody()
	if err != nil {
		return nil, err
	}
	return text(body)
}

// ReadJSON decodes the body, which must be said to be application/json, into a pointer to a struct; see DecodeJSON.
func (r *Request) ReadJSON(into any) error {
	if err := r.NeedContentType("application/json"); err != nil {
		return err
	}
	body, err := r.ReadBody()
	if err != nil {
		return err
	}
	return DecodeJSON(body, into)
}

// NeedContentType is a Problem of status 415 when the body's media type is none of those given.
func (r *Request) NeedContentType(allowed ...string) error {
	got := r.ContentType()
	for _, a := range allowed {
		if a == got {
			return nil
		}
	}
	return &Problem{
		Status:  http.StatusUnsupportedMediaType,
		Message: "The Content-Type must be " + strings.Join(allowed, " or ") + ".",
	}
}
