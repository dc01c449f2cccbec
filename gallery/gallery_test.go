package gallery_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/viterin/vek/vek32"

	"github.com/visage-face/visage/gallery"
)

// id makes an id from a number.
func id(n int) gallery.ID {
	var id gallery.ID
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

// code returns the code of a vector of unit length.
func code(v ...float32) gallery.Code {
	c, err := gallery.Encode(v)
	if err != nil {
		panic(err)
	}
	return c
}

// random returns a unit vector.
func random(rnd *rand.Rand, dim int) []float32 {
	v := make([]float32, dim)
	square := 0.0
	for i := range v {
		x := rnd.NormFloat64()
		v[i] = float32(x)
		square += x * x
	}
	for i := range v {
		v[i] /= float32(math.Sqrt(square))
	}
	return v
}

// exact returns a unit vector of length 16 whose products with others of its kind have no rounding in any order of
// summation. There are so few of them that ties are frequent.
func exact(rnd *rand.Rand) []float32 {
	v := make([]float32, 16)
	for i := range v {
		v[i] = 0.25
		if rnd.IntN(2) == 0 {
			v[i] = -0.25
		}
	}
	return v
}

// model is the plain implementation of a gallery.
type model []gallery.Entry

func (m model) search(code gallery.Code, k int, within float32, byOwner bool) []gallery.Match {
	return brute(m, code, k, within, byOwner)
}

func mustNew(t testing.TB, dim int) *gallery.Gallery {
	t.Helper()
	g, err := gallery.New(dim)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

func mustAdd(t testing.TB, g *gallery.Gallery, e gallery.Entry) {
	t.Helper()
	if err := g.Add(e); err != nil {
		t.Fatal(err)
	}
}

func TestSearchAgreesWithBruteForceUnderChange(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for round := range 60 {
		g := mustNew(t, 16)
		var m model
		for n := range 1 + rnd.IntN(1500) {
			e := gallery.Entry{ID: id(n), Owner: id(rnd.IntN(200)), Order: uint64(rnd.Uint32()),
				Code: code(exact(rnd)...)}
			mustAdd(t, g, e)
			m = append(m, e)
			switch rnd.IntN(12) {
			case 0:
				gone := id(rnd.IntN(n + 1))
				had := slices.ContainsFunc(m, func(e gallery.Entry) bool { return e.ID == gone })
				if g.Has(gone) != had || g.Remove(gone) != had || g.Has(gone) {
					t.Fatalf("round %d: removing %d, which the gallery had (%v), failed", round, n, had)
				}
				m = slices.DeleteFunc(m, func(e gallery.Entry) bool { return e.ID == gone })
			case 1:
				owner := id(rnd.IntN(200))
				before := len(m)
				m = slices.DeleteFunc(m, func(e gallery.Entry) bool { return e.Owner == owner })
				if got := g.RemoveOwner(owner); got != before-len(m) {
					t.Fatalf("round %d: removed %d vectors of an owner, want %d", round, got, before-len(m))
				}
			case 2:
				ids := map[gallery.ID]bool{id(rnd.IntN(n + 1)): true, id(rnd.IntN(n + 1)): true}
				owners := map[gallery.ID]bool{id(rnd.IntN(200)): true}
				before := len(m)
				m = slices.DeleteFunc(m, func(e gallery.Entry) bool { return ids[e.ID] || owners[e.Owner] })
				if got := g.RemoveAll(ids, owners); got != before-len(m) {
					t.Fatalf("round %d: removed %d vectors together, want %d", round, got, before-len(m))
				}
			}
		}
		if g.Len() != len(m) {
			t.Fatalf("round %d: %d vectors, want %d", round, g.Len(), len(m))
		}
		q := gallery.Query{
			Probes: []gallery.Code{code(exact(rnd)...), code(exact(rnd)...), code(exact(rnd)...)}, K: 1 + rnd.IntN(60),
			ByOwner: rnd.IntN(2) == 0,
			Within:  []float32{0, 0.5, 1}[rnd.IntN(3)],
		}
		got, err := g.Search(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for p, probe := range q.Probes {
			if want := m.search(probe, q.K, q.Within, q.ByOwner); !slices.Equal(got[p], want) {
				t.Fatalf("round %d, probe %d, %d vectors, k %d, within %g, by owner %v:\n got %v\nwant %v",
					round, p, len(m), q.K, q.Within, q.ByOwner, got[p], want)
			}
		}
	}
}

func TestSearchOnSeveralProcessorsAgreesWithBruteForce(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	const dim, n = 128, 80_000
	g := mustNew(t, dim)
	g.ShareFrom(8 << 20) // enough for all processors
	m := make(model, n)
	for i := range m {
		m[i] = gallery.Entry{ID: id(i), Owner: id(i / 3), Order: uint64(i), Code: code(random(rnd, dim)...)}
		mustAdd(t, g, m[i])
	}
	probes := []gallery.Code{code(random(rnd, dim)...), m[n/2].Code}
	got, err := g.Search(t.Context(), gallery.Query{Probes: probes, K: 10, ByOwner: true})
	if err != nil {
		t.Fatal(err)
	}
	for p, probe := range probes {
		want := m.search(probe, 10, 0, true)
		for i := range want {
			if got[p][i].Owner != want[i].Owner || math.Abs(float64(got[p][i].Distance-want[i].Distance)) > 1e-5 {
				t.Errorf("probe %d, place %d: got %v, want %v", p, i, got[p][i], want[i])
			}
		}
	}
	if best := got[1][0]; best.ID != id(n/2) || best.Distance > 1e-6 {
		t.Errorf("a vector of the gallery finds %v first, want itself", best)
	}
}

func TestSearchOfAnEmptyGalleryFindsNothing(t *testing.T) {
	got, err := mustNew(t, 2).Search(t.Context(), gallery.Query{Probes: []gallery.Code{code(1, 0), code(0, 1)}, K: 5})
	if err != nil || len(got) != 2 || got[0] == nil || len(got[0]) != 0 {
		t.Errorf("got %v, %v; want two empty lists", got, err)
	}
}

func TestUnusableCodesAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		code gallery.Code
	}{
		{"none", nil},
		{"too short", code(1)},
		{"too long", code(1, 0, 0)},
		{"half a number", code(1, 0)[:3]},
		{"zero", gallery.Code{0, 0, 0, 0}},
		{"out of range", gallery.Code{0x80, 0x7f, 0, 0}},
		{"out of range below", gallery.Code{0, 0, 0x80, 0x80}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := mustNew(t, 2)
			if err := g.Add(gallery.Entry{Code: tt.code}); !errors.Is(err, gallery.ErrVector) {
				t.Errorf("Add: got %v, want ErrVector", err)
			}
			if g.Len() != 0 {
				t.Errorf("the gallery holds %d vectors, want none", g.Len())
			}
			q := gallery.Query{Probes: []gallery.Code{code(1, 0), tt.code}, K: 1}
			if _, err := g.Search(t.Context(), q); !errors.Is(err, gallery.ErrVector) {
				t.Errorf("Search: got %v, want ErrVector", err)
			}
		})
	}
}

func TestSearchRefusesEmptyQuestions(t *testing.T) {
	g := mustNew(t, 2)
	if _, err := g.Search(t.Context(), gallery.Query{Probes: []gallery.Code{code(1, 0)}}); err == nil {
		t.Error("k = 0: got no error")
	}
	if _, err := g.Search(t.Context(), gallery.Query{K: 1}); err == nil {
		t.Error("no probe: got no error")
	}
	if _, err := gallery.New(0); err == nil {
		t.Error("vectors of length 0: got no error")
	}
}

func TestSearchStops(t *testing.T) {
	cause := errors.New("enough")
	q := gallery.Query{Probes: []gallery.Code{code(1, 0)}, K: 1}
	t.Run("with its context", func(t *testing.T) {
		g := mustNew(t, 2)
		mustAdd(t, g, gallery.Entry{Code: code(1, 0)})
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if got, err := g.Search(ctx, q); !errors.Is(err, cause) || got != nil {
			t.Errorf("got %v, %v; want the cause", got, err)
		}
	})
	t.Run("with the gallery", func(t *testing.T) {
		g := mustNew(t, 2)
		mustAdd(t, g, gallery.Entry{Code: code(1, 0)})
		g.Close()
		if got, err := g.Search(t.Context(), q); !errors.Is(err, gallery.ErrDropped) || got != nil {
			t.Errorf("got %v, %v; want ErrDropped", got, err)
		}
		if err := g.Add(gallery.Entry{Code: code(1, 0)}); !errors.Is(err, gallery.ErrDropped) {
			t.Errorf("Add: got %v, want ErrDropped", err)
		}
		if g.Bytes() != 0 || g.Len() != 0 {
			t.Errorf("%d bytes, %d vectors after Close", g.Bytes(), g.Len())
		}
	})
}

func TestMemoryPerFaceIsBounded(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 3))
	const dim = 128
	g := mustNew(t, dim)
	c := code(random(rnd, dim)...)
	for n := 1; n <= 50_000; n++ {
		mustAdd(t, g, gallery.Entry{ID: id(n), Code: c})
		// The code, marks and length, id, owner and order, each once, with room for a sixteenth more. Below a thousand
		// faces the size of a block dominates.
		if most := 1.1 * float64(n*(2*dim+16+40)); n >= 1000 && float64(g.Bytes()) > most {
			t.Fatalf("%d faces take %d bytes, at most %.0f allowed", n, g.Bytes(), most)
		}
	}
	for n := 1; n <= 50_000; n++ {
		if n%1000 == 0 && !g.Remove(id(n)) {
			t.Fatalf("vector %d is missing", n)
		}
	}
	g.RemoveOwner(gallery.ID{})
	if g.Bytes() != 0 {
		t.Errorf("an emptied gallery holds %d bytes", g.Bytes())
	}
}

// BenchmarkFloat32 measures a search without codes: the dot product of every vector in full, on one processor.
func BenchmarkFloat32(b *testing.B) {
	const dim, n = 128, 100_000
	rnd := rand.New(rand.NewPCG(1, 1))
	all, probe := make([]float32, 0, n*dim), random(rnd, dim)
	for range n {
		all = append(all, random(rnd, dim)...)
	}
	best := float32(-1)
	for b.Loop() {
		for i := range n {
			best = max(best, vek32.Dot(probe, all[i*dim:(i+1)*dim]))
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mfaces/s")
}

func BenchmarkSearch(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			rnd := rand.New(rand.NewPCG(1, 1))
			g := mustNew(b, 128)
			for i := range n {
				mustAdd(b, g, gallery.Entry{ID: id(i), Owner: id(i), Order: uint64(i), Code: code(random(rnd, 128)...)})
			}
			q := gallery.Query{Probes: []gallery.Code{code(random(rnd, 128)...)}, K: 10, ByOwner: true}
			for b.Loop() {
				if _, err := g.Search(b.Context(), q); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mfaces/s")
		})
	}
}

// BenchmarkAdd measures the gallery's part of loading.
func BenchmarkAdd(b *testing.B) {
	for _, dim := range []int{128, 512} {
		b.Run(fmt.Sprint(dim), func(b *testing.B) {
			const n = 10_000
			rnd := rand.New(rand.NewPCG(1, 1))
			codes := make([]gallery.Code, 100)
			for i := range codes {
				codes[i] = code(random(rnd, dim)...)
			}
			for b.Loop() {
				g, err := gallery.New(dim)
				if err != nil {
					b.Fatal(err)
				}
				g.Expect(n)
				for i := range n {
					if err := g.Add(gallery.Entry{ID: id(i), Code: codes[i%len(codes)]}); err != nil {
						b.Fatal(err)
					}
				}
				g.Close()
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/n*1e9, "ns/face")
		})
	}
}

// TestMerge: what galleries with parts of the vectors find makes up what one gallery with all of them finds, in the
// same order.
func TestMerge(t *testing.T) {
	const dim, parts = 16, 3
	whole, split := mustNew(t, dim), make([]*gallery.Gallery, parts)
	for i := range split {
		split[i] = mustNew(t, dim)
	}
	rnd := rand.New(rand.NewPCG(7, 8))
	var codes []gallery.Code
	for i := range 500 {
		c := code(random(rnd, dim)...)
		if i%3 == 1 {
			c = codes[rnd.IntN(i)] // equally near as another
		}
		codes = append(codes, c)
		e := gallery.Entry{ID: id(i), Owner: id(i / 4), Order: uint64(i), Code: c}
		mustAdd(t, whole, e)
		mustAdd(t, split[rnd.IntN(parts)], e)
	}
	candidates := func(g *gallery.Gallery, q gallery.Query) []gallery.Candidate {
		found, err := g.Candidates(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return found[0]
	}
	for i := range 200 {
		q := gallery.Query{
			Probes: codes[i : i+1], K: 1 + i%17, ByOwner: i%2 == 0, Within: []float32{0, 0.8}[i%4/2],
		}
		var lists [][]gallery.Candidate
		for _, g := range split {
			lists = append(lists, candidates(g, q))
		}
		if got, want := gallery.Merge(q.K, q.ByOwner, lists...), candidates(whole, q); !slices.Equal(got, want) {
			t.Errorf("query %d: got %v, want %v", i, got, want)
		}
	}
}
