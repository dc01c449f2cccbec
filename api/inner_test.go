package api_test

import (
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
)

// TestInnerSharesNothing has other clients use up a Handler's limits while the Handler for the process itself
// continues.
func TestInnerSharesNothing(t *testing.T) {
	hold, begun := make(chan struct{}), make(chan struct{}, 1)
	cfg := api.Config{
		BodyBytes: 8, Rate: func(visage.Resource) (float64, int) { return 0.001, 1 },
		Planes: []api.Plane{plane(
			api.Route{Method: "POST", Pattern: "/t/hold", MaxBody: 8, Handle: func(r *api.Request) (any, error) {
				begun <- struct{}{}
				<-hold
				return nil, nil
			}},
			api.Route{Method: "POST", Pattern: "/t/inner", Allow: api.ResourceKey, MaxBody: 8,
				Handle: func(r *api.Request) (any, error) {
					_, err := r.ReadBody()
					return r.Inner(), err
				}},
		)},
	}
	outer := serve(t, cfg)
	cfg.Inner = true
	inner := serve(t, cfg)
	metrics := prometheus.NewRegistry()
	for _, c := range append(outer.h.Collectors(), inner.h.Collectors()...) {
		if err := metrics.Register(c); err != nil {
			t.Error(err)
		}
	}
	held := make(chan struct{})
	go func() {
		defer close(held)
		outer.do(t, "POST", "/t/hold", "12345678")
	}()
	<-begun
	for range 3 { // more than the rate allows
		res, body := inner.do(t, "POST", "/t/inner", "12345678", "X-Key", "right")
		if res.StatusCode != http.StatusOK || body != "true" {
			t.Errorf("inner: got %d %s, want 200 true", res.StatusCode, body)
		}
	}
	close(hold)
	<-held
	if res, body := outer.do(t, "POST", "/t/inner", "12345678", "X-Key", "right"); body != "false" {
		t.Errorf("outer: got %d %s, want 200 false", res.StatusCode, body)
	}
}
