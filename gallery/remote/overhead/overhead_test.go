package overhead_test

import (
	"testing"

	"github.com/visage-face/visage/gallery/remote/overhead"
)

// TestRun: a small measurement ends, and its answers are those of one gallery.
func TestRun(t *testing.T) {
	r, err := overhead.Run(t.Context(), overhead.Config{Faces: 4000, Dim: 64, Partitions: 8, Queries: 100}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Queries != 100 || r.Slowest <= 0 || r.P99 < r.P50 || r.Stats.Requests < 800 || r.Stats.Invalid > 0 {
		t.Errorf("%+v", r)
	}
}
