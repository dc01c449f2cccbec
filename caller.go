package visage

import (
	"context"
	"net/netip"
)

// Caller is who asks for something, and in which request.
type Caller struct {
	Principal Principal
	RequestID string
	Address   netip.Addr // where the request came from; the zero Addr for one that came over no network
}

type callerKey struct{}

// WithCaller returns a context that knows who asks, for what is written down of it.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom returns who asks; the zero Caller is the service itself.
func CallerFrom(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}
