package server

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// What one connection may hold (RFC 9113 §6.5.2, §6.9).
const (
	maxStreams       = 100       // requests at a time over HTTP/2
	maxHeaderBytes   = 32 << 10  // of a request
	connectionWindow = 1 << 20   // bytes of bodies on their way in that no handler has read yet
	streamWindow     = 256 << 10 // likewise, of one request
	maxDisplaced     = 100       // connections a second that make room for others
)

// http2 are the bounds of connections that speak HTTP/2.
func http2() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerConnection: connectionWindow, MaxReceiveBufferPerStream: streamWindow,
		SendPingTimeout: time.Minute, PingTimeout: 15 * time.Second, WriteByteTimeout: time.Minute,
	}
}

// conns bounds how many connections there are, altogether and from one address. When there are too many, one goes on
// which nobody has proved who they are, the oldest: a stranger who opens connections drives out their own, and nobody who
// works. When all have proved it, or many make room each second already, the new one is closed.
type conns struct {
	net.Listener
	all, ofOne int
	closed     prometheus.Counter

	mu        sync.Mutex
	allowance float64   // connections that may make room for others now
	allowed   time.Time // when that was looked at
	strangers []*conn   // the oldest first
	count     int
	byAddress map[netip.Addr]int
}

// conn is a connection that is counted.
type conn struct {
	net.Conn
	from    *conns
	address netip.Addr

	gone, known bool // guarded by conns.mu
}

func newConns(l net.Listener, all, ofOne int) *conns {
	return &conns{
		Listener: l, all: all, ofOne: ofOne, byAddress: map[netip.Addr]int{},
		closed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "visage_server_connections_displaced_total", Help: "Connections that were closed because there were too many.",
		}),
	}
}

// Accept implements net.Listener.
func (l *conns) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c, rid := l.admit(accepted)
		if rid != nil {
			l.closed.Inc()
			_ = rid.Close() // its own reader learns of it
		}
		if c != nil {
			return c, nil
		}
	}
}

// admit counts a connection in. It returns the one that has to be closed for it, which may be itself.
func (l *conns) admit(accepted net.Conn) (c *conn, rid net.Conn) {
	c = &conn{Conn: accepted, from: l, address: networkOf(accepted.RemoteAddr())}
	l.mu.Lock()
	defer l.mu.Unlock()
	full, crowded := l.count >= l.all, l.byAddress[c.address] >= l.ofOne
	if full || crowded {
		if !l.mayDisplace(time.Now()) {
			return nil, accepted
		}
		oldest := l.oldest(func(o *conn) bool { return !crowded || o.address == c.address })
		if oldest == nil {
			return nil, accepted
		}
		l.forget(oldest)
		rid = oldest.Conn
	}
	l.count++
	l.byAddress[c.address]++
	l.strangers = append(l.strangers, c)
	return c, rid
}

// mayDisplace holds how often connections make room for others: each costs a handshake, and who opens them without end
// shall not have all of the processor. It needs mu.
func (l *conns) mayDisplace(now time.Time) bool {
	l.allowance = min(maxDisplaced, l.allowance+now.Sub(l.allowed).Seconds()*maxDisplaced)
	l.allowed = now
	if l.allowance < 1 {
		return false
	}
	l.allowance--
	return true
}

func (l *conns) oldest(those func(*conn) bool) *conn {
	if at := slices.IndexFunc(l.strangers, those); at >= 0 {
		return l.strangers[at]
	}
	return nil
}

// forget counts a connection out. It needs mu.
func (l *conns) forget(c *conn) {
	if c.gone {
		return
	}
	c.gone = true
	l.count--
	if l.byAddress[c.address]--; l.byAddress[c.address] == 0 {
		delete(l.byAddress, c.address)
	}
	l.know(c)
}

// know takes a connection out of those of strangers. It needs mu.
func (l *conns) know(c *conn) {
	if at := slices.Index(l.strangers, c); at >= 0 {
		l.strangers = slices.Delete(l.strangers, at, at+1)
	}
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.from.mu.Lock()
	c.from.forget(c)
	c.from.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite lets a client that is still sending read its answer, as net/http does for connections of TCP.
func (c *conn) CloseWrite() error {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		return tcp.CloseWrite()
	}
	return nil
}

// connKey is under which a request's context has its connection.
type connKey struct{}

// remember is http.Server.ConnContext.
func remember(ctx context.Context, c net.Conn) context.Context {
	if wrapped, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = wrapped.NetConn()
	}
	if counted, ok := c.(*conn); ok {
		return context.WithValue(ctx, connKey{}, counted)
	}
	return ctx
}

// proved notes that somebody has proved over a request's connection who they are.
func proved(ctx context.Context) {
	c, ok := ctx.Value(connKey{}).(*conn)
	if !ok {
		return
	}
	c.from.mu.Lock()
	defer c.from.mu.Unlock()
	if !c.known {
		c.known = true
		c.from.know(c)
	}
}

// networkOf is the address that a connection counts to: of IPv6 the network, since a host has 2^64 addresses in it.
func networkOf(a net.Addr) netip.Addr {
	from, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	address := from.Addr().Unmap().WithZone("")
	if network, err := address.Prefix(64); err == nil && address.Is6() && !address.IsLoopback() {
		return network.Addr()
	}
	return address
}
