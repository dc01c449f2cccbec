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
	idle     = 32               // connections to a host that are kept open between calls
	// how old a connection may be when it is kept: polls keep it in use, and a name may lead to another host meanwhile
	lifeTime = 5 * time.Minute
	// of a connection with its handshake, which also ends with the call
	dialTime      = 5 * time.Second
	handshakeTime = 10 * time.Second
)

// Client returns a client for the calls of a store: over TLS, with certificates that roots has signed (nil: the
// system's authorities). Answers have at most limit bytes of header and, up to one byte more, of content. A nil dial is
// the network's. It follows no redirect, which could carry a credential to another host, and uses no proxy.
//
// It speaks HTTP/1.1 alone: a request without an answer ends its connection, and the next one makes another. A
// connection of HTTP/2 would stay, and every poll over it would fail for as long as the system tries to reach the other
// end, some 15 minutes. A host that accepts connections and then says nothing costs no more than the calls to it.
//
// Content of requests is read and sent whole, and that of answers is read before the call returns: both are short, and
// hold keys and tokens. The encoded request is wiped after the call, and the content of the answer when it is closed.
// Other copies are not: those in the buffers of connections and of TLS, and those that are left behind when the buffer
// of a request, or of an answer that does not name its length, grows.
func Client(
	roots *x509.CertPool, dial func(ctx context.Context, network, address string) (net.Conn, error), limit int64,
) *http.Client {
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTime}).DialContext
	}
	return &http.Client{
		Transport: &transport{
			dial: dial, limit: limit, idle: map[string][]*conn{},
			config: &tls.Config{
				MinVersion: tls.VersionTLS12, RootCAs: roots,
				// else a request with a token is two records, and two calls of the system
				DynamicRecordSizingDisabled: true,
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
