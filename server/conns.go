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

// What one connection may hold (RFC 9113 §6.5.2, §6.9).
const (
	maxStreams       = 100       // requests at a time over HTTP/2
	maxHeaderBytes   = 32 << 10  // of a request
	connectionWindow = 1 << 20   // bytes of bodies on their way in that no handler has read yet
	streamWindow     = 256 << 10 // likewise, of one request
	maxDisplaced     = 100       // answered connections of one address a second that make room for others of it
)

// http2 are the bounds of connections that speak HTTP/2.
func http2() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerConnection: connectionWindow,
		MaxReceiveBufferPerStream: streamWindow,
		SendPingTimeout:           time.Minute, PingTimeout: 15 * time.Second, WriteByteTimeout: time.Minute,
	}
}

// conns bounds how many connections there are, altogether and from one address. When there are too many, it closes one
// whose client has not authenticated, so that authenticated clients keep theirs: of the same address where that has too
// many, else of the address that has most. A client at another address thus always gets in. Among the connections of
// one address, those that were never answered go first: they have not cost a handshake, and a client that speaks at
// once is answered before it is their turn. How many answered ones of an address are closed in a second is bounded;
// beyond that, and when all are authenticated, the new connection is closed.
type conns struct {
	net.Listener
	all, ofOne int
	shared     proxies // from whose addresses the clients of all come
	closed     prometheus.Counter

	mu        sync.Mutex
	strangers []*conn // not authenticated; the oldest first
	count     int
	byAddress map[netip.Addr]*origins
}

// origins is what is counted of one address. It is guarded by conns.mu, and forgotten with the last connection.
type origins struct {
	count     int
	allowance float64   // answered connections that may be closed for new ones now
	allowed   time.Time // when allowance was last computed
}

// conn is a connection that is counted.
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

// crowded reports whether an address has as many connections as one may have. A trusted proxy has those of many
// clients. mu is held.
func (l *conns) crowded(address netip.Addr) bool {
	o := l.byAddress[address]
	return o != nil && o.count >= l.ofOne && !l.shared.trusts(address)
}

// mostCrowded returns the address that has most of the connections that may be closed; address where none has more than
// that. It needs mu.
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

// toDisplace returns the connection of an address that makes room for a new one from another or the same; nil: none
// may. It needs mu.
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

// mayDisplace bounds how often answered connections of an address make room for others of it: each costs a handshake,
// and a client that opens connections without end must not take all of the processor.
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

// forget counts a connection out. It needs mu.
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

// Write implements net.Conn. It notes that the client gets an answer, a handshake's included.
func (c *conn) Write(b []byte) (int, error) {
	c.answered.Store(true)
	return c.Conn.Write(b)
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
