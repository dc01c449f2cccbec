package gallery_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/visage-face/visage/gallery"
)

// faceBytes is the memory of sixteen vectors of length 2, the smallest gallery: a group of the sketch, for each vector
// its row of the other planes, two marks, inverse length and row data; and slack behind it all.
const faceBytes = 128 + 16*(4+16+16+3*4+40) + 64

func newPool(t *testing.T, budget int64) *gallery.Pool {
	t.Helper()
	p, err := gallery.NewPool(budget)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func filled(lease context.Context, n int) gallery.Source {
	return gallery.Source{Lease: lease, Dim: 2, Load: func(ctx context.Context, g *gallery.Gallery) (uint64, error) {
		for i := range n {
			if err := g.Add(gallery.Entry{ID: id(i), Owner: id(i), Order: uint64(i), Code: code(1, 0)}); err != nil {
				return 0, err
			}
		}
		return 0, nil
	}}
}

// unloadable is a source for galleries that must be in memory already: it fails the test if it is loaded.
func unloadable(t *testing.T, lease context.Context) gallery.Source {
	return gallery.Source{Lease: lease, Dim: 2, Load: func(context.Context, *gallery.Gallery) (uint64, error) {
		t.Error("loaded again")
		return 0, nil
	}}
}

// size uses a gallery and returns its size.
func size(ctx context.Context, p *gallery.Pool, key gallery.Key, src gallery.Source) (n int, err error) {
	err = p.Use(ctx, key, src, func(g *gallery.Gallery) error {
		n = g.Len()
		return nil
	})
	return n, err
}

func TestPoolLoadsOnceForManyCallers(t *testing.T) {
	p := newPool(t, 1<<20)
	gate, loads := make(chan struct{}), 0
	src := filled(t.Context(), 3)
	fill := src.Load
	src.Load = func(ctx context.Context, g *gallery.Gallery) (uint64, error) {
		loads++
		<-gate
		return fill(ctx, g)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if n, err := size(t.Context(), p, gallery.Key{Scope: "a"}, src); n != 3 || err != nil {
				t.Errorf("got %d vectors, %v; want 3", n, err)
			}
		})
	}
	close(gate)
	wg.Wait()
	if s := p.Stats(); loads != 1 || s.Loads != 1 || s.Galleries != 1 || s.Bytes != faceBytes {
		t.Errorf("%d loads, %+v; want one load, one gallery, %d bytes", loads, s, faceBytes)
	}
}

func TestPoolEvictsTheLeastRecentlyUsed(t *testing.T) {
	p := newPool(t, 2*faceBytes)
	a, b, c := gallery.Key{Scope: "a"}, gallery.Key{Scope: "b"}, gallery.Key{Scope: "c"}
	for _, key := range []gallery.Key{a, b, a, c} { // b is the least recently used when c comes
		if n, err := size(t.Context(), p, key, filled(t.Context(), 2)); n != 2 || err != nil {
			t.Fatalf("%v: got %d, %v", key, n, err)
		}
	}
	for _, key := range []gallery.Key{a, c} {
		if n, err := size(t.Context(), p, key, unloadable(t, t.Context())); n != 2 || err != nil {
			t.Errorf("%v: got %d, %v; want it in memory", key, n, err)
		}
	}
	if s := p.Stats(); s.Evictions != 1 || s.Galleries != 2 || s.Bytes != 2*faceBytes {
		t.Errorf("got %+v, want one eviction", s)
	}
}

func TestPoolBoundsTheNumberOfGalleries(t *testing.T) {
	const most = 10_000
	p := newPool(t, 1<<40)
	for i := range most + 5 {
		key := gallery.Key{Scope: "a", Version: uint64(i)}
		if n, err := size(t.Context(), p, key, filled(t.Context(), 1)); n != 1 || err != nil {
			t.Fatalf("gallery %d: %d vectors, %v", i, n, err)
		}
	}
	if s := p.Stats(); s.Galleries != most || s.Evictions != 5 || s.Bytes != most*faceBytes {
		t.Errorf("got %+v, want %d galleries after 5 evictions", s, most)
	}
}

func TestPoolRefusesAGalleryOverTheBudget(t *testing.T) {
	p := newPool(t, faceBytes)
	if _, err := size(t.Context(), p, gallery.Key{Scope: "small"}, filled(t.Context(), 16)); err != nil {
		t.Fatalf("a gallery of just the budget: %v", err)
	}
	_, err := size(t.Context(), p, gallery.Key{Scope: "large"}, filled(t.Context(), 17))
	if !errors.Is(err, gallery.ErrTooLarge) || !strings.Contains(err.Error(), fmt.Sprintf("%d bytes", faceBytes)) {
		t.Errorf("got %v, want ErrTooLarge that names the budget", err)
	}
	if s := p.Stats(); s.Bytes != 0 && s.Bytes != faceBytes {
		t.Errorf("the failed load left %+v", s)
	}
	if _, err := size(t.Context(), p, gallery.Key{Scope: "small"}, filled(t.Context(), 16)); err != nil {
		t.Errorf("after the refusal: %v", err)
	}
}

func TestPoolSaysWhenLoadsTakeTheBudget(t *testing.T) {
	p := newPool(t, faceBytes)
	gate, half := make(chan struct{}), make(chan struct{})
	src := filled(t.Context(), 1)
	fill := src.Load
	src.Load = func(ctx context.Context, g *gallery.Gallery) (uint64, error) {
		at, err := fill(ctx, g)
		close(half)
		<-gate
		return at, err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := size(t.Context(), p, gallery.Key{Scope: "first"}, src); err != nil {
			t.Errorf("the first: %v", err)
		}
	})
	<-half
	if _, err := size(t.Context(), p, gallery.Key{Scope: "second"}, filled(t.Context(), 1)); !errors.Is(err,
		gallery.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	close(gate)
	wg.Wait()
	if _, err := size(t.Context(), p, gallery.Key{Scope: "second"}, filled(t.Context(), 1)); err != nil {
		t.Errorf("later: %v", err)
	}
}

func TestPoolDropsAGalleryWhenItsLeaseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 1<<20)
		lease, lock := context.WithCancelCause(t.Context())
		other := gallery.Key{Scope: "other"}
		if _, err := size(t.Context(), p, other, filled(t.Context(), 2)); err != nil {
			t.Fatal(err)
		}
		locked := errors.New("locked")
		var kept *gallery.Gallery
		err := p.Use(t.Context(), gallery.Key{Scope: "a"}, filled(lease, 2), func(g *gallery.Gallery) error {
			kept = g
			lock(locked)
			synctest.Wait()
			_, err := g.Search(t.Context(), gallery.Query{Probes: []gallery.Code{code(1, 0)}, K: 1})
			return err
		})
		if !errors.Is(err, locked) {
			t.Errorf("a search after the lease: %v, want its cause", err)
		}
		if kept.Bytes() != 0 {
			t.Errorf("the dropped gallery holds %d bytes", kept.Bytes())
		}
		if s := p.Stats(); s.Galleries != 1 || s.Bytes != faceBytes || s.LeaseDrops != 1 {
			t.Errorf("got %+v, want the other gallery alone", s)
		}
		if _, err := size(t.Context(), p, gallery.Key{Scope: "a"}, unloadable(t, lease)); !errors.Is(err, locked) {
			t.Errorf("Use after the lease: %v, want its cause", err)
		}
	})
}

func TestPoolStopsALoadThatNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 1<<20)
		stopped := make(chan struct{})
		load := func(ctx context.Context, g *gallery.Gallery) (uint64, error) {
			<-ctx.Done()
			close(stopped)
			return 0, context.Cause(ctx)
		}
		src := gallery.Source{Lease: t.Context(), Dim: 2, Load: load}
		impatient, give := context.WithCancelCause(t.Context())
		patient, give2 := context.WithCancelCause(t.Context())
		bored := errors.New("bored")
		var wg sync.WaitGroup
		for _, ctx := range []context.Context{impatient, patient} {
			wg.Go(func() {
				if _, err := size(ctx, p, gallery.Key{Scope: "a"}, src); !errors.Is(err, bored) {
					t.Errorf("got %v, want the caller's own cause", err)
				}
			})
		}
		synctest.Wait()
		give(bored)
		synctest.Wait()
		select {
		case <-stopped:
			t.Error("the load stopped while a caller still waited")
		default:
		}
		give2(bored)
		<-stopped
		wg.Wait()
		if n, err := size(t.Context(), p, gallery.Key{Scope: "a"}, filled(t.Context(), 2)); n != 2 || err != nil {
			t.Errorf("a new caller got %d, %v; want a load of its own", n, err)
		}
	})
}

// TestPoolKeepsALoad: nobody waits for it any more, and the next caller finds it.
func TestPoolKeepsALoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 1<<20)
		gate := make(chan struct{})
		src := filled(t.Context(), 3)
		fill := src.Load
		src.Keep, src.Load = true, func(ctx context.Context, g *gallery.Gallery) (uint64, error) {
			<-gate
			return fill(ctx, g)
		}
		key := gallery.Key{Scope: "a", Part: gallery.Part{Index: 1, Count: 2}}
		bored := errors.New("bored")
		ctx, give := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := size(ctx, p, key, src); !errors.Is(err, bored) {
				t.Errorf("got %v, want the caller's own cause", err)
			}
		})
		synctest.Wait()
		give(bored)
		wg.Wait()
		close(gate)
		if n, err := size(t.Context(), p, key, unloadable(t, t.Context())); n != 3 || err != nil {
			t.Errorf("got %d, %v; want the gallery that was being loaded", n, err)
		}
		other := gallery.Key{Scope: "a", Part: gallery.Part{Count: 2}}
		if n, err := size(t.Context(), p, other, filled(t.Context(), 2)); n != 2 || err != nil {
			t.Errorf("got %d, %v; want another part of the same scope", n, err)
		}
		late := unloadable(t, t.Context())
		late.At, late.Follow = 7, func(context.Context, *gallery.Gallery, uint64) (uint64, error) { return 6, nil }
		if n, err := size(t.Context(), p, key, late); !errors.Is(err, gallery.ErrDropped) {
			t.Errorf("a gallery with 6 of 7 changes: %d, %v", n, err)
		}
	})
}

// stored is content whose changes are numbered: change n removes vector n-1 of ten.
type stored struct {
	last            atomic.Uint64
	loads, followed atomic.Int64
	forgotten       uint64 // changes up to this number cannot be followed any more
	failure         error  // of following
}

// source returns the source of a search that begins now.
func (s *stored) source(lease context.Context) gallery.Source {
	return gallery.Source{
		Lease: lease, Dim: 2, At: s.last.Load(),
		Load: func(ctx context.Context, g *gallery.Gallery) (uint64, error) {
			s.loads.Add(1)
			at := s.last.Load()
			for i := int(at); i < 10; i++ {
				if err := g.Add(gallery.Entry{ID: id(i), Owner: id(i), Code: code(1, 0)}); err != nil {
					return 0, err
				}
			}
			return at, nil
		},
		Follow: func(ctx context.Context, g *gallery.Gallery, after uint64) (uint64, error) {
			s.followed.Add(1)
			if s.failure != nil {
				return 0, s.failure
			}
			if after < s.forgotten {
				return 0, gallery.ErrDropped
			}
			at := s.last.Load()
			for i := after; i < at; i++ {
				g.Remove(id(int(i)))
			}
			return at, nil
		},
	}
}

// TestPoolBringsGalleriesUpToDate has content change by others between searches, during a load, and so much that a
// gallery has to be loaded again.
func TestPoolBringsGalleriesUpToDate(t *testing.T) {
	p, content, a := newPool(t, 1<<20), &stored{}, gallery.Key{Scope: "a"}
	want := func(n, loads, followed int) {
		t.Helper()
		got, err := size(t.Context(), p, a, content.source(t.Context()))
		if err != nil || got != n || int(content.loads.Load()) != loads || int(content.followed.Load()) != followed {
			t.Errorf("%d vectors, %v, after %d loads, followed %d times; want %d, %d, %d", got, err,
				content.loads.Load(), content.followed.Load(), n, loads, followed)
		}
	}
	want(10, 1, 0)
	want(10, 1, 0)
	content.last.Store(3)
	want(7, 1, 1)
	want(7, 1, 1)
	content.last.Store(5)
	content.forgotten = 4
	want(5, 2, 2)
	content.last.Store(6)
	content.failure = errors.New("no answer")
	if _, err := size(t.Context(), p, a, content.source(t.Context())); !errors.Is(err, content.failure) {
		t.Errorf("got %v, want the error of following", err)
	}
	content.failure = nil
	want(4, 2, 4) // the failure was not the gallery's

	// One that is loaded from content older than its search.
	src := content.source(t.Context())
	load := src.Load
	src.Load = func(ctx context.Context, g *gallery.Gallery) (uint64, error) {
		at, err := load(ctx, g)
		content.last.Store(8)
		return at, err
	}
	src.At = 8
	if n, err := size(t.Context(), p, gallery.Key{Scope: "b"}, src); n != 2 || err != nil {
		t.Errorf("%d vectors, %v; want 2", n, err)
	}
}

func TestPoolGivesUpOnAGalleryThatStaysBehind(t *testing.T) {
	p, content := newPool(t, 1<<20), &stored{forgotten: 5}
	src := content.source(t.Context())
	src.At = 2 // as no load will be
	if _, err := size(t.Context(), p, gallery.Key{Scope: "a"}, src); !errors.Is(err, gallery.ErrDropped) {
		t.Errorf("got %v, want ErrDropped", err)
	}
	if n := content.loads.Load(); n != 3 {
		t.Errorf("%d loads, want 3", n)
	}
}

// TestPoolAppliesChangesBetweenSearches has changes reach galleries that are loaded, that lack earlier changes, and
// that are being loaded.
func TestPoolAppliesChangesBetweenSearches(t *testing.T) {
	p, content := newPool(t, 1<<20), &stored{}
	first, second := gallery.Key{Scope: "a", Version: 1}, gallery.Key{Scope: "a", Version: 2}
	var loaded *gallery.Gallery
	err := p.Use(t.Context(), first, content.source(t.Context()), func(g *gallery.Gallery) error {
		loaded = g
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	gate, read := make(chan struct{}), make(chan struct{})
	src := content.source(t.Context())
	load := src.Load
	src.Load = func(ctx context.Context, g *gallery.Gallery) (uint64, error) {
		at, err := load(ctx, g) // before the change
		close(read)
		<-gate
		return at, err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if n, err := size(t.Context(), p, second, src); n != 9 || err != nil {
			t.Errorf("the gallery that was loading has %d vectors, %v; want 9", n, err)
		}
	})
	<-read
	apply := func(to uint64, done bool, failure error) (called int) {
		content.last.Store(to)
		p.Apply(t.Context(), "a", to-1, to, func(version uint64, g *gallery.Gallery) (bool, error) {
			if called++; version != 1 || g != loaded {
				t.Errorf("a change for version %d", version)
			}
			if done {
				g.Remove(id(int(to - 1)))
			}
			return done, failure
		})
		return called
	}
	if n := apply(1, true, nil); n != 1 || loaded.Len() != 9 || content.followed.Load() != 0 {
		t.Errorf("called %d times, %d vectors", n, loaded.Len())
	}
	close(gate)
	wg.Wait()
	p.Drop("b")
	p.Retire("a", 1)
	p.Apply(t.Context(), "b", 0, 1, func(uint64, *gallery.Gallery) (bool, error) {
		t.Error("a change of another scope")
		return true, nil
	})
	p.Apply(t.Context(), "a", 0, 1, func(uint64, *gallery.Gallery) (bool, error) {
		t.Error("a change that all have")
		return true, nil
	})
	if n, err := size(t.Context(), p, second, unloadable(t, t.Context())); n != 9 || err != nil {
		t.Errorf("version 2 has %d vectors, %v; want 9", n, err)
	}
	content.last.Store(3)
	p.Apply(t.Context(), "a", 2, 3, func(uint64, *gallery.Gallery) (bool, error) {
		t.Error("a change for a gallery that lacks the one before")
		return true, nil
	})
	if loaded.Len() != 7 {
		t.Errorf("%d vectors, want 7", loaded.Len())
	}
	p.Retire("a", 2)
	if _, err := size(t.Context(), p, second, unloadable(t, t.Context())); err != nil {
		t.Error(err)
	}
	err = p.Use(t.Context(), first, content.source(t.Context()), func(g *gallery.Gallery) error {
		loaded = g
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Retire("a", 1)
	p.Drop("b")
	content.last.Store(4)
	p.Apply(t.Context(), "a", 3, 4, func(uint64, *gallery.Gallery) (bool, error) { return false, nil })
	if loaded.Len() != 7 {
		t.Errorf("%d vectors, want 7: the change was left to the next search", loaded.Len())
	}
	if n, err := size(t.Context(), p, first, content.source(t.Context())); n != 6 || err != nil {
		t.Errorf("%d vectors, %v; want 6", n, err)
	}
	content.last.Store(5)
	p.Refresh(t.Context())
	if loaded.Len() != 5 {
		t.Errorf("after Refresh: %d vectors, want 5", loaded.Len())
	}
	before := content.loads.Load()
	content.last.Store(6)
	p.Apply(t.Context(), "a", 5, 6, func(uint64, *gallery.Gallery) (bool, error) { return true, errors.New("broken") })
	if n, err := size(t.Context(), p, first, content.source(t.Context())); n != 4 || err != nil ||
		content.loads.Load() != before+1 {
		t.Errorf("after a failed change: %d vectors, %v; want a fresh load", n, err)
	}
	content.last.Store(7)
	content.failure = errors.New("the store does not answer")
	p.Refresh(t.Context())
	if s := p.Stats(); s.Galleries != 1 {
		t.Errorf("%d galleries after a refresh without an answer, want the one there was", s.Galleries)
	}
	if _, err := size(t.Context(), p, first, content.source(t.Context())); !errors.Is(err, content.failure) {
		t.Errorf("a search of a gallery that may lack changes: %v", err)
	}
	content.failure = gallery.ErrDropped
	p.Refresh(t.Context())
	if s := p.Stats(); s.Galleries != 0 {
		t.Errorf("%d galleries that cannot follow, want none", s.Galleries)
	}
}

func TestPoolRetiresEarlierVersions(t *testing.T) {
	p := newPool(t, 1<<20)
	for v := range uint64(3) {
		if _, err := size(t.Context(), p, gallery.Key{Scope: "a", Version: v}, filled(t.Context(), 1)); err != nil {
			t.Fatal(err)
		}
	}
	p.Retire("a", 2)
	if s := p.Stats(); s.Galleries != 1 {
		t.Errorf("%d galleries, want the last version", s.Galleries)
	}
	if _, err := size(t.Context(), p, gallery.Key{Scope: "a", Version: 2}, unloadable(t, t.Context())); err != nil {
		t.Error(err)
	}
	p.Drop("a")
	if s := p.Stats(); s.Galleries != 0 || s.Bytes != 0 {
		t.Errorf("%+v, want nothing", s)
	}
}

func TestPoolTellsAllWaitersWhyALoadFailed(t *testing.T) {
	p := newPool(t, 1<<20)
	broken := errors.New("broken")
	gate := make(chan struct{})
	src := gallery.Source{Lease: t.Context(), Dim: 2, Load: func(context.Context, *gallery.Gallery) (uint64, error) {
		<-gate
		return 0, broken
	}}
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if _, err := size(t.Context(), p, gallery.Key{Scope: "a"}, src); !errors.Is(err, broken) {
				t.Errorf("got %v, want the load's error", err)
			}
		})
	}
	close(gate)
	wg.Wait()
	if n, err := size(t.Context(), p, gallery.Key{Scope: "a"}, filled(t.Context(), 1)); n != 1 || err != nil {
		t.Errorf("a failed load was kept: %d, %v", n, err)
	}
}

// TestPoolUnderPressure runs loads, searches, changes, drops and ending leases beside one another for the race
// detector, and checks that the counts are right at the end.
func TestPoolUnderPressure(t *testing.T) {
	p := newPool(t, 3*faceBytes)
	var last atomic.Uint64
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 300 {
				lease, end := context.WithCancel(t.Context())
				key := gallery.Key{Scope: string(rune('a' + (w+i)%5)), Version: uint64(i % 2)}
				src := filled(lease, 1+i%16)
				src.At = last.Load()
				src.Follow = func(_ context.Context, g *gallery.Gallery, _ uint64) (uint64, error) {
					at := last.Load()
					g.Remove(id(i % 4))
					return at, nil
				}
				err := p.Use(t.Context(), key, src, func(g *gallery.Gallery) error {
					_, err := g.Search(t.Context(), gallery.Query{Probes: []gallery.Code{code(1, 0)}, K: 2})
					return err
				})
				for _, allowed := range []error{nil, gallery.ErrDropped, gallery.ErrBusy, context.Canceled} {
					if errors.Is(err, allowed) {
						err = nil
					}
				}
				if err != nil {
					t.Error(err)
				}
				to := last.Add(1)
				p.Apply(t.Context(), key.Scope, to-1, to, func(_ uint64, g *gallery.Gallery) (bool, error) {
					g.Remove(id(i % 4))
					return true, nil
				})
				if i%7 == 0 {
					p.Retire(key.Scope, key.Version)
				}
				end()
			}
		})
	}
	wg.Wait()
	p.Close()
	if s := p.Stats(); s.Galleries != 0 || s.Bytes != 0 {
		t.Errorf("after Close: %+v", s)
	}
}

func TestPoolSaysWhatEachScopeTakes(t *testing.T) {
	p := newPool(t, 1<<20)
	for _, key := range []gallery.Key{{Scope: "a", Version: 1}, {Scope: "a", Version: 2}, {Scope: "b"}} {
		if _, err := size(t.Context(), p, key, filled(t.Context(), 3)); err != nil {
			t.Fatal(err)
		}
	}
	got := p.Bytes()
	if len(got) != 2 || got["b"] <= 0 || got["a"] != 2*got["b"] || got["a"]+got["b"] != p.Stats().Bytes {
		t.Errorf("bytes by scope: %v; all have %d", got, p.Stats().Bytes)
	}
	p.Drop("a")
	if got := p.Bytes(); len(got) != 1 {
		t.Errorf("after a drop: %v", got)
	}
}
