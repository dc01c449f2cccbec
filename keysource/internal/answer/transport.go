package answer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

// transport makes requests in the goroutine of the caller, one at a time over a connection. That of net/http has two
// goroutines for each connection, to which every request is handed over, mostly to another thread: at the pace of polls
// that is a good part of what a request costs.
type transport struct {
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	config *tls.Config
	limit  int64 // bytes of the header of an answer, and of its content

	mu   sync.Mutex
	idle map[string][]*conn // by HOST:PORT; the one that was used last is at the end
}

// conn is a connection to a host, with nothing under way while it is idle.
type conn struct {
	*tls.Conn
	reader   *bufio.Reader
	received io.LimitedReader // what reader reads
	made     time.Time
	expiry   *time.Timer // runs while the connection is idle, and closes it
}

// drop closes a connection, of which nothing is under way or the rest is of no use. TLS would say goodbye to a host
// that may take nothing any more, and wait for that: an answer over HTTP ends by itself.
func (c *conn) drop() { _ = c.NetConn().Close() }

type onceKey struct{}

// Once marks the requests of a context as such that may have another answer when they are made twice: they fail when a
// connection that was used before ends without an answer. All others are then made again over the next connection.
func Once(ctx context.Context) context.Context { return context.WithValue(ctx, onceKey{}, true) }

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	var wire bytes.Buffer
	wire.Grow(4 << 10) // an assertion has some 1,000 bytes
	err := req.Write(&wire)
	defer func() { clear(wire.Bytes()) }()
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	if req.URL.Scheme != "https" {
		return nil, fmt.Errorf("%s is not https", req.URL.Scheme)
	}
	ctx, address := req.Context(), req.URL.Host
	if req.URL.Port() == "" {
		address = net.JoinHostPort(req.URL.Hostname(), "443")
	}
	for c := t.kept(address); ; c = nil {
		reused := c != nil
		if !reused {
			if c, err = t.connect(ctx, address); err != nil {
				return nil, causeOr(ctx, err)
			}
		}
		res, silent, err := c.exchange(ctx, req, wire.Bytes(), t.limit)
		switch {
		case err == nil && res.Close:
			c.drop() // it has no more to say
			return res, nil
		case err == nil:
			t.keep(address, c)
			return res, nil
		}
		c.drop() // it is in the middle of something
		if ctx.Err() != nil {
			if silent { // whatever has swallowed this connection may have swallowed the others
				t.forget(address)
			}
			return nil, context.Cause(ctx)
		}
		// A connection that has ended while it was idle is no failure. But it may also have ended when the host had
		// received the request, so that this one may be the second.
		if !silent || !reused || ctx.Value(onceKey{}) != nil {
			return nil, err
		}
	}
}

// CloseIdleConnections implements what http.Client.CloseIdleConnections asks for.
func (t *transport) CloseIdleConnections() {
	t.mu.Lock()
	addresses := make([]string, 0, len(t.idle))
	for address := range t.idle {
		addresses = append(addresses, address)
	}
	t.mu.Unlock()
	for _, address := range addresses {
		t.forget(address)
	}
}

// connect connects to a host, and makes sure that it is the one.
func (t *transport) connect(ctx context.Context, address string) (*conn, error) {
	raw, err := t.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	config := t.config.Clone()
	if config.ServerName, _, err = net.SplitHostPort(address); err != nil {
		_ = raw.Close() // nothing was sent
		return nil, err
	}
	c := &conn{Conn: tls.Client(raw, config), made: time.Now()}
	ctx, cancel := context.WithTimeoutCause(ctx, handshakeTime, errHandshake)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // as above
		return nil, causeOr(ctx, err)
	}
	c.received.R = c.Conn
	c.reader = bufio.NewReader(&c.received)
	return c, nil
}

var errHandshake = fmt.Errorf("no handshake of TLS within %v", handshakeTime)

// causeOr returns why a context has ended or, if it has not, an error.
func causeOr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// kept takes the connection to a host that was used last; nil: there is none.
func (t *transport) kept(address string) *conn {
	for {
		t.mu.Lock()
		all := t.idle[address]
		if len(all) == 0 {
			t.mu.Unlock()
			return nil
		}
		c := all[len(all)-1]
		all[len(all)-1] = nil
		t.idle[address] = all[:len(all)-1]
		t.mu.Unlock()
		if c.expiry.Stop() && c.quiet() {
			return c
		}
		c.drop()
	}
}

// keep keeps a connection for the next request, unless it is old.
func (t *transport) keep(address string, c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.idle[address]
	if len(all) == idle || time.Since(c.made) >= lifeTime {
		c.drop()
		return
	}
	t.idle[address] = append(all, c)
	if c.expiry == nil {
		c.expiry = time.AfterFunc(idleTime, func() { t.expire(address, c) })
	} else {
		c.expiry.Reset(idleTime)
	}
}

// expire closes a connection that was idle for too long.
func (t *transport) expire(address string, c *conn) {
	t.mu.Lock()
	all := t.idle[address]
	for i, other := range all {
		if other == c {
			t.idle[address] = append(all[:i:i], all[i+1:]...)
			if len(all) == 1 {
				delete(t.idle, address)
			}
			break
		}
	}
	t.mu.Unlock()
	c.drop() // or whoever takes it at this moment finds that its time is over
}

// forget closes the idle connections to a host.
func (t *transport) forget(address string) {
	t.mu.Lock()
	all := t.idle[address]
	delete(t.idle, address)
	t.mu.Unlock()
	for _, c := range all {
		c.expiry.Stop()
		c.drop()
	}
}

// quiet reports whether an idle connection may still be used: its other end has not closed it, and has sent nothing
// that nobody asked for. Such bytes may wait in the system, or in TLS, which reads ahead.
func (c *conn) quiet() bool { return c.quietSystem() && c.quietTLS() }

// quietSystem is quiet for what waits in the system. A connection whose system does not tell is taken for quiet.
func (c *conn) quietSystem() bool {
	under, ok := c.NetConn().(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := under.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err == nil && quiet
}

// quietTLS is quiet for what waits in TLS, which a read returns although its deadline is over. A deadline that was
// exceeded by a read does not spoil a connection of TLS; by a write, to which an update of keys may lead, it does, and
// the next request finds that. Nothing here waits.
func (c *conn) quietTLS() bool {
	if c.SetDeadline(time.Unix(1, 0)) != nil {
		return false
	}
	var one [1]byte
	n, err := c.Read(one[:])
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && c.SetDeadline(time.Time{}) == nil
}

// maxInterim is how many answers of the classes before the final one are read (RFC 9110 §15.2).
const maxInterim = 5

// exchange sends a request and reads the answer to it. Its field Close reports whether the connection can be used no
// more. silent reports, of a failure, whether nothing has come.
func (c *conn) exchange(
	ctx context.Context, req *http.Request, wire []byte, limit int64,
) (res *http.Response, silent bool, err error) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) }) // which ends what is under way
	defer func() {
		if !stop() && err == nil { // the answer is whole, and the connection is not what it was
			res.Close = true
		}
	}()
	if _, err := c.Write(wire); err != nil {
		return nil, true, err
	}
	c.received.N = limit
	if _, err := c.reader.Peek(1); err != nil {
		return nil, true, err
	}
	for interim := 0; ; interim++ {
		if res, err = http.ReadResponse(c.reader, req); err != nil {
			return nil, false, err
		}
		if res.StatusCode >= http.StatusOK {
			break
		}
		if res.StatusCode == http.StatusSwitchingProtocols || interim == maxInterim {
			return nil, false, fmt.Errorf("the answer begins with status %d", res.StatusCode)
		}
	}
	c.received.N = 2*limit + 1 // chunks have a form around them
	raw, err := readContent(res, limit)
	if err != nil || int64(len(raw)) > limit || c.reader.Buffered() > 0 {
		res.Close = true
	}
	res.Body = &content{bytes.NewReader(raw), raw, err}
	return res, false, nil
}

// readContent reads the content of an answer, up to one byte more than the limit.
func readContent(res *http.Response, limit int64) ([]byte, error) {
	if size := res.ContentLength; size >= 0 && size <= limit {
		raw := make([]byte, size)
		n, err := io.ReadFull(res.Body, raw)
		return raw[:n], err
	}
	return io.ReadAll(io.LimitReader(res.Body, limit+1))
}

// content is the content of an answer, and why there is no more of it. Closing wipes it.
type content struct {
	*bytes.Reader
	raw []byte
	err error
}

// Read implements io.Reader.
func (c *content) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	if err == io.EOF && c.err != nil {
		err = c.err
	}
	return n, err
}

// WriteTo hides that of the reader, which knows nothing of the error.
func (c *content) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{c}) }

// Close implements io.Closer.
func (c *content) Close() error { clear(c.raw); return nil }
