package api_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
)

// keys maps each key to its resource.
type keys map[string]visage.Resource

func (k keys) Resource(_ context.Context, key, _ string) (visage.Resource, visage.Principal, error) {
	if r, ok := k[key]; ok {
		return r, visage.Principal{Method: "key", KeyName: "Key1", Resource: r.ID}, nil
	}
	if key == "broken" {
		return visage.Resource{}, visage.Principal{}, errors.New("the directory is on fire")
	}
	return visage.Resource{}, visage.Principal{}, visage.Refuse(visage.Unauthenticated, "", "No resource has this key.")
}

var alice = visage.Resource{ID: visage.ResourceID{1}, Name: "alice", Tier: visage.S0}

// plane is a minimal dialect.
func plane(routes ...api.Route) api.Plane {
	for i := range routes {
		if routes[i].Timeout == 0 {
			routes[i].Timeout = time.Minute
		}
		if routes[i].Allow == 0 {
			routes[i].Allow = api.Anyone
		}
	}
	return api.Plane{
		Name: "test", Prefix: "/t/", Routes: routes, KeyHeader: "X-Key",
		Greet: func(h http.Header, _ *http.Request, id string) { h.Set("X-Request", id) },
		Problem: func(_ http.Header, p *api.Problem) any {
			return map[string]any{"status": p.Status, "code": p.Code, "message": p.Message, "id": p.RequestID}
		},
	}
}

type server struct {
	*httptest.Server
	log *bytes.Buffer
	h   *api.Handler
}

func serve(t *testing.T, cfg api.Config) *server {
	t.Helper()
	s := &server{log: &bytes.Buffer{}}
	cfg.Logger = slog.New(slog.NewJSONHandler(s.log, nil))
	if cfg.Keys == nil {
		cfg.Keys = keys{"right": alice}
	}
	h, err := api.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.h = h
	s.Server = httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	return s
}

func (s *server) do(t *testing.T, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := *s.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(data)
}

func TestRouting(t *testing.T) {
	say := func(what string) func(*api.Request) (any, error) {
		return func(r *api.Request) (any, error) { return what, nil }
	}
	s := serve(t, api.Config{Planes: []api.Plane{plane(
		api.Route{Method: "GET", Pattern: "/t/lists/{id}",
			Handle: func(r *api.Request) (any, error) { return r.Path("id"), nil }},
		api.Route{Method: "POST", Pattern: "/t/lists/{id}/train", Handle: say("train")},
		api.Route{Method: "GET", Pattern: "/t/lists/all", Handle: say("all")},
		api.Route{Method: "PUT", Pattern: "/t/Camel", Handle: say("camel")},
	)}})
	for _, row := range []struct {
		name, method, path string
		status             int
		body               string
	}{
		{"plain", "GET", "/t/lists/x", 200, `"x"`},
		{"ids keep their case", "GET", "/t/LISTS/AbC", 200, `"AbC"`},
		{"repeated slashes mean one", "POST", "//t///lists/x//train", 200, `"train"`},
		{"a slash at the end is ignored", "GET", "/t/lists/x/", 200, `"x"`},
		{"literals in any case", "PUT", "/T/cAMEL", 200, `"camel"`},
		{"a literal wins", "GET", "/t/lists/All", 200, `"all"`},
		{"escaped slash stays in its segment", "GET", "/t/lists/a%2Fb", 200, `"a/b"`},
		{"dots are not followed", "GET", "/t/lists/..", 200, `".."`},
		{"unknown", "GET", "/t/nothing", 404, `"status":404`},
		{"prefix alone", "GET", "/t", 404, `"status":404`},
		{"longer than any", "GET", "/t/lists/x/train/y", 404, `"status":404`},
		{"no plane", "GET", "/other", 404, ``},
		{"wrong method", "DELETE", "/t/lists/x", 405, `"status":405`},
		{"many segments", "GET", "//t" + strings.Repeat("/a", 1000), 404, `"status":404`},
	} {
		t.Run(row.name, func(t *testing.T) {
			res, body := s.do(t, row.method, row.path, "")
			if res.StatusCode != row.status || !strings.Contains(body, row.body) {
				t.Errorf("%s %s: got %d %s, want %d %s", row.method, row.path, res.StatusCode, body, row.status,
					row.body)
			}
		})
	}
	res, _ := s.do(t, "DELETE", "/t/lists/all", "")
	if got := res.Header.Get("Allow"); got != "GET" {
		t.Errorf("Allow: got %q, want GET", got)
	}
}

func TestRequestLife(t *testing.T) {
	refuse := func(kind visage.Kind) func(*api.Request) (any, error) {
		return func(*api.Request) (any, error) { return nil, visage.Refuse(kind, "Code", "Words.") }
	}
	s := serve(t, api.Config{Origin: origin(t, "https://faces.example"), Planes: []api.Plane{plane(
		api.Route{Method: "POST", Pattern: "/t/panic", Handle: func(*api.Request) (any, error) { panic("a secret") }},
		api.Route{Method: "POST", Pattern: "/t/error",
			Handle: func(*api.Request) (any, error) { return nil, errors.New("a secret") }},
		api.Route{Method: "POST", Pattern: "/t/empty", Handle: func(*api.Request) (any, error) { return nil, nil }},
		api.Route{Method: "POST", Pattern: "/t/unwritable",
			Handle: func(*api.Request) (any, error) { return func() {}, nil }},
		api.Route{Method: "POST", Pattern: "/t/reply", Handle: func(r *api.Request) (any, error) {
			return api.Reply{Status: 202, Header: http.Header{"Operation-Location": {r.Address("/t/x")}}}, nil
		}},
		api.Route{Method: "POST", Pattern: "/t/slow", Timeout: time.Nanosecond,
			Handle: func(r *api.Request) (any, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}},
		api.Route{Method: "POST", Pattern: "/t/revoked", Handle: refuse(visage.KeyRevoked)},
		api.Route{Method: "POST", Pattern: "/t/later", Handle: func(*api.Request) (any, error) {
			r := visage.Refuse(visage.Unavailable, "Later", "Later.")
			r.RetryAfter = 1200 * time.Millisecond
			return nil, r
		}},
		api.Route{Method: "POST", Pattern: "/t/body", MaxBody: 8, Handle: func(r *api.Request) (any, error) {
			b, err := r.ReadBody()
			return string(b), err
		}},
	)}})
	for _, row := range []struct {
		name, path, body string
		status           int
		want             string
	}{
		{"panic", "/t/panic", "", 500, `"status":500`},
		{"error", "/t/error", "", 500, `"status":500`},
		{"unwritable", "/t/unwritable", "", 500, `"status":500`},
		{"empty", "/t/empty", "", 200, ""},
		{"reply", "/t/reply", "", 202, ""},
		{"time over", "/t/slow", "", 503, `"status":503`},
		{"revoked", "/t/revoked", "", 403, `"code":"Code"`},
		{"retry later", "/t/later", "", 503, `"code":"Later"`},
		{"body fits", "/t/body", "12345678", 200, `"12345678"`},
		{"body too long", "/t/body", "123456789", 413, `"status":413`},
	} {
		t.Run(row.name, func(t *testing.T) {
			res, body := s.do(t, "POST", row.path, row.body)
			if res.StatusCode != row.status || !strings.Contains(body, row.want) {
				t.Errorf("got %d %s, want %d with %s", res.StatusCode, body, row.status, row.want)
			}
			if strings.Contains(body, "secret") {
				t.Errorf("the answer contains text of the log: %s", body)
			}
			if id := res.Header.Get("X-Request"); len(id) != 36 {
				t.Errorf("request id: got %q, want a UUID", id)
			} else if row.status >= 400 && !strings.Contains(body, id) {
				t.Errorf("the problem's request id is not the header's %s: %s", id, body)
			}
			if got := res.Header.Get("Content-Type"); (body == "") != (got == "") {
				t.Errorf("content type: got %q with body %q", got, body)
			}
			switch row.name {
			case "retry later":
				if got := res.Header.Get("Retry-After"); got != "2" {
					t.Errorf("Retry-After: got %q, want 2", got)
				}
			case "reply":
				if got := res.Header.Get("Operation-Location"); got != "https://faces.example/t/x" {
					t.Errorf("Operation-Location: got %q", got)
				}
			}
		})
	}
	lines := strings.Split(strings.TrimSpace(s.log.String()), "\n")
	var requests int
	for _, line := range lines {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		if entry["msg"] == "request" {
			requests++
		}
	}
	if requests != 10 {
		t.Errorf("log lines: got %d for 10 requests", requests)
	}
}

// pool returns a pool that trusts a test server.
func pool(s *httptest.Server) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(s.Certificate())
	return p
}

// origin reads an origin.
func origin(t testing.TB, text string) visage.Origin {
	t.Helper()
	o, err := visage.ParseOrigin(text)
	if err != nil {
		t.Fatal(err)
	}
	return o
}
