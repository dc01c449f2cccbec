package gallery_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
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
	return gallery.Source{Lease: lease, Dim: 2, Load: func(ctx context.Context, g *gallery.Gallery) error {
		for i := range n {
			if err := g.Add(gallery.Entry{ID: id(i), Owner: id(i), Order: uint64(i), Code: code(1, 0)}); err != nil {
				return err
			}
		}
		return nil
	}}
}

// unloadable is a source for galleries that must be in memory already: it fails the test if it is loaded.
func unloadable(t *testing.T, lease context.Context) gallery.Source {
	return gallery.Source{Lease: lease, Dim: 2, Load: func(context.Context, *gallery.Gallery) error {
		t.Error("loaded again")
		return nil
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
	src.Load = func(ctx context.Context, g *gallery.Gallery) error {
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
	src.Load = func(ctx context.Context, g *gallery.Gallery) error {
		err := fill(ctx, g)
		close(half)
		<-gate
		return err
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
		src := gallery.Source{Lease: t.Context(), Dim: 2, Load: func(ctx context.Context, g *gallery.Gallery) error {
			<-ctx.Done()
			close(stopped)
			return context.Cause(ctx)
		}}
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

func TestPoolChangesReachLoadedAndLoadingGalleries(t *testing.T) {
	p := newPool(t, 1<<20)
	if _, err := size(t.Context(), p, gallery.Key{Scope: "a", Version: 1}, filled(t.Context(), 3)); err != nil {
		t.Fatal(err)
	}
	gate, read := make(chan struct{}), make(chan struct{})
	src := filled(t.Context(), 3)
	fill := src.Load
	src.Load = func(ctx context.Context, g *gallery.Gallery) error {
		err := fill(ctx, g) // the content of the store before the change
		close(read)
		<-gate
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if n, err := size(t.Context(), p, gallery.Key{Scope: "a", Version: 2}, src); n != 2 || err != nil {
			t.Errorf("the gallery that was loading has %d vectors, %v; want 2", n, err)
		}
	})
	<-read
	p.Change("a", func(g *gallery.Gallery) error {
		g.Remove(id(1))
		return nil
	})
	p.Change("b", func(g *gallery.Gallery) error { return errors.New("not yours") })
	close(gate)
	wg.Wait()
	if n, err := size(t.Context(), p, gallery.Key{Scope: "a", Version: 1}, unloadable(t, t.Context())); n != 2 ||
		err != nil {
		t.Errorf("the loaded gallery has %d vectors, %v; want 2", n, err)
	}
	p.Change("a", func(g *gallery.Gallery) error { return errors.New("cannot follow") })
	if n, err := size(t.Context(), p, gallery.Key{Scope: "a", Version: 1}, filled(t.Context(), 5)); n != 5 ||
		err != nil {
		t.Errorf("after a failed change: %d vectors, %v; want a fresh load", n, err)
	}
}

func TestPoolDropKeepsOneVersion(t *testing.T) {
	p := newPool(t, 1<<20)
	for v := range uint64(3) {
		if _, err := size(t.Context(), p, gallery.Key{Scope: "a", Version: v}, filled(t.Context(), 1)); err != nil {
			t.Fatal(err)
		}
	}
	keep := uint64(2)
	p.Drop("a", &keep)
	if s := p.Stats(); s.Galleries != 1 {
		t.Errorf("%d galleries, want the kept one", s.Galleries)
	}
	if _, err := size(t.Context(), p, gallery.Key{Scope: "a", Version: 2}, unloadable(t, t.Context())); err != nil {
		t.Error(err)
	}
	p.Drop("a", nil)
	if s := p.Stats(); s.Galleries != 0 || s.Bytes != 0 {
		t.Errorf("%+v, want nothing", s)
	}
}

func TestPoolTellsAllWaitersWhyALoadFailed(t *testing.T) {
	p := newPool(t, 1<<20)
	broken := errors.New("broken")
	gate := make(chan struct{})
	src := gallery.Source{Lease: t.Context(), Dim: 2, Load: func(context.Context, *gallery.Gallery) error {
		<-gate
		return broken
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
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 300 {
				lease, end := context.WithCancel(t.Context())
				key := gallery.Key{Scope: string(rune('a' + (w+i)%5)), Version: uint64(i % 2)}
				err := p.Use(t.Context(), key, filled(lease, 1+i%16), func(g *gallery.Gallery) error {
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
				p.Change(key.Scope, func(g *gallery.Gallery) error { g.Remove(id(i % 4)); return nil })
				if i%7 == 0 {
					p.Drop(key.Scope, &key.Version)
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
	p.Drop("a", nil)
	if got := p.Bytes(); len(got) != 1 {
		t.Errorf("after a drop: %v", got)
	}
}
