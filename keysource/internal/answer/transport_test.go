package answer_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/keysource/internal/answer"
)

const limit = 1 << 10

// host is a server that answers the requests of a connection with the given texts, one after the other, and then ends
// the connection. An empty text is no answer: the connection stays. Parts of a text with a NUL between them are sent at
// once, each as a record of TLS.
type host struct {
	address string
	roots   *x509.CertPool
	dialled atomic.Int32
	hidden  bool            // the connections are none of the system's, as behind a tunnel
	dialing *sync.WaitGroup // if set: whoever connects waits for it, after having been counted by Done
}

func newHost(t *testing.T, texts ...string) *host {
	t.Helper()
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	t.Cleanup(certificate.Close)
	h := &host{roots: x509.NewCertPool()}
	h.roots.AddCert(certificate.Certificate())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		listener.Close()
		ended.Wait()
	})
	ended.Go(func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return // of Close
			}
			ended.Go(func() {
				together := &collector{Conn: raw}
				conn := tls.Server(together, certificate.TLS)
				defer conn.Close()
				r := bufio.NewReader(conn)
				for _, text := range texts {
					req, err := http.ReadRequest(r)
					if err == nil {
						_, err = io.Copy(io.Discard, req.Body)
					}
					if err != nil {
						return // the client has left
					}
					if text == "" {
						<-ctx.Done()
						return
					}
					together.collects = true
					for record := range strings.SplitSeq(text, "\x00") {
						_, _ = io.WriteString(conn, record)
					}
					together.send() // to whoever is still there
				}
			})
		}
	})
	return h
}

// collector is a connection that can collect what is written, and send it at once.
type collector struct {
	net.Conn
	collects bool
	written  []byte
}

func (c *collector) Write(b []byte) (int, error) {
	if !c.collects {
		return c.Conn.Write(b)
	}
	c.written = append(c.written, b...)
	return len(b), nil
}

func (c *collector) send() {
	_, _ = c.Conn.Write(c.written)
	c.collects, c.written = false, nil
}

func (h *host) client(t *testing.T) *http.Client {
	t.Helper()
	client := answer.Client(h.roots, func(ctx context.Context, network, address string) (net.Conn, error) {
		h.dialled.Add(1)
		if h.dialing != nil {
			h.dialing.Done()
			h.dialing.Wait()
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if h.hidden && err == nil {
			conn = struct{ net.Conn }{conn}
		}
		return conn, err
	}, limit)
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// ask sends a request with a content, and returns that of the answer.
func (h *host) ask(ctx context.Context, client *http.Client) (string, error) {
	content := strings.NewReader("secret")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+h.address+"/v1", content)
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	return fmt.Sprintf("%d %s", res.StatusCode, raw), err
}

func good(content string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(content), content)
}

// TestAnswersOfHosts reads what a host may answer, and what it may not.
func TestAnswersOfHosts(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	long := strings.Repeat("x", limit+2)
	for name, c := range map[string]struct {
		answer string
		want   string // empty: a failure
	}{
		"good":           {good("yes"), "200 yes"},
		"chunks":         {chunked + "2\r\nye\r\n1\r\ns\r\n0\r\n\r\n", "200 yes"},
		"until the end":  {"HTTP/1.0 200 OK\r\n\r\nyes", "200 yes"},
		"no content":     {"HTTP/1.1 204 No Content\r\n\r\n", "204 "},
		"redirect":       {"HTTP/1.1 307 No\r\nLocation: https://x.example/\r\nContent-Length: 0\r\n\r\n", "307 "},
		"interim":        {"HTTP/1.1 103 Early Hints\r\n\r\n" + good("yes"), "200 yes"},
		"as long as may": {good(long[:limit]), "200 " + long[:limit]},
		"too long":       {good(long), "200 " + long[:limit+1]},
		"without an end": {strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 6) + good("yes"), ""},
		"upgrade":        {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", ""},
		"truncated":      {good("yes")[:len(good("yes"))-1], ""},
		"half a chunk":   {chunked + "9\r\nyes", ""},
		"long header":    {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 8<<10) + "\r\nContent-Length: 0\r\n\r\n", ""},
		"another":        {"220 mail.example ESMTP\r\n", ""},
		"nothing":        {"\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, c.answer)
			got, err := h.ask(t.Context(), h.client(t))
			if c.want != "" && (err != nil || got != c.want) || c.want == "" && err == nil {
				t.Errorf("got %.50q, %v, want %.50q", got, err, c.want)
			}
		})
	}
}

// TestConnections counts the connections of some requests, one after the other.
func TestConnections(t *testing.T) {
	yes := good("yes")
	for name, c := range map[string]struct {
		answers []string // of each connection
		hidden  bool
		want    int32 // connections for four requests
	}{
		"kept":                 {[]string{yes, yes, yes, yes}, false, 1},
		"ended while idle":     {[]string{yes, yes}, false, 2},
		"ended, and not told":  {[]string{yes, yes}, true, 2},
		"closed by its answer": {[]string{strings.Replace(yes, "\r\n", "\r\nConnection: close\r\n", 1), yes}, false, 4},
		"more than was asked":  {[]string{yes + "HTTP", yes}, false, 4},
		"more in a record":     {[]string{yes + "\x00" + good("stale"), yes}, false, 4},
		"too long":             {[]string{good(strings.Repeat("x", limit+1)), yes}, false, 4},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, c.answers...)
			h.hidden = c.hidden
			client := h.client(t)
			for i := range 4 {
				got, err := h.ask(t.Context(), client)
				if err != nil || !strings.HasPrefix(got, "200 ") || got == "200 stale" {
					t.Fatalf("request %d: %.20q, %v", i, got, err)
				}
			}
			if n := h.dialled.Load(); n != c.want {
				t.Errorf("%d connections, want %d", n, c.want)
			}
		})
	}
}

// TestOnce holds that a request that was marked is not made again when a connection that was used before ends without
// an answer to it, as others are.
func TestOnce(t *testing.T) {
	for _, once := range []bool{false, true} {
		h := newHost(t, good("yes"), "\x00") // the second request of a connection ends it: two empty records are none
		client, ctx := h.client(t), t.Context()
		if once {
			ctx = answer.Once(ctx)
		}
		if got, err := h.ask(ctx, client); err != nil || got != "200 yes" {
			t.Fatalf("%q, %v", got, err)
		}
		if got, err := h.ask(ctx, client); (err != nil) != once {
			t.Errorf("over the connection that ends, once %t: %q, %v", once, got, err)
		}
	}
}

// TestSilentHost holds that a request without an answer takes the other connections to its host with it.
func TestSilentHost(t *testing.T) {
	h := newHost(t, good("yes"), "")
	client := h.client(t)
	h.dialing = new(sync.WaitGroup)
	h.dialing.Add(2) // so that none of the two is made over the other's connection
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if _, err := h.ask(t.Context(), client); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	h.dialing = nil
	before := h.dialled.Load()
	cause := errors.New("the caller has left")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, cause)
	defer cancel()
	if _, err := h.ask(ctx, client); !errors.Is(err, cause) {
		t.Errorf("got %v, want the cause", err)
	}
	if got, err := h.ask(t.Context(), client); err != nil || got != "200 yes" {
		t.Errorf("then: %q, %v", got, err)
	}
	if after := h.dialled.Load(); after != before+1 {
		t.Errorf("%d connections were made then, want 1", after-before)
	}
}

// TestIdleTime holds that a connection that nobody uses is closed after a minute.
func TestIdleTime(t *testing.T) {
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	defer certificate.Close()
	roots := x509.NewCertPool()
	roots.AddCert(certificate.Certificate())
	config := certificate.TLS.Clone()
	config.SessionTicketsDisabled = true // a pipe has no buffer for them
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan time.Duration, 1)
		client := answer.Client(roots, func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				conn := tls.Server(far, config)
				defer conn.Close()
				r := bufio.NewReader(conn)
				if _, err := http.ReadRequest(r); err == nil {
					_, _ = io.WriteString(conn, good(""))
				}
				start := time.Now()
				_, _ = r.ReadByte() // until the client closes
				closed <- time.Since(start)
			}()
			return near, nil
		}, limit)
		res, err := client.Get("https://example.com/")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if after := <-closed; after != time.Minute {
			t.Errorf("it was closed after %v", after)
		}
	})
}

// TestLifeTime holds that a connection that is always in use is replaced after five minutes.
func TestLifeTime(t *testing.T) {
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	defer certificate.Close()
	roots := x509.NewCertPool()
	roots.AddCert(certificate.Certificate())
	config := certificate.TLS.Clone()
	config.SessionTicketsDisabled = true // a pipe has no buffer for them
	synctest.Test(t, func(t *testing.T) {
		var dialled []time.Duration
		start := time.Now()
		client := answer.Client(roots, func(context.Context, string, string) (net.Conn, error) {
			dialled = append(dialled, time.Since(start))
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				conn := tls.Server(far, config)
				r := bufio.NewReader(conn)
				for {
					if _, err := http.ReadRequest(r); err != nil {
						return // the client has left
					}
					_, _ = io.WriteString(conn, good(""))
				}
			}()
			return near, nil
		}, limit)
		defer client.CloseIdleConnections()
		for range 20 { // until 9m30s
			res, err := client.Get("https://example.com/")
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			time.Sleep(30 * time.Second)
		}
		// The request after five minutes is the last one of its connection.
		if want := []time.Duration{0, 5*time.Minute + 30*time.Second}; !slices.Equal(dialled, want) {
			t.Errorf("connections were made after %v, want %v", dialled, want)
		}
	})
}

// TestMoreThanAreKept makes more requests at the same time than connections are kept, to a host that reads nothing
// after its answers, not even a goodbye.
func TestMoreThanAreKept(t *testing.T) {
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	defer certificate.Close()
	roots := x509.NewCertPool()
	roots.AddCert(certificate.Certificate())
	config := certificate.TLS.Clone()
	config.SessionTicketsDisabled = true // a pipe has no buffer for them
	synctest.Test(t, func(t *testing.T) {
		const many = 40
		var asked, ended sync.WaitGroup
		asked.Add(many)
		client := answer.Client(roots, func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			t.Cleanup(func() { far.Close() })
			go func() {
				conn := tls.Server(far, config)
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					asked.Done()
					asked.Wait()
					_, _ = io.WriteString(conn, good("")) // to whoever is still there
				}
			}()
			return near, nil
		}, limit)
		start := time.Now()
		for range many {
			ended.Go(func() {
				res, err := client.Get("https://example.com/")
				if err != nil {
					t.Error(err)
					return
				}
				res.Body.Close()
			})
		}
		ended.Wait()
		if took := time.Since(start); took > 0 {
			t.Errorf("it took %v of the bubble's clock", took)
		}
		client.CloseIdleConnections()
	})
}

// TestContentIsWiped holds that the content of an answer is gone when it is closed.
func TestContentIsWiped(t *testing.T) {
	h := newHost(t, good("plaintext"))
	res, err := h.client(t).Get("https://" + h.address)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if raw, err := io.ReadAll(res.Body); err != nil || strings.Trim(string(raw), "\x00") != "" {
		t.Errorf("after the end there is %q, %v", raw, err)
	}
}
