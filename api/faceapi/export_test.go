package faceapi

import (
	"context"
	"net"
	"net/netip"
)

// Public is public, which no request can ask about without connecting somewhere.
var Public = public

// NewFetch returns what fetches an image over a network of the test's own: no request can choose how names resolve.
func NewFetch(
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error),
	connect func(ctx context.Context, network, address string) (net.Conn, error),
) func(ctx context.Context, address string) ([]byte, error) {
	return newFetcher(network{lookup, connect}, false).fetch
}
