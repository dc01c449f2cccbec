package sealed_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/visage-face/visage/sealed"
)

// TestDyingAnywhereLosesNothingAndErasesAll lets the machine die at each change of the store or the key store in turn,
// before and after it is done, while records are put, folded, erased, dropped and keys are turned. Afterwards what was
// acknowledged is there, what was under way is there or not, nothing is damaged, and once Run has finished what was
// begun, no key that exists opens what was deleted, in any copy from before.
func TestDyingAnywhereLosesNothingAndErasesAll(t *testing.T) {
	tried := 0
	for _, done := range []bool{false, true} {
		for die := 0; ; die++ {
			died := dieAt(t, die, done)
			if t.Failed() {
				t.Fatalf("died at %d, done %t", die, done)
			}
			if !died {
				tried += die
				break
			}
		}
	}
	t.Logf("died at %d points", tried)
	if tried < 50 {
		t.Errorf("only %d points to die at", tried)
	}
}

func dieAt(t *testing.T, die int, done bool) (died bool) {
	t.Helper()
	ctx := t.Context()
	cfg := config(t, "memory")
	m := sealed.NewMachine()
	s, err := m.Start(t, cfg, -1, false)
	if err != nil {
		t.Fatal(err)
	}
	s.SmallPages()
	create(t, s, spaceA)
	for i := range 30 {
		put(t, s.Space(spaceA), "a", note{fmt.Sprint(i), fmt.Sprintf("<a %d>", i)})
	}
	put(t, s.Space(spaceA), "b", note{"1", "<b 1>"})
	loot := sealed.NewLoot()
	loot.Copy(t, s)

	if s, err = m.Start(t, cfg, die, done); err == nil {
		s.SmallPages()
	}
	want := map[string]string{} // of container a
	for i := range 30 {
		want[fmt.Sprint(i)] = fmt.Sprintf("<a %d>", i)
	}
	maybe := maps.Clone(want) // what it is if the step under way has happened
	gone := map[string]bool{}
	dropped := 0 // 1: perhaps, 2: certainly
	if err == nil {
		sp := s.Space(spaceA)
		deleting := func(ids ...string) func(sealed.Tx) error {
			return func(tx sealed.Tx) error {
				for _, id := range ids {
					if err := notes.In("a").Delete(tx, id); err != nil {
						return err
					}
				}
				return nil
			}
		}
		putting := func(id, text string) func() error {
			return func() error {
				maybe[id] = text
				return sp.Update(ctx, func(tx sealed.Tx) error { return notes.In("a").Put(tx, id, note{id, text}) })
			}
		}
		erasing := func(ids ...string) func() error {
			return func() error {
				for _, id := range ids {
					delete(maybe, id)
				}
				_, err := sp.Erase(ctx, deleting(ids...))
				return err
			}
		}
		turning := func() error {
			b := s.Bundle(spaceA)
			generation, err := b.Wrap(ctx, nil)
			if err == nil {
				err = b.Turn(ctx, generation, nil)
			}
			if err == nil {
				err = b.Retire(ctx, nil)
			}
			return err
		}
		for _, step := range []func() error{
			putting("new", "<a new>"),
			erasing("3"),
			func() error { return sp.Fold(ctx) },
			erasing("4", "5", "29"),
			func() error { return s.Anchor(ctx) },
			turning,
			putting("6", "<a 6 again>"),
			func() error { delete(maybe, "7"); return sp.Update(ctx, deleting("7")) },
			func() error { dropped = 1; return notes.In("b").Drop(ctx, sp) },
			func() error { dropped = 2; return s.Bundle(spaceA).Turn(ctx, 2, nil) },
		} {
			if err = step(); err != nil {
				break
			}
			for id, text := range want {
				if _, lives := maybe[id]; !lives {
					gone[text] = true
				}
			}
			want = maps.Clone(maybe)
		}
	}
	if died = m.Died(); died != errors.Is(err, sealed.ErrDied) {
		t.Fatalf("died %t, and the error is %v", died, err)
	}

	if s, err = m.Start(t, cfg, -1, false); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.SmallPages()
	sp := s.Space(spaceA)
	verifyClean(t, s)
	got := all(t, sp, "a")
	if !maps.Equal(got, want) && !maps.Equal(got, maybe) {
		t.Errorf("got %v\nwant %v\n  or %v", got, want, maybe)
	}
	if b := all(t, sp, "b"); dropped == 2 && len(b) > 0 || dropped == 0 && len(b) != 1 {
		t.Errorf("container b has %v", b)
	}

	// Whatever is under way is finished by Run, at the latest when something is erased again.
	run, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- s.Run(run) }()
	erase(t, sp, "a", "8")
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := len(m.Epochs(spaceA)); n != 1 {
		keys, _ := s.Bundle(spaceA).Keys(ctx)
		if !keys.Turning {
			t.Errorf("%d epochs are left, and no turn is under way", n)
		}
	}
	for id := range got {
		if _, lives := all(t, sp, "a")[id]; !lives {
			gone[fmt.Sprintf("<a %s>", id)] = true
		}
	}
	loot.Copy(t, s)
	loot.Keys(t, sp)
	found := loot.Open(t, s, spaceA)
	for text := range gone {
		if holds(found, text) {
			t.Errorf("%s was erased and opens", text)
		}
	}
	for _, text := range all(t, sp, "a") {
		if !holds(found, text) {
			t.Errorf("%s lives and opens in no copy", text)
		}
	}
	verifyClean(t, s)
	return died
}
