package keysource

import (
	"context"
	"sync/atomic"
)

// Trace has the request id that a key's vault gave to the last call made with a context, so that an entry of the audit
// log can be found in the log of the vault. It is safe for concurrent use.
type Trace struct{ id atomic.Pointer[string] }

type traceKey struct{}

// WithTrace returns a context whose calls to key sources are traced anew.
func WithTrace(ctx context.Context) context.Context {
	return context.WithValue(ctx, traceKey{}, new(Trace))
}

// TraceOf returns the trace of a context; nil if its calls are not traced.
func TraceOf(ctx context.Context) *Trace {
	t, _ := ctx.Value(traceKey{}).(*Trace)
	return t
}

// Answered is called by a source with the id of each answer; an empty id changes nothing.
func (t *Trace) Answered(id string) {
	if t != nil && id != "" {
		t.id.Store(&id)
	}
}

// RequestID returns the id of the last answer; empty if there is none.
func (t *Trace) RequestID() string {
	if t == nil {
		return ""
	}
	if id := t.id.Load(); id != nil {
		return *id
	}
	return ""
}
