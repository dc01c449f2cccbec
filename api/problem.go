package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/visage-face/visage"
)

// Reply is an answer of a handler that is more than a 200 with a body.
type Reply struct {
	Status int         // 200 to 299
	Header http.Header // added to the answer's; may be nil
	Body   any         // written as JSON; nil: none
	// Stream, when it is there, writes the body in place of Body, for as long as its context lives and the client takes
	// what is written. After an error the connection is cut, so that the client knows.
	Stream func(ctx context.Context, w io.Writer) error
}

// Problem is an error answer before a plane has spelled it. Handlers return one for a status that no kind of refusal
// has.
type Problem struct {
	Status     int           // 400 to 599
	Code       string        // the contract's code; empty: the plane's name for the status
	InnerCode  string        // see visage.Refusal.Feature
	Message    string        // a sentence for the caller
	RetryAfter time.Duration // zero: not said
	Allow      string        // for 405: the methods there are
	Challenge  string        // for 401: the WWW-Authenticate header
	RequestID  string        // set by the Handler
}

// Error returns the code and the sentence.
func (p *Problem) Error() string {
	if p.Code == "" {
		return http.StatusText(p.Status) + ": " + p.Message
	}
	return p.Code + ": " + p.Message
}

// statusOf maps the kinds of refusals to statuses. It is the only place that does.
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

// statusClientGone is logged when the client left before the answer; nobody receives it. The number is the customary
// one.
const statusClientGone = 499

// problemOf turns a handler's error into what the caller is told. internal is true when the error's text is for the log
// alone.
func problemOf(ctx context.Context, err error) (p *Problem, internal bool) {
	if problem, ok := errors.AsType[*Problem](err); ok {
		copied := *problem
		return &copied, false
	}
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok {
		p := &Problem{
			Status: statusOf(refusal.Kind), Code: refusal.Code, InnerCode: refusal.Feature, Message: refusal.Message,
			RetryAfter: refusal.RetryAfter,
		}
		return p, p.Status == http.StatusInternalServerError
	}
	if short, ok := errors.AsType[visage.Shortage](err); ok {
		return &Problem{Status: http.StatusInsufficientStorage, Code: "InsufficientStorage", Message: short.Shortage()},
			false
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

// blank is all that a caller learns about a failure of ours; the request id leads to the log.
func blank() *Problem {
	return &Problem{
		Status:  http.StatusInternalServerError,
		Message: "The service failed. Give the request id to its operator, who finds the cause in the log.",
	}
}

// errTooLong is the cause of a request's context that ended at its route's Timeout.
var errTooLong = errors.New("the route's time is up")
