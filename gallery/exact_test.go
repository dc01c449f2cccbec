package gallery_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/gallery/internal/kernel"
)

// score is the score of two codes by its definition.
func score(probe, stored gallery.Code) float32 {
	a, b := numbers(probe), numbers(stored)
	var sum, first, second int64
	for i := range a {
		sum += int64(a[i] * b[i])
		first += int64(a[i] * a[i])
		second += int64(b[i] * b[i])
	}
	inverse := float32(1 / math.Sqrt(float64(second)))
	return float32(float64(sum) * (1 / math.Sqrt(float64(first))) * float64(inverse))
}

// brute answers a query by comparing and sorting all entries.
func brute(entries []gallery.Entry, code gallery.Code, k int, within float32, byOwner bool) []gallery.Match {
	type hit struct {
		e     *gallery.Entry
		score float32
	}
	var hits []hit
	for i := range entries {
		if s := score(code, entries[i].Code); within == 0 || min(max(1-s, 0), 2) <= within {
			hits = append(hits, hit{&entries[i], s})
		}
	}
	slices.SortStableFunc(hits, func(a, b hit) int {
		return cmp.Or(-cmp.Compare(a.score, b.score), cmp.Compare(a.e.Order, b.e.Order))
	})
	matches, seen := []gallery.Match{}, map[gallery.ID]bool{}
	for _, h := range hits {
		if len(matches) < k && (!byOwner || !seen[h.e.Owner]) {
			seen[h.e.Owner] = true
			matches = append(matches, gallery.Match{ID: h.e.ID, Owner: h.e.Owner, Distance: min(max(1-h.score, 0), 2)})
		}
	}
	return matches
}

// unit makes a vector's length 1, as far as float32 goes.
func unit(v []float32) []float32 {
	square := 0.0
	for _, x := range v {
		square += float64(x) * float64(x)
	}
	if square == 0 {
		v[0], square = 1, 1
	}
	for i := range v {
		v[i] = float32(float64(v[i]) / math.Sqrt(square))
	}
	return v
}

// shapes are ways to make vectors: easy ones, and those that upper planes say little about.
var shapes = map[string]func(rnd *rand.Rand, dim int) func() []float32{
	"spread": func(rnd *rand.Rand, dim int) func() []float32 {
		return func() []float32 { return random(rnd, dim) }
	},
	"clustered": func(rnd *rand.Rand, dim int) func() []float32 {
		centres := [][]float32{random(rnd, dim), random(rnd, dim), random(rnd, dim)}
		return func() []float32 {
			v := random(rnd, dim)
			for i, x := range centres[rnd.IntN(3)] {
				v[i] = x + 0.3*v[i]
			}
			return unit(v)
		}
	},
	"nearly the same": func(rnd *rand.Rand, dim int) func() []float32 {
		centre := random(rnd, dim)
		return func() []float32 {
			v := random(rnd, dim)
			for i, x := range centre {
				v[i] = x + 1e-4*v[i]
			}
			return unit(v)
		}
	},
	"one number each": func(rnd *rand.Rand, dim int) func() []float32 {
		return func() []float32 {
			v := make([]float32, dim)
			v[rnd.IntN(dim)] = float32(1 - 2*rnd.IntN(2))
			return v
		}
	},
	"one large number": func(rnd *rand.Rand, dim int) func() []float32 {
		return func() []float32 {
			v := random(rnd, dim)
			v[rnd.IntN(dim)] += float32(rnd.IntN(20) - 10)
			return unit(v)
		}
	},
	"all equal numbers": func(rnd *rand.Rand, dim int) func() []float32 {
		return func() []float32 {
			v := make([]float32, dim)
			for i := range v {
				v[i] = float32(1 - 2*(rnd.IntN(8)/7))
			}
			return unit(v)
		}
	},
	"tiny numbers": func(rnd *rand.Rand, dim int) func() []float32 {
		return func() []float32 {
			v := make([]float32, dim)
			for i := range v {
				v[i] = float32(math.Ldexp(rnd.NormFloat64(), -rnd.IntN(140)))
			}
			return unit(v)
		}
	},
	"not quite of length 1": func(rnd *rand.Rand, dim int) func() []float32 {
		return func() []float32 {
			v := random(rnd, dim)
			scale := float32(1 + (rnd.Float64()-0.5)*9e-4)
			for i := range v {
				v[i] *= scale
			}
			return v
		}
	},
}

// codeShapes are ways to make codes that a store may contain although no vector has them: their upper digits say
// nothing, or mislead as much as they can.
var codeShapes = map[string]func(rnd *rand.Rand) int{
	"codes within one step": func(rnd *rand.Rand) int { return rnd.IntN(3) - 1 },
	"codes below a digit":   func(rnd *rand.Rand) int { return rnd.IntN(255) - 127 },
	"codes about a digit":   func(rnd *rand.Rand) int { return (126 + rnd.IntN(4)) * (1 - 2*rnd.IntN(2)) },
	"codes of the extremes": func(rnd *rand.Rand) int {
		return (gallery.CodeMost - rnd.IntN(2)) *
			(1 - 2*rnd.IntN(2))
	},
	"codes of sizes unlike":    func(rnd *rand.Rand) int { return rnd.IntN(1<<rnd.IntN(15)+1) * (1 - 2*rnd.IntN(2)) },
	"codes at edges of cells":  func(rnd *rand.Rand) int { return (rnd.IntN(3)-1)<<(8+2*rnd.IntN(4)) - rnd.IntN(2) },
	"codes of one cell":        func(rnd *rand.Rand) int { return rnd.IntN(16384) },
	"codes at ends of a cell":  func(rnd *rand.Rand) int { return 16383*rnd.IntN(2) - 16384*rnd.IntN(2) },
	"one code, and not others": func(rnd *rand.Rand) int { return gallery.CodeMost * (rnd.IntN(30) / 29) },
}

// codesOf returns a way to make codes of a shape.
func codesOf(rnd *rand.Rand, name string, dim int) func() gallery.Code {
	if shape := shapes[name]; shape != nil {
		next := shape(rnd, dim)
		return func() gallery.Code { return code(next()...) }
	}
	return func() gallery.Code {
		c, some := make(gallery.Code, 2*dim), false
		for i := range dim {
			n := codeShapes[name](rnd)
			some = some || n != 0
			binary.LittleEndian.PutUint16(c[2*i:], uint16(int16(n)))
		}
		if !some {
			c[0] = 1
		}
		return c
	}
}

// TestTenThousandGalleriesAnswerExactly compares answers with brute force, to the bit and in order, on every kernel.
func TestTenThousandGalleriesAnswerExactly(t *testing.T) {
	rounds := 10_000
	if testing.Short() {
		rounds = 500
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	names := slices.Concat(slices.Sorted(maps.Keys(shapes)), slices.Sorted(maps.Keys(codeShapes)))
	kernels := kernel.Available()
	for round := range rounds {
		k, name := kernels[round%len(kernels)], names[rnd.IntN(len(names))]
		dim, n := 1+rnd.IntN(70), rnd.IntN(120)
		switch {
		case round%50 == 0:
			dim, n = 1+rnd.IntN(300), rnd.IntN(1500)
		case round%50 == 1:
			dim, n = 2048-rnd.IntN(40), rnd.IntN(70)
		}
		checkGallery(t, rnd, k, name, dim, n)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
}

// TestGalleriesOfEverySmallSizeAnswerExactly goes over the sizes around a group of rows and a tile of groups.
func TestGalleriesOfEverySmallSizeAnswerExactly(t *testing.T) {
	rnd := rand.New(rand.NewPCG(rand.Uint64(), 1))
	for _, k := range kernel.Available() {
		for _, n := range []int{0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1023, 1024, 1025} {
			for _, dim := range []int{128, 192, 512} {
				checkGallery(t, rnd, k, "clustered", dim, n)
			}
			if t.Failed() {
				t.Fatalf("%d rows", n)
			}
		}
	}
}

func checkGallery(t *testing.T, rnd *rand.Rand, k *kernel.Kernel, name string, dim, n int) {
	t.Helper()
	next := codesOf(rnd, name, dim)
	g, err := gallery.NewOn(dim, k)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	var entries []gallery.Entry
	for i := range n {
		e := gallery.Entry{ID: id(i), Owner: id(rnd.IntN(1 + n/3)), Order: uint64(i), Code: next()}
		if i > 0 && rnd.IntN(10) == 0 {
			e.Code = entries[rnd.IntN(i)].Code // a tie
		}
		entries = append(entries, e)
	}
	for _, i := range rnd.Perm(n) {
		mustAdd(t, g, entries[i])
	}
	for range n / 10 {
		gone := rnd.IntN(len(entries))
		if !g.Remove(entries[gone].ID) {
			t.Errorf("vector %v is missing", entries[gone].ID)
		}
		entries = slices.Delete(entries, gone, gone+1)
	}
	if !g.Removed() {
		t.Error("data of a removed vector is left")
	}
	q := gallery.Query{K: 1 + rnd.IntN(12), ByOwner: rnd.IntN(2) == 0,
		Within: []float32{0, 0, 0.02, 0.5, 1.2}[rnd.IntN(5)]}
	for range []int{1, 1, 2, 5, 17, 70}[rnd.IntN(6)] {
		probe := next()
		if rnd.IntN(4) == 0 && len(entries) > 0 {
			probe = entries[rnd.IntN(len(entries))].Code
		}
		q.Probes = append(q.Probes, probe)
	}
	if rnd.IntN(3) == 0 && len(entries) > 0 { // as far as one of them and no further, or slightly less far
		q.Within, _ = gallery.Distance(q.Probes[0], entries[rnd.IntN(len(entries))].Code)
		if rnd.IntN(2) == 0 {
			q.Within = math.Nextafter32(q.Within, 0)
		}
	}
	got, err := g.Search(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for p, probe := range q.Probes {
		if want := brute(entries, probe, q.K, q.Within, q.ByOwner); !slices.Equal(got[p], want) {
			t.Errorf("%s, %s, %d of %d numbers, probe %d of %d, k %d, within %g, by owner %v:\n got %v\nwant %v",
				k.Name, name, len(entries), dim, p, len(q.Probes), q.K, q.Within, q.ByOwner, got[p], want)
			return
		}
	}
}

// large makes a gallery whose searches share passes, and returns its entries as well.
func large(t *testing.T) (*gallery.Gallery, []gallery.Entry) {
	t.Helper()
	const dim, products = 512, 4 << 20
	rnd := rand.New(rand.NewPCG(5, 5))
	g := mustNew(t, dim)
	g.ShareFrom(products)
	entries := make([]gallery.Entry, products/dim+100)
	for i := range entries {
		entries[i] = gallery.Entry{ID: id(i), Owner: id(i / 3), Order: uint64(i), Code: code(random(rnd, dim)...)}
		mustAdd(t, g, entries[i])
	}
	return g, entries
}

func TestSearchesAtTheSameTimeShareAPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, entries := large(t)
		release := g.Occupy()
		gone := errors.New("gone")
		leaving, leave := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				q := gallery.Query{Probes: []gallery.Code{entries[i].Code, entries[2*i].Code}, K: 1 + i,
					ByOwner: i%2 == 0,
					Within:  0.6}
				if i == 7 {
					_, err := g.Search(leaving, q)
					if !errors.Is(err, gone) {
						t.Errorf("the cancelled search: %v", err)
					}
					return
				}
				got, err := g.Search(t.Context(), q)
				if err != nil {
					t.Errorf("search %d: %v", i, err)
					return
				}
				for p, probe := range q.Probes {
					if want := brute(entries, probe, q.K, q.Within, q.ByOwner); !slices.Equal(got[p], want) {
						t.Errorf("search %d, probe %d: got %v, want %v", i, p, got[p], want)
					}
				}
			})
		}
		synctest.Wait()
		leave(gone)
		synctest.Wait() // it left before any search ran
		if g.Read() != 0 {
			t.Errorf("%d bytes were read while the searches waited", g.Read())
		}
		release()
		wg.Wait()
		if read, pass := g.Read(), g.PassBytes(); read < pass || read >= 2*pass {
			t.Errorf("%d bytes were read for eleven searches, want one pass of %d and a few rows", read, pass)
		}
		before := g.Read()
		if _, err := g.Search(t.Context(), gallery.Query{Probes: []gallery.Code{entries[0].Code}, K: 1}); err != nil {
			t.Errorf("a search afterwards: %v", err)
		}
		if g.Read() == before {
			t.Error("a search afterwards read nothing")
		}
	})
}

// TestLargeGalleriesUnderChange runs searches that share passes beside additions and deletions, for the race detector,
// and checks that no search finds a vector that was deleted before it began.
func TestLargeGalleriesUnderChange(t *testing.T) {
	g, entries := large(t)
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			for i := range 15 {
				mine := entries[100*w+i]
				finds := func() bool {
					got, err := g.Search(t.Context(),
						gallery.Query{Probes: []gallery.Code{mine.Code}, K: 1, Within: 0.5})
					if err != nil {
						t.Error(err)
						return false
					}
					return len(got[0]) == 1 && got[0][0].ID == mine.ID
				}
				if !finds() {
					t.Error("the added vector was not found")
				}
				if !g.Remove(mine.ID) {
					t.Error("the added vector could not be removed")
				}
				if finds() {
					t.Error("the vector was found after it was removed")
				}
				if err := g.Add(mine); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if g.Len() != len(entries) {
		t.Errorf("%d vectors, want %d", g.Len(), len(entries))
	}
}

func TestALoadThatLosesItsLeaseLeavesNothing(t *testing.T) {
	p := newPool(t, 1<<20)
	revoked := errors.New("revoked")
	lease, revoke := context.WithCancelCause(t.Context())
	var loading *gallery.Gallery
	half := make(chan struct{})
	src := gallery.Source{Lease: lease, Dim: 2, Load: func(ctx context.Context, g *gallery.Gallery) (uint64, error) {
		loading = g
		g.Expect(20)
		for i := range 20 {
			if i == 10 {
				if l := p.Loading(); len(l) != 1 || l[0].Loaded != 10 || l[0].Expected != 20 || l[0].Key.Scope != "a" {
					t.Errorf("the load is at %+v", l)
				}
				close(half)
				<-ctx.Done()
			}
			if err := g.Add(gallery.Entry{ID: id(i), Code: code(0, 1)}); err != nil {
				return 0, fmt.Errorf("add: %w", err)
			}
		}
		return 0, nil
	}}
	go func() {
		<-half
		revoke(revoked)
	}()
	if _, err := size(t.Context(), p, gallery.Key{Scope: "a"}, src); !errors.Is(err, revoked) {
		t.Errorf("got %v, want the lease's cause", err)
	}
	p.Close() // waits for the load
	if !loading.Wiped() {
		t.Error("data of the gallery is left in memory")
	}
	if l := p.Loading(); len(l) != 0 {
		t.Errorf("still loading: %+v", l)
	}
}

// TestScansThatChangeTheirWayAnswerExactly searches galleries of one block, as loads make them, with one probe and with
// many, within a distance and at any distance, so that scans switch from the sketch to four bits and to eight, and
// back. Vectors are removed in between. Results are compared with brute force, on every kernel.
func TestScansThatChangeTheirWayAnswerExactly(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	names := slices.Concat(slices.Sorted(maps.Keys(shapes)), slices.Sorted(maps.Keys(codeShapes)))
	for _, k := range kernel.Available() {
		for _, name := range names {
			dim := []int{7, 64, 128, 192}[rnd.IntN(4)]
			next := codesOf(rnd, name, dim)
			g, err := gallery.NewOn(dim, k)
			if err != nil {
				t.Fatal(err)
			}
			entries := make([]gallery.Entry, 1_000+rnd.IntN(3_000))
			g.Expect(len(entries))
			for i := range entries {
				entries[i] = gallery.Entry{ID: id(i), Owner: id(rnd.IntN(300)), Order: uint64(i), Code: next()}
				mustAdd(t, g, entries[i])
			}
			for _, probes := range []int{1, 2, []int{9, 17, 66}[rnd.IntN(3)]} {
				for range rnd.IntN(40) {
					gone := rnd.IntN(len(entries))
					if !g.Remove(entries[gone].ID) {
						t.Errorf("vector %v is missing", entries[gone].ID)
					}
					entries = slices.Delete(entries, gone, gone+1)
				}
				checkSearch(t, rnd, g, entries, next, probes)
			}
			g.Close()
			if t.Failed() {
				t.Fatalf("%s, %s", k.Name, name)
			}
		}
	}
}

func checkSearch(
	t *testing.T, rnd *rand.Rand, g *gallery.Gallery, entries []gallery.Entry, next func() gallery.Code, probes int,
) {
	t.Helper()
	q := gallery.Query{K: 1 + rnd.IntN(60), ByOwner: rnd.IntN(2) == 0, Within: []float32{0, 0.4}[rnd.IntN(2)]}
	for range probes {
		q.Probes = append(q.Probes, next())
	}
	got, err := g.Search(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range rnd.Perm(probes)[:min(probes, 6)] { // brute force is slow, and the other probes are alike
		probe := q.Probes[p]
		if want := brute(entries, probe, q.K, q.Within, q.ByOwner); !slices.Equal(got[p], want) {
			t.Errorf("%d of %d numbers, probe %d of %d, k %d, within %g, by owner %v:\n got %v\nwant %v",
				len(entries), len(probe)/2, p, len(q.Probes), q.K, q.Within, q.ByOwner, got[p], want)
		}
	}
}
