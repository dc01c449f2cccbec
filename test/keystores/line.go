package keystores

import (
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// Line is a way to a server that can fall silent: what is sent is lost, and nothing comes back, as behind a firewall
// that has forgotten its connections. New connections work.
//
// The server speaks HTTP/2 to everybody who wants it, and answers each request with a page of no key store.
type Line struct {
	Address string // HOST:PORT
	Roots   *x509.CertPool

	tb testing.TB

	mu    sync.Mutex
	conns []*lineConn
}

// StartLine returns a line that ends with the test.
func StartLine(tb testing.TB) *Line {
	tb.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "<html>") // to whoever is still there
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	tb.Cleanup(server.Close)
	l := &Line{Address: server.Listener.Addr().String(), Roots: x509.NewCertPool(), tb: tb}
	l.Roots.AddCert(server.Certificate())
	return l
}

// Dial connects to an address.
func (l *Line) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &lineConn{Conn: conn}
	l.tb.Cleanup(func() { _ = c.Close() }) // if nobody has
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	return c, nil
}

// Silence makes the present connections silent. The first write of each is told to the channel.
func (l *Line) Silence() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	lost := make(chan struct{}, len(l.conns))
	for _, c := range l.conns {
		c.mu.Lock()
		c.lost = lost
		c.mu.Unlock()
	}
	return lost
}

// lineConn is a connection of a line.
type lineConn struct {
	net.Conn

	mu   sync.Mutex
	lost chan struct{} // nil: it is not silent
	told bool
}

// Write implements net.Conn.
func (c *lineConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost == nil {
		return c.Conn.Write(b)
	}
	if !c.told {
		c.told = true
		c.lost <- struct{}{} // which has room
	}
	return len(b), nil
}
