package server

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Limits of one connection (RFC 9113 §6.5.2, §6.9).
const (
	maxStreams       = 100       // requests at a time over HTTP/2
	maxHeaderBytes   = 32 << 10  // of a request
	connectionWindow = 1 << 20   // received bytes of bodies that no handler has read yet
	streamWindow     = 256 << 10 // likewise, of one request
	maxDisplaced     = 100       // answered connections of one address that are closed for its new ones in a second
)

// http2 are the limits of HTTP/2 connections.
func http2() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerConnection: connectionWindow,
		MaxReceiveBufferPerStream: streamWindow,
		SendPingTimeout:           time.Minute, PingTimeout: 15 * time.Second, WriteByteTimeout: time.Minute,
	}
}

// conns limits the number of connections, in total and from one address. Beyond the limit it closes one whose client
// has not authenticated, so that authenticated clients keep theirs: a connection of the same address if that has too
// many, else one of the address that has most. So a client at another address can always connect. Among the connections
// of one address, those without any answer are closed first: they have not cost a handshake, and a client that sends at
// once is answered before. The number of answered connections of an address that are closed in a second is limited;
// beyond that, and when all are authenticated, the new connection is closed.
type conns struct {
	net.Listener
	all, ofOne int
	shared     proxies // trusted proxies, each with many clients
	closed     prometheus.Counter

	mu        sync.Mutex
	strangers []*conn // not authenticated; the oldest first
	count     int
	byAddress map[netip.Addr]*origins
}

// origins holds the counters of one address. It is guarded by conns.mu, and removed with the last connection.
type origins struct {
	count     int
	allowance float64   // how many answered connections may be closed for new ones now
	allowed   time.Time // when allowance was last computed
}

// conn is a counted connection.
type conn struct {
	net.Conn
	from     *conns
	address  netip.Addr
	answered atomic.Bool // whether the server has written anything

	gone, known bool // guarded by conns.mu
}

func newConns(l net.Listener, all, ofOne int, shared proxies) *conns {
	return &conns{
		Listener: l, all: all, ofOne: ofOne, shared: shared, byAddress: map[netip.Addr]*origins{},
		closed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "visage_server_connections_displaced_total",
			Help: "Connections that were closed because there were too many.",
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
			_ = rid.Close() // its own reader sees the error
		}
		if c != nil {
			return c, nil
		}
	}
}

// admit counts a new connection. It returns the connection that must be closed for it, which may be itself.
func (l *conns) admit(accepted net.Conn) (c *conn, rid net.Conn) {
	c = &conn{Conn: accepted, from: l, address: networkOf(accepted.RemoteAddr())}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	full, crowded := l.count >= l.all, l.crowded(c.address)
	if full || crowded {
		from := c.address
		if !crowded {
			from = l.mostCrowded(c.address)
		}
		oldest := l.toDisplace(from, c.address, now)
		if oldest == nil {
			return nil, accepted
		}
		l.forget(oldest)
		rid = oldest.Conn
	}
	of := l.byAddress[c.address]
	if of == nil {
		of = &origins{allowance: maxDisplaced, allowed: now}
		l.byAddress[c.address] = of
	}
	of.count++
	l.count++
	l.strangers = append(l.strangers, c)
	return c, rid
}

// crowded reports whether an address has the maximal number of connections. A trusted proxy may have more, for many
// clients. mu is held.
func (l *conns) crowded(address netip.Addr) bool {
	o := l.byAddress[address]
	return o != nil && o.count >= l.ofOne && !l.shared.trusts(address)
}

// mostCrowded returns the address with the most connections that may be closed; address if none has more. mu is held.
func (l *conns) mostCrowded(address netip.Addr) netip.Addr {
	of := map[netip.Addr]int{}
	for _, s := range l.strangers {
		of[s.address]++
	}
	most := address
	for a, n := range of {
		if n > of[most] {
			most = a
		}
	}
	return most
}

// toDisplace returns the connection of an address to close for a new one from another or the same; nil if none may be
// closed. mu is held.
func (l *conns) toDisplace(from, to netip.Addr, now time.Time) *conn {
	silent := l.oldest(func(o *conn) bool { return o.address == from && !o.answered.Load() })
	if silent != nil {
		return silent
	}
	oldest := l.oldest(func(o *conn) bool { return o.address == from })
	if oldest == nil || from == to && !l.byAddress[from].mayDisplace(now) {
		return nil
	}
	return oldest
}

// mayDisplace limits how often answered connections of an address are closed for new ones of the same: each costs a
// handshake, and a client that keeps opening connections must not use all of the processor.
func (of *origins) mayDisplace(now time.Time) bool {
	of.allowance = min(maxDisplaced, of.allowance+now.Sub(of.allowed).Seconds()*maxDisplaced)
	of.allowed = now
	if of.allowance < 1 {
		return false
	}
	of.allowance--
	return true
}

func (l *conns) oldest(those func(*conn) bool) *conn {
	if at := slices.IndexFunc(l.strangers, those); at >= 0 {
		return l.strangers[at]
	}
	return nil
}

// forget removes a connection from the counters. mu is held.
func (l *conns) forget(c *conn) {
	if c.gone {
		return
	}
	c.gone = true
	l.count--
	of := l.byAddress[c.address]
	if of.count--; of.count == 0 {
		delete(l.byAddress, c.address)
	}
	l.know(c)
}

// know removes a connection from the unauthenticated ones. mu is held.
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

// Write implements net.Conn. It records that the client gets an answer, including that of a handshake.
func (c *conn) Write(b []byte) (int, error) {
	c.answered.Store(true)
	return c.Conn.Write(b)
}

// CloseWrite lets a client that is still sending read its answer, as net/http does for TCP connections.
func (c *conn) CloseWrite() error {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		return tcp.CloseWrite()
	}
	return nil
}

// connKey is the key of the connection in a request's context.
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

// proved records that the client of a request's connection has authenticated.
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

// networkOf is the address for which a connection counts; for IPv6 the /64 network, since one host has all of its
// addresses.
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
