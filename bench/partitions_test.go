package bench_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/visage-face/visage/gallery/remote/overhead"
)

// BenchmarkPartitions searches 100,000 faces in four partitions on four replicas, which listen on this machine, and
// compares all of 10,000 answers with those of one gallery.
func BenchmarkPartitions(b *testing.B) {
	for done := false; b.Loop(); done = true {
		if done {
			continue // one run is enough
		}
		r, err := overhead.Run(b.Context(), overhead.Config{},
			func() time.Duration { return processorTime(b) })
		if err != nil {
			b.Fatal(err)
		}
		note := fmt.Sprintf("%d searches, answered as by one gallery; the slowest partition %.2f ms; p50 %.2f ms; "+
			"%.2f ms of processor time each; %d hedges, %d failures", r.Queries, milliseconds(r.Slowest),
			milliseconds(r.P50), milliseconds(r.Processor), r.Stats.Hedges, r.Stats.Failures)
		atMost(b, "partitions: above the slowest of 4, p99", milliseconds(r.P99), 2, "ms", note)
	}
}
