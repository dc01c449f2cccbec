package api_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/visage-face/visage/api"
)

// TestWriteProblem checks that answers outside of every plane have the same headers and form as within.
func TestWriteProblem(t *testing.T) {
	w := httptest.NewRecorder()
	api.WriteProblem(w, httptest.NewRequest(http.MethodPost, "/healthz", nil), &api.Problem{
		Status: http.StatusMethodNotAllowed, Message: "Use <GET>.", Allow: "GET", RetryAfter: time.Millisecond,
	})
	if got, want := w.Body.String(), `{"error":{"code":"MethodNotAllowed","message":"Use <GET>."}}`; got != want {
		t.Errorf("answered %s, want %s", got, want)
	}
	for name, want := range map[string]string{
		"Allow": "GET", "Retry-After": "1", "Content-Type": "application/json; charset=utf-8",
		"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Content-Length": "60",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("header %s: %q, want %q", name, got, want)
		}
	}
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("status %d", w.Code)
	}
}

// TestPages checks a plane for people: answers that are not JSON, redirections, and errors as pages.
func TestPages(t *testing.T) {
	html := http.Header{"Content-Type": {"text/html"}, "Cache-Control": {"immutable"}}
	route := func(pattern string, answer any, err error) api.Route {
		return api.Route{Method: http.MethodGet, Pattern: pattern, Allow: api.Anyone, Timeout: time.Minute,
			Handle: func(*api.Request) (any, error) { return answer, err }}
	}
	h, err := api.New(api.Config{Planes: []api.Plane{{
		Name: "pages", Prefix: "/pages/",
		Page: func(h http.Header, r *http.Request, p *api.Problem) []byte {
			h.Set("Content-Type", "text/html")
			return []byte("<p>" + r.URL.Path + " " + p.Message + "</p>")
		},
		Routes: []api.Route{
			route("/pages/one", api.Reply{Status: http.StatusOK, Header: html, Raw: []byte("<p>one</p>")}, nil),
			route("/pages/two", api.Reply{Status: http.StatusSeeOther,
				Header: http.Header{"Location": {"/pages/one"}}}, nil),
			route("/pages/three", nil, &api.Problem{Status: http.StatusConflict, Message: "no"}),
		},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		path     string
		status   int
		location string
		cache    string
		body     string
	}{
		{"/pages/one", http.StatusOK, "", "immutable", "<p>one</p>"},
		{"/pages/two", http.StatusSeeOther, "/pages/one", "no-store", ""},
		{"/pages/three", http.StatusConflict, "", "no-store", "<p>/pages/three no</p>"},
		{"/pages/four", http.StatusNotFound, "", "no-store", "<p>/pages/four There is no such path.</p>"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, want.path, nil))
		if w.Code != want.status || w.Header().Get("Location") != want.location || w.Body.String() != want.body ||
			w.Header().Get("Cache-Control") != want.cache {
			t.Errorf("%s: %d %v %s", want.path, w.Code, w.Header(), w.Body)
		}
	}
}
