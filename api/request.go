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

// Request is a request as handlers see it. It belongs to one goroutine.
type Request struct {
	ID        string           // the request id: a UUID, in the answer, the log and the audit
	Resource  visage.Resource  // the authenticated resource; zero on routes for Anyone
	Principal visage.Principal // the authenticated principal, likewise
	Admitted  any              // what Plane.Admit leaves here for the handlers of its plane

	// Recorded is set by handlers whose refusal is in the audit log already; see Config.Refused.
	Recorded bool

	http    *http.Request
	route   *Route
	path    []string // the values of the route's wildcards
	names   []string
	query   url.Values // by lower-case name; nil until it is needed
	body    *body
	handler *Handler
	x       *exchange

	uncounted bool // not counted yet against the rate of its address
}

// Inner reports whether the process sent the request to itself; see Config.Inner. Rules about client addresses do not
// apply to it.
func (r *Request) Inner() bool { return r.handler.cfg.Inner }

// Caller returns the principal that makes the request, as far as it is authenticated, and the request.
func (r *Request) Caller() visage.Caller {
	return visage.Caller{Principal: r.Principal, RequestID: r.ID, Address: r.ClientAddress(), Service: r.Inner()}
}

// Context returns the request's context. It ends when the client disconnects or the route's Timeout is over.
func (r *Request) Context() context.Context { return r.http.Context() }

// Route returns the request's route.
func (r *Request) Route() *Route { return r.route }

// Path returns the segment that {name} in the pattern matched, decoded, as the client wrote it. It panics for a name
// that is not in the pattern.
func (r *Request) Path(name string) string {
	for i, n := range r.names {
		if n == name {
			return r.path[i]
		}
	}
	panic(fmt.Sprintf("route %s has no segment {%s}", r.route.Label(), name))
}

// Where returns the request's path in the spelling of its route, with the matched wildcards.
func (r *Request) Where() string {
	segments := strings.Split(r.route.Pattern, "/")
	for i, segment := range segments {
		if name, found := wildcard(segment); found {
			segments[i] = r.Path(name)
		}
	}
	return strings.Join(segments, "/")
}

// Written returns the first n segments of the path, decoded, as the client wrote them: literals match in any case, and
// some clients expect their own spelling in answers.
func (r *Request) Written(n int) []string {
	segments, _ := segmentsOf(r.http.URL) // it was parsed before, to find the route
	return segments[:min(n, len(segments))]
}

// Query returns the value of a query parameter; names match in any case. ok is false when it was not given. An invalid
// query and a parameter that is given twice give refusals of kind Invalid.
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

// Cookie returns the value of a cookie; empty when there is none.
func (r *Request) Cookie(name string) string {
	c, err := r.http.Cookie(name)
	if err != nil {
		return ""
	}
	return c.Value
}

// CheckOrigin refuses an unsafe request that a page of another origin has sent, as far as the browser says so: see
// http.CrossOriginProtection. Kind Denied.
func (r *Request) CheckOrigin() error {
	if http.NewCrossOriginProtection().Check(r.http) != nil {
		return visage.Refuse(visage.Denied, "CrossOriginRequest", "This request comes from a page of another site: "+
			"open the page of the console yourself.")
	}
	return nil
}

// URL returns the request's path and query, as the client wrote them, but with one slash at the beginning: with two, a
// browser would take what follows for a host.
func (r *Request) URL() string { return "/" + strings.TrimLeft(r.http.URL.RequestURI(), "/") }

// Queries returns all query parameters as the client wrote them, without those that cannot be decoded.
func (r *Request) Queries() url.Values { return r.http.URL.Query() }

// Host returns the Host header as the client wrote it, maybe with a port.
func (r *Request) Host() string { return r.http.Host }

// ClientAddress returns the client's address; the zero Addr for a request that came over no network.
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

// Address returns the URL of path at Config.Origin, or at its subdomain if the Host header names one. No other Host
// header is repeated in answers.
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

// ContentType returns the media type of the body in lower case, without parameters; empty when it is missing or
// invalid.
func (r *Request) ContentType() string {
	mediaType, _, err := mime.ParseMediaType(r.http.Header.Get("Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return ""
	}
	return mediaType
}

// ReadText is ReadBody for JSON: it removes a byte order mark, and refuses other encodings than UTF-8 with kind
// Invalid.
func (r *Request) ReadText() ([]byte, error) {
	body, err := r.ReadBody()
	if err != nil {
		return nil, err
	}
	return text(body)
}

// ReadJSON decodes the body, whose Content-Type must be application/json, into a pointer to a struct; see DecodeJSON.
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

// BodyLength returns the length of the body in bytes, as the client has declared it; -1: it has not.
func (r *Request) BodyLength() int64 { return r.body.declared }

// NeedContentType returns a Problem of status 415 unless the body's media type is one of allowed.
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
