package bench_test

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/viterin/vek/vek32"

	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/gallery/measure"
)

// BenchmarkSearch searches a million faces in memory, four a person, with one probe and with 64 at once. Its baselines
// are plain reads, a scan of as many bytes as codes of eight bits take, and dot products of all templates in full; all
// take turns in one run.
func BenchmarkSearch(b *testing.B) {
	for _, dim := range []int{128, 192, 512} {
		b.Run(fmt.Sprint(dim), func(b *testing.B) {
			var r measure.Result
			measured := false
			for b.Loop() {
				if measured {
					continue // one run has several rounds
				}
				measured = true
				var err error
				if r, err = measure.Run(b.Context(), measure.Config{Dim: dim, Rounds: 25}); err != nil {
					b.Fatalf("measure: %v", err)
				}
			}
			name := func(what string) string { return fmt.Sprintf("search: 1M × %d, %s", dim, what) }
			note := fmt.Sprintf("%s; %.2f ms, alone %.2f ms", r.Kernel, r.Best.Median.Seconds()*1e3,
				r.Int8.Seconds()*1e3)
			atMost(b, name("one probe, by the 8-bit scan"), float64(r.Best.Median)/float64(r.Int8), 0.25, "times", note)
			note = fmt.Sprintf("%.2f ms against %.2f ms", r.Best.Median.Seconds()*1e3, r.Float32.Seconds()*1e3)
			atLeast(b, name("one probe, faster than float32"), float64(r.Float32)/float64(r.Best.Median), 10, "times",
				note)
			note = fmt.Sprintf("%.1f GB/s against %.1f GB/s", r.Best.Bandwidth()/1e9, r.ReadBandwidth/1e9)
			atLeast(b, name("bytes scanned, by plain reads"), r.Best.Bandwidth()/r.ReadBandwidth, 1, "times", note)
			note = fmt.Sprintf("%.1f GB/s", r.Near.Bandwidth()/1e9)
			told(b, name("one probe, 10 who may be the same"), r.Near.Median.Seconds()*1e3, "ms", note)
			note = fmt.Sprintf("%.2f ms; float32 takes %.1f times, the 8-bit scan %.1f times that",
				r.Any.Median.Seconds()*1e3,
				float64(r.Float32)/float64(r.Any.Median), float64(r.Int8)/float64(r.Any.Median))
			told(b, name("one probe, the 10 nearest however far"), r.Any.Median.Seconds()*1e3, "ms", note)
			if dim == 128 {
				together := func(alone measure.Search, all float64) (float64, string) {
					return float64(r.Probes) * alone.Median.Seconds() / all,
						fmt.Sprintf("%d probes in %.1f ms, one in %.2f ms", r.Probes, all*1e3,
							alone.Median.Seconds()*1e3)
				}
				times, note := together(r.Any, r.AnyAll.Seconds())
				atLeast(b, name("64 probes together, however far"), times, 8, "times", note)
				times, note = together(r.Near, r.NearAll.Seconds())
				told(b, name("64 probes together, who may be the same"), times, "times", note)
			}
		})
	}
}

// BenchmarkRecall searches a million faces for 10,000 other faces of their persons, and compares the answers with the
// dot products of all.
func BenchmarkRecall(b *testing.B) {
	const faces, perPerson, probes, together, k = 1_000_000, 4, 10_000, 50, 10
	for done := false; b.Loop(); done = true {
		if done {
			continue // one run is enough
		}
		g, err := gallery.New(templateDim)
		if err != nil {
			b.Fatalf("make a gallery: %v", err)
		}
		g.Expect(faces)
		templates := make([][]float32, faces)
		face := func(person, i int) []float32 {
			v := randomTemplate(rand.New(rand.NewPCG(uint64(person), 0)))
			blur(v, randomTemplate(rand.New(rand.NewPCG(uint64(person), uint64(i)+1))))
			return v
		}
		inParallel(faces, func(i int) {
			c := code(face(i/perPerson, i%perPerson))
			templates[i] = c.Vector()
			if err := g.Add(gallery.Entry{ID: number(i), Owner: number(i / perPerson), Order: uint64(i),
				Code: c}); err != nil {
				b.Errorf("add a face: %v", err)
			}
		})
		var first, tenth atomic.Int64
		inParallel(probes/together, func(batch int) {
			wanted, probe := make([][]float32, together), make([]gallery.Code, together)
			for i := range wanted {
				probe[i] = code(face((batch*together+i)*(faces/perPerson/probes), perPerson))
				wanted[i] = probe[i].Vector()
			}
			got, err := g.Search(b.Context(), gallery.Query{Probes: probe, K: k})
			if err != nil {
				b.Errorf("search: %v", err)
				return
			}
			for i, want := range nearest(wanted, templates, k) {
				if agrees(got[i][:1], want[:1], wanted[i], templates) {
					first.Add(1)
				}
				if agrees(got[i], want, wanted[i], templates) {
					tenth.Add(1)
				}
			}
		})
		g.Close()
		note := fmt.Sprintf("%d probes among %d faces, %d a person", probes, faces, perPerson)
		atLeast(b, "search: recall@1", float64(first.Load())/probes, 1, "of 1", note)
		atLeast(b, "search: recall@10", float64(tenth.Load())/probes, 1, "of 1", note)
	}
}

// number makes an id from a number.
func number(i int) (id gallery.ID) {
	binary.BigEndian.PutUint64(id[:], uint64(i)+1)
	return id
}

// inParallel calls f for every i below n, on all processors.
func inParallel(n int, f func(i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	all.Wait()
}

// nearest returns for each probe the nearest templates, by comparing all.
func nearest(probes, templates [][]float32, k int) [][]int {
	type scored struct {
		i     int
		score float32
	}
	best := make([][]scored, len(probes))
	for i, t := range templates {
		for p, probe := range probes {
			score := vek32.Dot(probe, t)
			if kept := best[p]; len(kept) < k || score > kept[k-1].score {
				at, _ := slices.BinarySearchFunc(kept, score,
					func(s scored, score float32) int { return cmp.Compare(score, s.score) })
				kept = slices.Insert(kept, at, scored{i, score})
				best[p] = kept[:min(len(kept), k)]
			}
		}
	}
	all := make([][]int, len(probes))
	for p, kept := range best {
		for _, s := range kept {
			all[p] = append(all[p], s.i)
		}
	}
	return all
}

// agrees reports whether two lists name the same templates, or others that are as near within the rounding of float32.
func agrees(got []gallery.Match, want []int, probe []float32, templates [][]float32) bool {
	if len(got) != len(want) {
		return false
	}
	for i, w := range want {
		if got[i].ID != number(w) && abs(got[i].Distance-(1-vek32.Dot(probe, templates[w]))) > 1e-6 {
			return false
		}
	}
	return true
}

func abs(x float32) float32 { return max(x, -x) }
