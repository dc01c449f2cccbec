package sealed_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/sealed"
)

// kept returns the epochs of spaceA whose keys are kept.
func kept(t *testing.T, s *sealed.Store) []uint32 {
	t.Helper()
	_, all := s.Epochs(t, spaceA)
	return all
}

// TestAWrongClockDestroysNothing: a process whose clock is days ahead drops no space, whose retention seems to have
// ended, and erases no record, and one whose clock is behind stores nothing. The data opens when the clock is right.
func TestAWrongClockDestroysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var behind atomic.Int64 // how far the clock of the engine's server is behind, as a time.Duration
		s, err := sealed.OpenWithClock(t.Context(), shared(t), func() time.Time {
			return time.Now().Add(-time.Duration(behind.Load()))
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Errorf("close the store: %v", err)
			}
		})
		sp := create(t, s, spaceA)
		put(t, sp, "x", note{"one", "1"})
		runs(t, s)
		synctest.Wait()
		epochs := kept(t, s)

		for _, by := range []time.Duration{49 * time.Hour, -40 * 24 * time.Hour} {
			behind.Store(int64(by))
			time.Sleep(time.Minute) // the clocks are compared
			drop := s.Spaces().Drop(t.Context(), spaceA)
			_, erasure := sp.Erase(t.Context(), func(tx sealed.Tx) error { return notes.In("x").Delete(tx, "one") })
			update := sp.Update(t.Context(), func(tx sealed.Tx) error {
				return notes.In("x").Put(tx, "two", note{"two", "2"})
			})
			for what, err := range map[string]error{"drop": drop, "erase": erasure, "update": update} {
				wrong, ok := errors.AsType[*sealed.ClockError](err)
				if !ok {
					t.Errorf("%s with a clock that is %v ahead: %v", what, by, err)
				} else if off := wrong.Off - by; off.Abs() > time.Second {
					t.Errorf("%s: the clock is %v ahead, want %v", what, wrong.Off, by)
				}
			}
		}

		behind.Store(0)
		time.Sleep(time.Minute)
		if got := all(t, sp, "x"); len(got) != 1 || got["one"] != "1" {
			t.Errorf("with the right clock there is %v", got)
		}
		if now := kept(t, s); !slices.Equal(now, epochs) {
			t.Errorf("the epoch keys %v are there, want %v", now, epochs)
		}
		if err := s.Spaces().Drop(t.Context(), spaceA); err != nil {
			t.Errorf("drop with the right clock: %v", err)
		}
	})
}
