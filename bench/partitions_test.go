package bench_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/visage-face/visage/gallery/remote/overhead"
)

// BenchmarkPartitions searches 100,000 faces in four partitions on four replicas, which listen on this machine, and
// compares all of 10,000 answers with those of one gallery. Then it searches 2,000,000 and compares processor times,
// for how much of what four machines have goes into searching.
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
		large, err := overhead.Run(b.Context(), overhead.Config{Faces: 2_000_000, Queries: 500},
			func() time.Duration { return processorTime(b) })
		if err != nil {
			b.Fatal(err)
		}
		atLeast(b, "partitions: 4 replicas against 4 times one", float64(large.Alone)/float64(large.Processor), 0.8,
			"times", fmt.Sprintf("2,000,000 faces: %.2f ms of processor time for a search on all 4, callers and TLS "+
				"included, %.2f ms in one gallery", milliseconds(large.Processor), milliseconds(large.Alone)))
		atMost(b, "partitions: above the slowest of 4, p99", milliseconds(r.P99), 2, "ms", note)
	}
}
