package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

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
	control *http.ResponseController
	timeout time.Duration // for the body
	body    *countingBody
	inner   bool
}

// Inner reports whether the process sent the request to itself; see Config.Inner. Rules about where a request comes from
// do not apply to it.
func (r *Request) Inner() bool { return r.inner }

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

// Query returns the value of a query parameter; names match in any case. ok is false when it was not given. A query
// that cannot be read, and a parameter given twice, are refusals of kind Invalid.
func (r *Request) Query(name string) (value string, ok bool, err error) {
	if r.query == nil {
		parsed, err := url.ParseQuery(r.http.URL.RawQuery)
		if err != nil {
			return "", false, visage.Refuse(visage.Invalid, "", "The query of the address cannot be read.")
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

// Address returns the absolute URL of path at the host the client called.
func (r *Request) Address(path string) string {
	u := url.URL{Scheme: "http", Host: r.http.Host, Path: path}
	if r.http.TLS != nil {
		u.Scheme = "https"
	}
	return u.String()
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

// ReadBody returns the whole body. A body longer than the route's MaxBody is a refusal of kind TooLarge, one that does
// not arrive in time a Problem of status 408, and one that breaks off a refusal of kind Invalid. It can be called once.
func (r *Request) ReadBody() ([]byte, error) {
	if r.http.ContentLength > r.route.MaxBody {
		return nil, r.tooLarge()
	}
	// The deadline that was set when the request arrived may be partly used up by waiting for our turn.
	deadline := time.Now().Add(r.timeout)
	if err := r.control.SetReadDeadline(deadline); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, fmt.Errorf("set the body's deadline: %w", err)
	}
	var buf bytes.Buffer
	if n := r.http.ContentLength; n > 0 {
		buf.Grow(int(n) + bytes.MinRead) // so that reading to the end does not grow it again
	}
	_, err := buf.ReadFrom(r.body)
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		return nil, r.tooLarge()
	}
	if timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && timeout.Timeout() {
		return nil, &Problem{
			Status:  http.StatusRequestTimeout,
			Message: fmt.Sprintf("The body did not arrive within %v.", r.timeout),
		}
	}
	if err != nil {
		return nil, visage.Refuse(visage.Invalid, "", "The body broke off before its end.")
	}
	// From here on the server watches the connection for the client leaving; a deadline that still ran would look like
	// that.
	if err := r.control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, fmt.Errorf("clear the body's deadline: %w", err)
	}
	return buf.Bytes(), nil
}

func (r *Request) tooLarge() error {
	return visage.Refuse(visage.TooLarge, "",
		"The body is longer than the %d bytes this operation accepts.", r.route.MaxBody)
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
		Message: "The Content-Type of this operation is " + strings.Join(allowed, " or ") + ".",
	}
}

// countingBody counts what was read of a body, for the log.
type countingBody struct {
	io.ReadCloser
	n int64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	return n, err
}
