package sealed_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// stores are the sources of several keys by their identifier. Slots of other keys are left to others.
type stores map[string]keysource.Source

func (s stores) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	src := s[ref.URI]
	if src == nil {
		return nil, sealed.ErrOtherSlot
	}
	return src.Unwrap(ctx, ref, blob)
}

func (s stores) Wrap(context.Context, []byte) ([]byte, keysource.Ref, error) {
	return nil, keysource.Ref{}, errors.New("this source only opens")
}

func (s stores) Describe(context.Context, keysource.Ref) (keysource.Description, error) {
	return keysource.Description{}, errors.New("this source only opens")
}

// TestSlotsOpenAlike wraps a data key by three keys: each of them opens it, none asks another one, and a key that is
// not among them opens nothing.
func TestSlotsOpenAlike(t *testing.T) {
	engines(t, func(t *testing.T, cfg sealed.Config) {
		ctx := t.Context()
		s := open(t, cfg)
		put(t, create(t, s, spaceA), "a", note{"1", "one"})
		b := s.Bundle(spaceA)
		one, two, three := sourcetest.NewFake("one"), sourcetest.NewFake("two"), sourcetest.NewFake("three")
		generation, err := b.Wrap(ctx, one, two, three)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(b.Turn(ctx, generation, one), b.Retire(ctx, one)); err != nil {
			t.Fatal(err)
		}
		keys, err := b.Keys(ctx)
		if err != nil || len(keys.Slots) != 3 || keys.Turning {
			t.Fatalf("keys %+v, %v", keys, err)
		}
		for i, fake := range []*sourcetest.Fake{one, two, three} {
			uri := keys.Slots[i].Ref.URI
			if err := b.Probe(ctx, uri, fake); err != nil {
				t.Errorf("probe of %s: %v", uri, err)
			}
			b.Lock(errors.New("restart"))
			if err := b.Load(ctx, stores{uri: fake}); err != nil {
				t.Errorf("load with %s: %v", uri, err)
			}
			if got := all(t, s.Space(spaceA), "a"); fmt.Sprint(got) != "map[1:one]" {
				t.Errorf("with %s: %v", uri, got)
			}
		}
		if err := b.Probe(ctx, "fake:four", one); err == nil {
			t.Error("a key without a slot has a probe")
		}
		b.Lock(errors.New("restart"))
		if err := b.Load(ctx, stores{"fake:four": one}); !errors.Is(err, sealed.ErrLocked) {
			t.Errorf("load without any of the keys: %v", err)
		}
		one.Fail(keysource.ErrDenied)
		both := stores{"fake:one": one, "fake:two": two}
		if err := b.Load(ctx, both); !errors.Is(err, keysource.ErrDenied) {
			t.Errorf("the second key opens what the first one refuses: %v", err)
		}
	})
}

// TestSlotsChange adds, removes and rewraps slots.
func TestSlotsChange(t *testing.T) {
	ctx := t.Context()
	s := open(t, config(t, "memory"))
	put(t, create(t, s, spaceA), "a", note{"1", "one"})
	b := s.Bundle(spaceA)
	one, two := sourcetest.NewFake("one"), sourcetest.NewFake("two")
	generation, err := b.Wrap(ctx, one)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Turn(ctx, generation, one), b.Retire(ctx, one)); err != nil {
		t.Fatal(err)
	}
	slots := func(want ...string) (at uint32) {
		t.Helper()
		keys, err := b.Keys(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, slot := range keys.Slots {
			got, at = append(got, slot.Ref.URI), slot.Generation
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("slots of %v, want %v", got, want)
		}
		return at
	}
	reload := func(uri string, src keysource.Source) {
		t.Helper()
		b.Lock(errors.New("restart"))
		if err := b.Load(ctx, stores{uri: src}); err != nil {
			t.Errorf("load with %s: %v", uri, err)
		}
	}
	before := slots("fake:one")
	if err := b.Rewrap(ctx, one, one, two); err != nil {
		t.Fatal(err)
	}
	after := slots("fake:one", "fake:two")
	if after != before+1 {
		t.Errorf("generation %d, then %d: a slot is added to an old data key", before, after)
	}
	reload("fake:two", two)

	// In its slot alone, a key wraps the same data key, and the other one is not asked.
	one.Fail(keysource.ErrUnknown)
	if err := b.RewrapSlot(ctx, "fake:two", two); err != nil {
		t.Fatal(err)
	}
	if at := slots("fake:one", "fake:two"); at != after {
		t.Errorf("generation %d, then %d", after, at)
	}
	reload("fake:two", two)

	// A key that does not answer leaves everything as it is, and so does one that is there twice.
	if err := b.Rewrap(ctx, stores{"fake:two": two}, one, two); !errors.Is(err, keysource.ErrUnknown) {
		t.Errorf("rewrapped by a key that gives no answer: %v", err)
	}
	if err := b.Rewrap(ctx, stores{"fake:two": two}, two, two); err == nil {
		t.Error("one key has two slots")
	}
	if err := b.RewrapSlot(ctx, "fake:one", two); err == nil {
		t.Error("one key takes the slot of another")
	}
	slots("fake:one", "fake:two")

	// Closed, the same data key is wrapped anew by those that remain.
	b.Lock(errors.New("closed"))
	if err := b.Rewrap(ctx, stores{"fake:two": two}, two); err != nil {
		t.Fatal(err)
	}
	if at := slots("fake:two"); at != after {
		t.Errorf("generation %d, then %d, while the space was closed", after, at)
	}
	one.Fail(nil)
	if err := b.Load(ctx, stores{"fake:one": one}); !errors.Is(err, sealed.ErrLocked) {
		t.Errorf("a key that was removed still opens: %v", err)
	}
	reload("fake:two", two)
	four := []keysource.Source{one, two, sourcetest.NewFake("three"), sourcetest.NewFake("four")}
	if err := b.Rewrap(ctx, two, four...); err == nil {
		t.Error("four keys wrap one data key")
	}
}
