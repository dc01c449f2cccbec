// Package keystoretest holds what every key store must do, as tests through its interface.
package keystoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keystore"
)

// Provider is a key store to be tested.
type Provider struct {
	// Open opens the place of an instance, the same one each time, as another process would.
	Open func(t testing.TB, instance format.ID) keystore.Place
	// Grade is what it earns.
	Grade keystore.Grade
	// Loose says that of two replacements of the same key at once, both may succeed.
	Loose bool
}

// Run runs the suite.
func Run(t *testing.T, p Provider) {
	t.Run("keys", func(t *testing.T) { keys(t, p) })
	t.Run("two writers", func(t *testing.T) { twoWriters(t, p) })
	t.Run("replaced", func(t *testing.T) { replaced(t, p) })
	t.Run("instances", func(t *testing.T) { instances(t, p) })
	t.Run("mark", func(t *testing.T) { mark(t, p) })
	t.Run("ended", func(t *testing.T) { ended(t, p) })
	if _, ok := p.Open(t, format.RandomID()).(keystore.Anchors); ok {
		t.Run("anchors", func(t *testing.T) { anchors(t, p) })
	}
}

// key returns the sealed form of a key, as long as they are, with bytes of all kinds.
func key(n byte) []byte { return bytes.Repeat([]byte{n, 0, 0xff, '\'', '\\'}, 25) }

func keys(t *testing.T, p Provider) {
	ctx, instance, space, other := t.Context(), format.RandomID(), format.RandomID(), format.RandomID()
	here, there := p.Open(t, instance), p.Open(t, instance)
	if grade, why := here.Grade(); grade != p.Grade || why != "" {
		t.Errorf("grade %s (%s), want %s", grade, why, p.Grade)
	}
	if here.Name() == "" {
		t.Error("it has no name")
	}
	epochs(t, here, space)
	if _, err := here.Get(ctx, space, 1); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("a key that was never there: %v", err)
	}
	if err := errors.Join(here.DestroyEpoch(ctx, space, 1), here.Destroy(ctx, space)); err != nil {
		t.Errorf("destroying what is not there: %v", err)
	}
	numbers := []uint32{1, 2, 10, 1 << 31, 1<<32 - 1}
	for i, n := range numbers {
		if err := here.Put(ctx, space, n, key(byte(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := here.Put(ctx, other, 2, key(99)); err != nil {
		t.Fatal(err)
	}
	for i, n := range numbers {
		holds(t, there, space, n, key(byte(i)))
		if err := there.Put(ctx, space, n, key(50)); !errors.Is(err, keystore.ErrExists) {
			t.Errorf("a second put of epoch %d: %v, want ErrExists", n, err)
		}
		holds(t, here, space, n, key(byte(i)))
	}
	epochs(t, there, space, numbers...)
	spaces, err := there.Spaces(ctx)
	if err != nil || len(spaces) != 2 || !slices.Contains(spaces, space) || !slices.Contains(spaces, other) {
		t.Errorf("spaces %v, %v; want both", spaces, err)
	}
	if err := there.DestroyEpoch(ctx, space, 2); err != nil {
		t.Fatal(err)
	}
	gone(t, here, space, 2)
	holds(t, here, other, 2, key(99))
	epochs(t, here, space, 1, 10, 1<<31, 1<<32-1)
	if err := there.Destroy(ctx, space); err != nil {
		t.Fatal(err)
	}
	epochs(t, here, space)
	holds(t, here, other, 2, key(99))
	if err := here.Put(ctx, space, 1, key(7)); err != nil { // a space of the same id
		t.Errorf("a put after everything was destroyed: %v", err)
	}
	holds(t, there, space, 1, key(7))
}

func twoWriters(t *testing.T, p Provider) {
	const each = 4
	instance, space := format.RandomID(), format.RandomID()
	places := []keystore.Place{p.Open(t, instance), p.Open(t, instance)}
	for epoch := uint32(1); epoch <= 8; epoch++ {
		var won atomic.Int64
		var winner atomic.Int64
		var all sync.WaitGroup
		for i := range each * len(places) {
			all.Go(func() {
				err := places[i%len(places)].Put(t.Context(), space, epoch, key(byte(i)))
				switch {
				case err == nil:
					won.Add(1)
					winner.Store(int64(i))
				case !errors.Is(err, keystore.ErrExists):
					t.Errorf("put: %v", err)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d of %d writers of the same epoch succeeded", won.Load(), each*len(places))
		}
		holds(t, places[0], space, epoch, key(byte(winner.Load())))
		if p.Loose {
			continue
		}
		won.Store(0)
		for i := range each * len(places) {
			all.Go(func() {
				err := places[i%len(places)].Replace(t.Context(), space, epoch, key(byte(winner.Load())),
					key(byte(100+i)))
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, keystore.ErrChanged):
					t.Errorf("replace: %v", err)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d of %d replacements of the same key succeeded", won.Load(), each*len(places))
		}
	}
}

func replaced(t *testing.T, p Provider) {
	ctx, instance, space := t.Context(), format.RandomID(), format.RandomID()
	here, there := p.Open(t, instance), p.Open(t, instance)
	if err := here.Replace(ctx, space, 3, key(1), key(2)); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("replacing what is not there: %v", err)
	}
	epochs(t, here, space)
	if err := here.Put(ctx, space, 3, key(1)); err != nil {
		t.Fatal(err)
	}
	if err := there.Replace(ctx, space, 3, key(9), key(2)); !errors.Is(err, keystore.ErrChanged) {
		t.Errorf("replacing something else than what is there: %v", err)
	}
	holds(t, here, space, 3, key(1))
	for n := byte(1); n < 4; n++ {
		if err := there.Replace(ctx, space, 3, key(n), key(n+1)); err != nil {
			t.Fatal(err)
		}
		holds(t, here, space, 3, key(n+1))
	}
	if err := here.Tidy(ctx, space); err != nil {
		t.Error(err)
	}
	holds(t, there, space, 3, key(4))
	epochs(t, there, space, 3)
	if err := here.DestroyEpoch(ctx, space, 3); err != nil {
		t.Fatal(err)
	}
	// One that was destroyed while another process carried it to a new root key does not come back.
	if err := there.Replace(ctx, space, 3, key(4), key(5)); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("replacing what was destroyed: %v", err)
	}
	gone(t, there, space, 3)
	epochs(t, there, space)
}

func instances(t *testing.T, p Provider) {
	ctx, space := t.Context(), format.RandomID()
	one, two := p.Open(t, format.RandomID()), p.Open(t, format.RandomID())
	if err := errors.Join(one.Put(ctx, space, 1, key(1)), two.Put(ctx, space, 1, key(2))); err != nil {
		t.Fatal(err)
	}
	if err := one.Destroy(ctx, space); err != nil {
		t.Fatal(err)
	}
	gone(t, one, space, 1)
	holds(t, two, space, 1, key(2))
}

// mark: of several that put a mark, or replace one, one succeeds, and marks of instances have nothing to do with each
// other.
func mark(t *testing.T, p Provider) {
	ctx, instance := t.Context(), format.RandomID()
	places := []keystore.Place{p.Open(t, instance), p.Open(t, instance), p.Open(t, instance)}
	is := func(want []byte) {
		t.Helper()
		for _, place := range places {
			got, err := place.Mark(ctx)
			if want == nil && !errors.Is(err, keystore.ErrNotFound) ||
				want != nil && (err != nil || !bytes.Equal(got, want)) {
				t.Fatalf("the mark is %q, %v; want %q", got, err, want)
			}
		}
	}
	is(nil)
	if err := places[0].SetMark(ctx, key(1), key(2)); !errors.Is(err, keystore.ErrChanged) {
		t.Errorf("put in place of what is not there: %v", err)
	}
	var now []byte
	for round := range 10 {
		var all sync.WaitGroup
		won := make(chan []byte, 12)
		for i := range 12 {
			next := fmt.Appendf(nil, "%d of round %d", i, round)
			all.Go(func() {
				switch err := places[i%len(places)].SetMark(ctx, now, next); {
				case err == nil:
					won <- next
				case !errors.Is(err, keystore.ErrChanged):
					t.Error(err)
				}
			})
		}
		all.Wait()
		if len(won) != 1 {
			t.Fatalf("%d of 12 writers succeeded in place of the same mark", len(won))
		}
		before := now
		now = <-won
		is(now)
		if err := places[1].SetMark(ctx, before, key(1)); !errors.Is(err, keystore.ErrChanged) {
			t.Errorf("put in place of an older mark: %v", err)
		}
	}
	if _, err := p.Open(t, format.RandomID()).Mark(ctx); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("the mark of another instance: %v", err)
	}
	if err := places[2].SetMark(ctx, now, nil); err != nil {
		t.Error(err)
	}
	is(nil)
	if err := places[0].SetMark(ctx, nil, key(3)); err != nil {
		t.Error(err)
	}
	is(key(3))
	if spaces, err := places[0].Spaces(ctx); err != nil || len(spaces) != 0 {
		t.Errorf("the spaces %v, %v", spaces, err)
	}
}

// ended: a caller who went away gets no answer that could be taken for one.
func ended(t *testing.T, p Provider) {
	space, place := format.RandomID(), p.Open(t, format.RandomID())
	if err := place.Put(t.Context(), space, 1, key(1)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if sealed, err := place.Get(ctx, space, 1); errors.Is(err, keystore.ErrNotFound) ||
		err == nil && !bytes.Equal(sealed, key(1)) {
		t.Errorf("got %x, %v", sealed, err)
	}
	if list, err := place.List(ctx, space); err == nil && len(list) != 1 {
		t.Errorf("listed %v without an error", list)
	}
	holds(t, place, space, 1, key(1))
}

func anchors(t *testing.T, p Provider) {
	ctx, instance, space := t.Context(), format.RandomID(), format.RandomID()
	here, there := p.Open(t, instance).(keystore.Anchors), p.Open(t, instance).(keystore.Anchors)
	is := func(want []byte) {
		t.Helper()
		got, err := there.Anchor(ctx, space)
		if want == nil && !errors.Is(err, keystore.ErrNotFound) ||
			want != nil && (err != nil || !bytes.Equal(got, want)) {
			t.Errorf("the anchor is %x, %v; want %x", got, err, want)
		}
		spaces, err := there.Anchored(ctx)
		if err != nil || slices.Contains(spaces, space) != (want != nil) {
			t.Errorf("spaces with anchors: %v, %v", spaces, err)
		}
	}
	is(nil)
	if err := here.SetAnchor(ctx, space, key(1), key(2)); !errors.Is(err, keystore.ErrChanged) {
		t.Errorf("put in place of what is not there: %v", err)
	}
	if err := here.SetAnchor(ctx, space, nil, key(1)); err != nil {
		t.Fatal(err)
	}
	is(key(1))
	for _, from := range [][]byte{nil, key(2)} {
		if err := there.SetAnchor(ctx, space, from, key(3)); !errors.Is(err, keystore.ErrChanged) {
			t.Errorf("put in place of something else: %v", err)
		}
	}
	var won atomic.Int64
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			place := here
			if i%2 == 1 {
				place = there
			}
			if err := place.SetAnchor(ctx, space, key(1), key(byte(10+i))); err == nil {
				won.Add(1)
			} else if !errors.Is(err, keystore.ErrChanged) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of 8 writers succeeded in the place of the same anchor", won.Load())
	}
	now, err := here.Anchor(ctx, space)
	if err != nil {
		t.Fatal(err)
	}
	if err := there.SetAnchor(ctx, space, now, nil); err != nil {
		t.Fatal(err)
	}
	is(nil)
	if err := here.SetAnchor(ctx, space, nil, key(5)); err != nil {
		t.Fatal(err)
	}
	is(key(5))
}

func holds(t testing.TB, p keystore.Place, space format.ID, epoch uint32, want []byte) {
	t.Helper()
	if got, err := p.Get(t.Context(), space, epoch); err != nil || !bytes.Equal(got, want) {
		t.Errorf("epoch %d is %x, %v; want %x", epoch, got, err, want)
	}
}

func gone(t testing.TB, p keystore.Place, space format.ID, epoch uint32) {
	t.Helper()
	if got, err := p.Get(t.Context(), space, epoch); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("epoch %d is %x, %v; want ErrNotFound", epoch, got, err)
	}
}

func epochs(t testing.TB, p keystore.Place, space format.ID, want ...uint32) {
	t.Helper()
	got, err := p.List(t.Context(), space)
	slices.Sort(got)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) && len(got)+len(want) > 0 {
		t.Errorf("epochs %v, %v; want %v", got, err, want)
	}
}
