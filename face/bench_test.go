package face_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/visage-face/visage/face"
)

// BenchmarkIdentify measures Identify over ten thousand persons with one face each, without the analysis of the photo.
func BenchmarkIdentify(b *testing.B) {
	r := newService(b)
	group := r.create(b, face.LargePersonGroup, "g")
	for i := range 10_000 {
		r.enrol(b, group, "n", fmt.Sprintf("p%d", i))
	}
	mustDo(b, r.Train(b.Context(), r.res, group))
	begin := time.Now()
	r.TrainNow(b.Context(), r.res)
	b.Logf("training took %v", time.Since(begin))
	q := face.IdentifyQuery{FaceIDs: r.detect(b, "p17"), LargePersonGroupID: "g", MaxCandidates: 10}
	var took []time.Duration
	for b.Loop() {
		begin := time.Now()
		got, err := r.Identify(b.Context(), r.res, q)
		if err != nil || len(got[0].Candidates) == 0 {
			b.Fatal(got, err)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
