package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/visage-face/visage"
)

// Reply is a handler's answer with a status, headers or a stream.
type Reply struct {
	Status int         // 200 to 399
	Header http.Header // added to the headers of the answer; may be nil
	Body   any         // written as JSON; nil: none
	// Raw, if not nil, is the body instead of Body, as it is. Header must have its Content-Type.
	Raw []byte
	// Stream, if not nil, writes the body instead of Body, until its context ends or the client stops reading. After an
	// error the connection is cut, so that the client notices. Its Content-Type is application/octet-stream unless
	// Header has another.
	Stream func(ctx context.Context, w io.Writer) error
}

// Problem is an error answer in no plane's dialect yet. Handlers return one for a status that no kind of refusal has.
type Problem struct {
	Status     int           // 400 to 599
	Code       string        // the contract's code; empty: the plane's name for the status
	InnerCode  string        // see visage.Refusal.InnerCode
	Message    string        // for the caller, a sentence
	RetryAfter time.Duration // zero: not said
	Allow      string        // for 405: the supported methods
	Challenge  string        // for 401: the WWW-Authenticate header
	RequestID  string        // set by the Handler
	Note       any           // what Plane.Admit tells Plane.Page
}

// Error returns the code and the sentence.
func (p *Problem) Error() string {
	if p.Code == "" {
		return http.StatusText(p.Status) + ": " + p.Message
	}
	return p.Code + ": " + p.Message
}

// answer makes the answer of a problem in a dialect. With an error, it is an answer without a body.
func (p *Problem) answer(dialect func(http.Header, *Problem) any) (answer, error) {
	a := p.bare()
	var err error
	a.body, err = encode(dialect(a.header, p))
	return a, err
}

// bare makes the answer of a problem without a body.
func (p *Problem) bare() answer {
	a := answer{status: p.Status, code: p.Code, header: http.Header{}}
	if p.RetryAfter > 0 {
		a.header.Set("Retry-After", strconv.FormatInt(seconds(p.RetryAfter), 10))
	}
	if p.Allow != "" {
		a.header.Set("Allow", p.Allow)
	}
	if p.Challenge != "" {
		a.header.Set("WWW-Authenticate", p.Challenge)
	}
	return a
}

// WriteProblem answers a request that reaches no plane. Its document is the common core of the planes' error documents.
func WriteProblem(w http.ResponseWriter, r *http.Request, p *Problem) {
	a, _ := p.answer(plain)    // a document of two texts can always be encoded
	_, _ = a.send(w, r.Method) // an error means that the client has disconnected
}

// plainAnswer is the common core of the planes' error documents.
type plainAnswer struct {
	Error plainDetail `json:"error"`
}

type plainDetail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// plain is the dialect of requests that belong to no plane.
func plain(_ http.Header, p *Problem) any {
	code := p.Code
	if code == "" {
		code = strings.ReplaceAll(http.StatusText(p.Status), " ", "")
	}
	return plainAnswer{plainDetail{code, p.Message}}
}

// EchoRequestID repeats the id that a client gave its request, in the header of that name, in the answer. Ids of more
// than 128 bytes are left out: clients send UUIDs.
func EchoRequestID(h http.Header, r *http.Request, name string) {
	const most = 128
	if id := r.Header.Get(name); id != "" && len(id) <= most {
		h.Set(name, id)
	}
}

// statusOf maps the kinds of refusals to statuses. No other function does.
func statusOf(kind visage.Kind) int {
	switch kind {
	case visage.Invalid:
		return http.StatusBadRequest
	case visage.Unauthenticated:
		return http.StatusUnauthorized
	case visage.Denied, visage.KeyRevoked, visage.Unsupported:
		return http.StatusForbidden
	case visage.NotFound:
		return http.StatusNotFound
	case visage.Conflict:
		return http.StatusConflict
	case visage.Gone:
		return http.StatusGone
	case visage.TooLarge:
		return http.StatusRequestEntityTooLarge
	case visage.TooMany:
		return http.StatusTooManyRequests
	case visage.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// statusClientGone is logged when the client disconnected before the answer; it is never sent. The number is customary.
const statusClientGone = 499

// afterOutage is the retry time while the store's database cannot be used: about what a failover takes.
const afterOutage = 5 * time.Second

// ProblemOf turns a handler's error into the answer for the caller. internal is true when the error's text is only for
// the log.
func ProblemOf(ctx context.Context, err error) (p *Problem, internal bool) {
	if problem, ok := errors.AsType[*Problem](err); ok {
		copied := *problem
		return &copied, false
	}
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok {
		p := &Problem{
			Status: statusOf(refusal.Kind), Code: refusal.Code, InnerCode: refusal.InnerCode, Message: refusal.Message,
			RetryAfter: refusal.RetryAfter,
		}
		return p, p.Status == http.StatusInternalServerError
	}
	if short, ok := errors.AsType[visage.Shortage](err); ok {
		return &Problem{Status: http.StatusInsufficientStorage, Code: "InsufficientStorage", Message: short.Shortage()},
			false
	}
	if out, ok := errors.AsType[visage.Outage](err); ok {
		return &Problem{
			Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable", Message: out.Outage(),
			RetryAfter: afterOutage,
		}, true
	}
	switch {
	case errors.Is(context.Cause(ctx), errTooLong):
		return &Problem{
			Status: http.StatusServiceUnavailable, RetryAfter: time.Second,
			Message: "The operation exceeded its time limit. Try again.",
		}, true
	case errors.Is(context.Cause(ctx), context.Canceled):
		return &Problem{Status: statusClientGone, Message: "The client went away."}, false
	}
	return blank(), true
}

// blank is the answer to every internal error; the request id leads to the log.
func blank() *Problem {
	return &Problem{
		Status:  http.StatusInternalServerError,
		Message: "The service failed. Give the request id to its operator, who finds the cause in the log.",
	}
}

// errTooLong is the cause of a request's context that ended at its route's Timeout.
var errTooLong = errors.New("the route's time is up")
