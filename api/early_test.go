package api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/api"
)

// refusing serves every kind of refusal that does not depend on the body.
func refusing(t *testing.T) *server {
	t.Helper()
	read := func(r *api.Request) (any, error) {
		b, err := r.ReadBody()
		return len(b), err
	}
	return serve(t, api.Config{Tokens: tokens{}, Planes: []api.Plane{plane(
		api.Route{Method: "POST", Pattern: "/t/read", MaxBody: 6 << 20, Handle: read},
		api.Route{Method: "POST", Pattern: "/t/key", Allow: api.ResourceKey, MaxBody: 6 << 20, Handle: read},
		api.Route{Method: "POST", Pattern: "/t/json", MaxBody: 6 << 20, Handle: func(r *api.Request) (any, error) {
			return nil, r.ReadJSON(&struct{}{})
		}},
		api.Route{Method: "POST", Pattern: "/t/none", Handle: func(*api.Request) (any, error) { return nil, nil }},
	)}})
}

// early are refusals of requests with bodies of the given length.
var early = []struct {
	name, method, path string
	bytes, status      int
}{
	{"one byte too long", "POST", "/t/read", 6<<20 + 1, 413},
	{"far too long", "POST", "/t/read", 40 << 20, 413},
	{"no key", "POST", "/t/key", 6 << 20, 401},
	{"no path", "POST", "/t/nothing", 6 << 20, 404},
	{"no plane", "POST", "/nothing", 6 << 20, 404},
	{"no method", "PUT", "/t/read", 6 << 20, 405},
	{"another type", "POST", "/t/json", 6 << 20, 415},
	{"not wanted", "POST", "/t/none", 6 << 20, 200},
}

// TestClientsThatWriteAllFirst sends the whole request before it reads the answer, as many clients do.
func TestClientsThatWriteAllFirst(t *testing.T) {
	s := refusing(t)
	for _, row := range early {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, chunked %v", row.name, chunked), func(t *testing.T) {
				conn := dialServer(t, s.Server)
				if chunked {
					fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n",
						row.method, row.path, row.bytes)
				} else {
					fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", row.method, row.path,
						row.bytes)
				}
				piece := make([]byte, 64<<10)
				for left := row.bytes; left > 0; left -= min(left, len(piece)) {
					if _, err := conn.Write(piece[:min(left, len(piece))]); err != nil {
						t.Fatalf("%d bytes before the end: %v", left, err)
					}
				}
				if chunked {
					if _, err := io.WriteString(conn, "\r\n0\r\n\r\n"); err != nil {
						t.Fatal(err)
					}
				}
				res, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadAll(res.Body); err != nil || res.StatusCode != row.status {
					t.Errorf("got %d, %v, want %d", res.StatusCode, err, row.status)
				}
			})
		}
	}
}

// TestExpectContinue sends only the head and waits for permission to send the body.
func TestExpectContinue(t *testing.T) {
	s := refusing(t)
	for _, row := range append(early, struct {
		name, method, path string
		bytes, status      int
	}{"fits", "POST", "/t/read", 5, 200}) {
		t.Run(row.name, func(t *testing.T) {
			conn := dialServer(t, s.Server)
			fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n",
				row.method, row.path, row.bytes)
			in := bufio.NewReader(conn)
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if row.status == 200 && row.path == "/t/read" {
				if res.StatusCode != 100 {
					t.Fatalf("got %d, want 100", res.StatusCode)
				}
				fmt.Fprint(conn, "abcde")
				if res, err = http.ReadResponse(in, nil); err != nil {
					t.Fatal(err)
				}
			}
			if res.StatusCode != row.status || res.Header.Get("Connection") != "close" && res.StatusCode >= 400 &&
				!res.Close {
				t.Errorf("got %d, closing %v, want %d", res.StatusCode, res.Close, row.status)
			}
		})
	}
}

// TestPythonSeesTheRefusal uses a client that treats an early answer as a broken connection.
func TestPythonSeesTheRefusal(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("python3 is not installed: apt-get install python3")
		}
		t.Skip("python3 is not installed: apt-get install python3")
	}
	s := refusing(t)
	script := `
import http.client, ssl, sys
host, rows = sys.argv[1], sys.argv[2:]
for row in rows:
    method, path, size = row.split(" ")
    c = http.client.HTTPSConnection(host, context=ssl._create_unverified_context(), timeout=60)
    c.request(method, path, bytes(int(size)))
    r = c.getresponse()
    r.read()
    print(r.status)
    c.close()
`
	args := []string{"-c", script, s.Listener.Addr().String()}
	var want []string
	for _, row := range early {
		args = append(args, fmt.Sprintf("%s %s %d", row.method, row.path, row.bytes))
		want = append(want, strconv.Itoa(row.status))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, python, args...)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if got := strings.Fields(string(out)); err != nil || strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}
