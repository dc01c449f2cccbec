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
