package api_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"net/http/httptest"

	"github.com/visage-face/visage/api"
)

// dialServer opens a connection of its own to a test server.
func dialServer(t *testing.T, s *httptest.Server) *tls.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", s.Listener.Addr().String(),
		&tls.Config{RootCAs: pool(s), ServerName: "example.com", NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestSlowBodies(t *testing.T) {
	s := serve(t, api.Config{BodyTimeout: 30 * time.Millisecond, Planes: []api.Plane{plane(
		api.Route{Method: "POST", Pattern: "/t/read", MaxBody: 100, Handle: func(r *api.Request) (any, error) {
			b, err := r.ReadBody()
			return string(b), err
		}},
		api.Route{Method: "POST", Pattern: "/t/ignore",
			Handle: func(*api.Request) (any, error) { return "ignored", nil }},
	)}})
	for _, row := range []struct {
		name, head string
		status     int
	}{
		{"stalls in a body of known length", "POST /t/read HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", 408},
		{
			"stalls in a chunked body",
			"POST /t/read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 408,
		},
		{"stalls before the body", "POST /t/read HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", 408},
		{"stalls in an unread body", "POST /t/ignore HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", 200},
		{"stalls in a body of no route", "POST /t/none HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", 404},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			conn := dialServer(t, s.Server)
			if _, err := io.WriteString(conn, row.head); err != nil {
				t.Fatal(err)
			}
			in := bufio.NewReader(conn)
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != row.status {
				t.Errorf("got %d, want %d", res.StatusCode, row.status)
			}
			// The read below ends only when the server closes the connection.
			if _, err := io.ReadAll(res.Body); err != nil {
				t.Fatal(err)
			}
			if _, err := in.ReadByte(); err == nil {
				t.Error("the connection stays open after half a request")
			}
		})
	}
}

func TestBodyTimeoutDoesNotCountTheWork(t *testing.T) {
	work := make(chan struct{})
	s := serve(t, api.Config{BodyTimeout: 20 * time.Millisecond, Planes: []api.Plane{plane(
		api.Route{Method: "POST", Pattern: "/t/read", MaxBody: 100, Handle: func(r *api.Request) (any, error) {
			if _, err := r.ReadBody(); err != nil {
				return nil, err
			}
			timer := time.AfterFunc(100*time.Millisecond, func() { close(work) })
			defer timer.Stop()
			select {
			case <-work:
				return "done", nil
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		}},
	)}})
	res, body := s.do(t, "POST", "/t/read", "abc")
	if res.StatusCode != http.StatusOK {
		t.Errorf("got %d %s, want 200: the body's deadline ended the work", res.StatusCode, body)
	}
}

// lines hands each log line to a channel.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func TestClientThatDoesNotRead(t *testing.T) {
	log := make(lines, 16)
	h, err := api.New(api.Config{
		WriteTimeout: 30 * time.Millisecond, Logger: slog.New(slog.NewJSONHandler(log, nil)),
		Planes: []api.Plane{plane(
			api.Route{Method: "GET", Pattern: "/t/long",
				Handle: func(*api.Request) (any, error) { return strings.Repeat("x", 64<<20), nil }},
		)},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h) // without TLS, whose closing waits for the client again
	defer s.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /t/long HTTP/1.1\r\nHost: x\r\n\r\n")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case line := <-log:
		if !strings.Contains(line, "write_err") {
			t.Errorf("got %s, want a line with write_err", line)
		}
	case <-ctx.Done():
		t.Error("the answer is still being written")
	}
}

func TestClientThatLeaves(t *testing.T) {
	log := make(lines, 16)
	begun := make(chan struct{})
	h, err := api.New(api.Config{
		Logger: slog.New(slog.NewJSONHandler(log, nil)),
		Planes: []api.Plane{plane(
			api.Route{Method: "GET", Pattern: "/t/wait", Handle: func(r *api.Request) (any, error) {
				close(begun)
				<-r.Context().Done()
				return nil, fmt.Errorf("wait: %w", r.Context().Err())
			}},
		)},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewTLSServer(h)
	defer s.Close()
	conn := dialServer(t, s)
	fmt.Fprint(conn, "GET /t/wait HTTP/1.1\r\nHost: x\r\n\r\n")
	<-begun
	conn.Close()
	if line := <-log; !strings.Contains(line, `"status":499`) {
		t.Errorf("got %s, want the request's line with status 499", line)
	}
}

// TestLifeOverHTTP2 repeats the tests that depend on reading connections over HTTP/2.
func TestLifeOverHTTP2(t *testing.T) {
	h, err := api.New(api.Config{BodyTimeout: 30 * time.Millisecond, Planes: []api.Plane{plane(
		api.Route{Method: "POST", Pattern: "/t/read", MaxBody: 8, Handle: func(r *api.Request) (any, error) {
			b, err := r.ReadBody()
			return string(b), err
		}},
		api.Route{Method: "POST", Pattern: "/t/ignore",
			Handle: func(*api.Request) (any, error) { return "ignored", nil }},
	)}})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	stalled, end := io.Pipe()
	defer end.Close()
	for _, row := range []struct {
		name, path string
		body       io.Reader
		status     int
	}{
		{"body fits", "/t/read", strings.NewReader("12345678"), 200},
		{"body too long", "/t/read", strings.NewReader("123456789"), 413},
		{"body too long, of unknown length", "/t/read", io.MultiReader(strings.NewReader("123456789")), 413},
		{"body not read", "/t/ignore", strings.NewReader("123456789"), 200},
		{"body stalls", "/t/read", stalled, 408},
	} {
		t.Run(row.name, func(t *testing.T) {
			res, err := s.Client().Post(s.URL+row.path, "text/plain", row.body)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.ProtoMajor != 2 || res.StatusCode != row.status {
				t.Errorf("got %s %s, want HTTP/2 and %d", res.Proto, res.Status, row.status)
			}
		})
	}
}

// TestBodiesWaitForMemory has one resource use up its share of the memory, and then all of it be used up.
func TestBodiesWaitForMemory(t *testing.T) {
	const part = 64 << 10
	begun, done := make(chan struct{}), make(chan struct{})
	read := func(r *api.Request) (any, error) {
		b, err := r.ReadBody()
		return len(b), err
	}
	hold := func(r *api.Request) (any, error) {
		n, err := read(r)
		begun <- struct{}{}
		<-done
		return n, err
	}
	route := func(pattern string, timeout time.Duration, handle func(*api.Request) (any, error)) api.Route {
		return api.Route{
			Method: "POST", Pattern: pattern, Allow: api.ResourceKey, MaxBody: part, Timeout: timeout, Handle: handle,
		}
	}
	s := serve(t, api.Config{BodyBytes: 4 * part, Keys: tiers{}, Planes: []api.Plane{plane(
		route("/t/hold", time.Minute, hold),
		route("/t/hasty", 20*time.Millisecond, read),
		route("/t/patient", time.Minute, read),
	)}})
	var waiting sync.WaitGroup
	long, short := strings.Repeat("x", part), "ab"
	post := func(path, resource, body string, want int) {
		t.Helper()
		res, _ := s.do(t, "POST", path, body, "X-Key", resource)
		if res.StatusCode != want {
			t.Errorf("%s of %s: got %d, want %d", path, resource, res.StatusCode, want)
		}
		if retry := res.Header.Get("Retry-After"); (retry == "1") != (want == http.StatusServiceUnavailable) {
			t.Errorf("%s of %s: got Retry-After %q", path, resource, retry)
		}
	}
	wait := func(path, resource string) { waiting.Go(func() { post(path, resource, long, http.StatusOK) }) }

	wait("/t/hold", "S0a")
	<-begun
	post("/t/hasty", "S0a", long, http.StatusServiceUnavailable)
	post("/t/hasty", "S0a", short, http.StatusOK)
	post("/t/hasty", "S0b", long, http.StatusOK) // other resources are not affected
	for _, resource := range []string{"S0b", "S0c", "S0d"} {
		wait("/t/hold", resource)
		<-begun
	}
	post("/t/hasty", "S0e", long, http.StatusServiceUnavailable)
	post("/t/hasty", "S0e", short, http.StatusOK)
	wait("/t/patient", "S0e")
	wait("/t/patient", "S0a")
	close(done)
	waiting.Wait()
}
