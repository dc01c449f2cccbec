package visage

import (
	"context"
	"net/netip"
)

// Caller is the principal of a request, with the request's id and address. The zero Caller is the service itself.
type Caller struct {
	Principal
	RequestID string
	Address   netip.Addr // of the client; the zero Addr for a request that came over no network

	// Service says that the request comes from this process, which uses the key of a resource.
	Service bool
	// Manager says that the roles of the management plane allow the operation: what a vault itself says about its users
	// and their addresses is not asked.
	Manager bool
}

type callerKey struct{}

// WithCaller returns a context that carries the caller, for the audit log.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom returns the caller that ctx carries; the zero Caller is the service itself.
func CallerFrom(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}
