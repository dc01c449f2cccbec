package server_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/metrics"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// TestMetricsAreKept sends requests of two planes, stops the server and reads what it has kept: the requests of the
// Face API count for the resource, all for the instance.
func TestMetricsAreKept(t *testing.T) {
	cfg := server.Config{Dir: filepath.Join(t.TempDir(), "visage")}
	begin := time.Now()
	s := servertest.Start(t, cfg)
	send := func(path, header, value string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(header, value)
		res, err := s.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	send("/face/v1.2/facelists", "Ocp-Apim-Subscription-Key", s.Key)
	send("/face/v1.2/facelists/nothing", "Ocp-Apim-Subscription-Key", s.Key)
	send("/face/v1.2/facelists", "Ocp-Apim-Subscription-Key", strings.Repeat("0", 32))
	send("/subscriptions/"+s.Operator().SubscriptionID+"/resourcegroups?api-version=2021-04-01", "Authorization",
		"Bearer "+s.Token(t, "https://management.azure.com"))
	id, err := s.ResourceID(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}

	store, err := server.OpenStore(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	kept, err := metrics.Open(t.Context(), metrics.Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	read := func(of visage.ResourceID) metrics.Point {
		series, err := kept.Read(t.Context(), of, begin, time.Now(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return series.Total
	}
	p := read(id)
	if p.Requests != 2 || p.Failed != 0 || len(p.Errors) != 1 || p.Errors[0].Code != "FaceListNotFound" || p.P99 == 0 {
		t.Errorf("figures of the resource: %+v", p)
	}
	p = read(visage.ResourceID{})
	if p.Requests < 5 || len(p.Errors) != 2 || p.DiskTotal == 0 || p.DiskUsed > p.DiskTotal {
		t.Errorf("figures of the instance: %+v", p)
	}
}
