package answer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"time"
)

const (
	idleTime = 60 * time.Second // longer than the interval of polls
	idle     = 8                // connections to a host that are kept open between calls
	dialTime = 5 * time.Second  // the transport goes on to connect when its caller has left
)

// Client returns a client for the calls of a store: over TLS, with certificates that roots has signed (nil: the
// system's authorities), with headers of at most maxHeader bytes. A nil dial is the network's. It follows no redirect,
// which could carry a credential to another host.
//
// It speaks HTTP/1.1 alone, as a transport with its own TLS configuration does: a request without an answer ends its
// connection, and the next one makes another. A connection of HTTP/2 would stay, and every poll over it would fail for
// as long as the system tries to reach the other end, some 15 minutes.
func Client(
	roots *x509.CertPool, dial func(ctx context.Context, network, address string) (net.Conn, error), maxHeader int64,
) *http.Client {
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTime}).DialContext
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            dial,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			IdleConnTimeout:        idleTime,
			MaxIdleConnsPerHost:    idle,
			MaxResponseHeaderBytes: maxHeader,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
