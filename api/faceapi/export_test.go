package faceapi

import (
	"context"
	"net"
	"net/netip"
)

// Public gives tests access to public: no request can test an address without a connection.
var Public = public

// NewFetch returns the function that fetches images over a network of the test: no request can choose how names
// resolve.
func NewFetch(
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error),
	connect func(ctx context.Context, network, address string) (net.Conn, error),
) func(ctx context.Context, address string) ([]byte, error) {
	return newFetcher(network{lookup, connect}, false).fetch
}
