package api_test

import (
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/visage-face/visage/api"
)

// TestGivesWay answers a request while another goroutine waits for the only processor: the answer is sent, and that
// goroutine runs before the connection's next request.
func TestGivesWay(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	h, err := api.New(api.Config{Planes: []api.Plane{plane(
		api.Route{Method: "GET", Pattern: "/t/quick", Handle: func(*api.Request) (any, error) { return "done", nil }},
	)}})
	if err != nil {
		t.Fatal(err)
	}
	var went atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		went.Store(true)
	}()
	for range 2 { // once in 61 times the scheduler runs the goroutine that yielded last
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, httptest.NewRequest("GET", "/t/quick", nil))
		if !answer.Flushed || answer.Body.String() != `"done"` {
			t.Errorf("the answer %q was not sent", answer.Body)
		}
	}
	if !went.Load() {
		t.Error("the other goroutine still waits after two requests of one connection")
	}
	<-done
}

// TestSharedConnectionIsNotFlushed checks that HTTP/2 answers are not flushed: a flush would put the end of an answer
// into a frame of its own, and each request has a goroutine of its own.
func TestSharedConnectionIsNotFlushed(t *testing.T) {
	h, err := api.New(api.Config{Planes: []api.Plane{plane(
		api.Route{Method: "GET", Pattern: "/t/quick", Handle: func(*api.Request) (any, error) { return "done", nil }},
	)}})
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest("GET", "/t/quick", nil)
	req.Proto, req.ProtoMajor, req.ProtoMinor = "HTTP/2.0", 2, 0
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, req)
	if answer.Flushed || answer.Body.String() != `"done"` {
		t.Errorf("flushed %v, answer %q", answer.Flushed, answer.Body)
	}
}
