package bench_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/visage-face/visage/gallery"
)

// codes makes codes of random directions. Each follows from its number alone, and is made faster than a gallery adds
// it.
type codes struct {
	dim     int
	normals []int16 // normally distributed numbers
}

func newCodes(dim int) codes {
	c := codes{dim: dim, normals: make([]int16, 1<<16)}
	rnd := rand.New(rand.NewPCG(2, 3))
	for i := range c.normals {
		c.normals[i] = int16(max(min(rnd.NormFloat64()*gallery.CodeMost/3, gallery.CodeMost), -gallery.CodeMost))
	}
	return c
}

// code returns code i.
func (c codes) code(i uint64) gallery.Code {
	code := make(gallery.Code, 2*c.dim)
	c.write(code, i)
	return code
}

func (c codes) write(code gallery.Code, i uint64) {
	rnd := rand.NewPCG(i, 5)
	for at := 0; at < c.dim; at += 4 {
		random := rnd.Uint64()
		for k := at; k < min(at+4, c.dim); k++ {
			binary.LittleEndian.PutUint16(code[2*k:], uint16(c.normals[random&0xffff]))
			random >>= 16
		}
	}
}

// near returns a code about as near to code i as that of another face of the same person.
func (c codes) near(i uint64) gallery.Code {
	code, other := c.code(i), c.code(1<<40+i)
	for at := 0; at < len(code); at += 2 {
		number := func(of gallery.Code) int { return int(int16(binary.LittleEndian.Uint16(of[at:]))) }
		binary.LittleEndian.PutUint16(code[at:], uint16(int16((4*number(code)+3*number(other))/7)))
	}
	return code
}

// BenchmarkTenMillion loads ten million faces of 192 numbers and searches them with one probe at a time. Some answers
// are compared with the distances of all faces.
func BenchmarkTenMillion(b *testing.B) {
	const faces, dim, probes, checked, k = 10_000_000, 192, 50, 3, 10
	const what = "search: 10M × 192"
	if room := availableBytes(b); room < 6<<30 {
		skipped(b, what, fmt.Sprintf("only %d MB of memory are free", room>>20))
	}
	for done := false; b.Loop(); done = true {
		if done {
			continue // one run is enough
		}
		made := newCodes(dim)
		g, err := gallery.New(dim)
		if err != nil {
			b.Fatalf("make a gallery: %v", err)
		}
		g.Expect(faces)
		start := time.Now()
		inParts(faces, func(from, to int) {
			code := make(gallery.Code, 2*dim)
			for i := from; i < to; i++ {
				made.write(code, uint64(i))
				err := g.Add(gallery.Entry{ID: number(i), Owner: number(i), Order: uint64(i), Code: code})
				if err != nil {
					b.Errorf("add a face: %v", err)
					return
				}
			}
		})
		loaded := time.Since(start)
		var near, far []time.Duration
		for i := range probes {
			at := i * (faces / probes)
			for _, within := range []float32{0.45, 0} {
				start := time.Now()
				got, err := g.Search(b.Context(),
					gallery.Query{Probes: []gallery.Code{made.near(uint64(at))}, K: k, Within: within})
				took := time.Since(start)
				if err != nil || len(got[0]) == 0 || got[0][0].ID != number(at) {
					b.Fatalf("probe %d: %v, %v", i, got, err)
				}
				if within == 0 {
					far = append(far, took)
				} else {
					near = append(near, took)
				}
				if i < checked && within == 0 {
					if want := nearestOfAll(b, made, made.near(uint64(at)), faces, k); !slices.Equal(got[0], want) {
						b.Fatalf("probe %d: got %v, want %v", i, got[0], want)
					}
				}
			}
		}
		note := fmt.Sprintf(
			"median of %d, %.0f B a face, added in %.1f s; p99 %.1f ms; the 10 nearest at any distance %.1f ms; %d "+
				"answers compared with all",
			len(near), float64(g.Bytes())/faces, loaded.Seconds(), milliseconds(quantile(near, 0.99)),
			milliseconds(median(far)), checked)
		atMost(b, what+", one probe", milliseconds(median(near)), 40, "ms", note)
		g.Close()
	}
}

// nearestOfAll computes the distance of a probe from every code and returns the k nearest.
func nearestOfAll(b *testing.B, made codes, probe gallery.Code, faces, k int) []gallery.Match {
	b.Helper()
	var mu sync.Mutex
	var best []gallery.Match
	inParts(faces, func(from, to int) {
		code := make(gallery.Code, len(probe))
		var mine []gallery.Match
		for i := from; i < to; i++ {
			made.write(code, uint64(i))
			d, err := gallery.Distance(probe, code)
			if err != nil {
				b.Errorf("distance: %v", err)
				return
			}
			if len(mine) == k && d >= mine[k-1].Distance {
				continue
			}
			mine = append(mine, gallery.Match{ID: number(i), Owner: number(i), Distance: d})
			sortMatches(mine)
			mine = mine[:min(len(mine), k)]
		}
		mu.Lock()
		defer mu.Unlock()
		best = append(best, mine...)
	})
	sortMatches(best)
	return best[:k]
}

// sortMatches sorts by distance, then by number.
func sortMatches(matches []gallery.Match) {
	slices.SortStableFunc(matches, func(a, b gallery.Match) int {
		switch {
		case a.Distance != b.Distance && a.Distance < b.Distance:
			return -1
		case a.Distance != b.Distance:
			return 1
		}
		return slices.Compare(a.ID[:], b.ID[:])
	})
}

// inParts calls f with each processor's part of n.
func inParts(n int, f func(from, to int)) {
	workers := runtime.GOMAXPROCS(0)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() { f(w*n/workers, (w+1)*n/workers) })
	}
	all.Wait()
}

// availableBytes returns how much memory the system has available; unlimited where the system has no such figure.
func availableBytes(b *testing.B) int64 {
	b.Helper()
	if kB, ok := kilobytes(b, "/proc/meminfo", "MemAvailable:"); ok {
		return kB * 1024
	}
	return 1 << 62
}
