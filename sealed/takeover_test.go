package sealed_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/sealed"
)

// turns counts the turns of the keys of spaceA, from some number on.
func turns(t *testing.T, s *sealed.Store) uint32 {
	t.Helper()
	current, _ := s.Epochs(t, spaceA)
	return current
}

func deleteOne(t *testing.T, s *sealed.Store, id string) {
	t.Helper()
	update(t, s.Space(spaceA), func(tx sealed.Tx) error { return notes.In("x").Delete(tx, id) })
}

// TestErasureOfAKilledReplica has a process delete and end before the keys are turned: one of the others that have the
// space open turns them, once, whether it uses the space or not.
func TestErasureOfAKilledReplica(t *testing.T) {
	for name, use := range map[string]bool{"used": true, "idle": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := shared(t)
				a, b, c := open(t, cfg), open(t, cfg), open(t, cfg)
				create(t, a, spaceA)
				put(t, a.Space(spaceA), "x", note{"one", "1"}, note{"two", "2"})
				put(t, b.Space(spaceA), "x", note{"three", "3"})
				put(t, c.Space(spaceA), "x", note{"four", "4"})
				eraseOne(t, a.Space(spaceA), "x", "two") // others have turned the keys when b and c look
				runs(t, b)
				runs(t, c)
				time.Sleep(time.Minute)
				before := turns(t, b)
				deleteOne(t, a, "one") // a does not run: it is killed here
				for range 12 {
					time.Sleep(10 * time.Second)
					if use {
						put(t, b.Space(spaceA), "x", note{"three", "3"})
					}
				}
				if after := turns(t, b); after != before+1 {
					t.Errorf("2 minutes after the deletion: %d turns, want 1", after-before)
				}
				time.Sleep(time.Hour)
				if after := turns(t, b); after != before+1 {
					t.Errorf("an hour after the deletion: %d turns, want 1", after-before)
				}
			})
		})
	}
}

// TestErasureWhileItsReplicaLives: others do not turn the keys for a process that does so itself.
func TestErasureWhileItsReplicaLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := shared(t)
		a, b := open(t, cfg), open(t, cfg)
		create(t, a, spaceA)
		put(t, b.Space(spaceA), "x", note{"1", "1"})
		runs(t, a)
		runs(t, b)
		time.Sleep(time.Minute)
		before, deletions := turns(t, a), uint32(0)
		for range 20 {
			put(t, a.Space(spaceA), "x", note{"1", "1"})
			deleteOne(t, a, "1")
			deletions++
			time.Sleep(17 * time.Second)
		}
		if n := turns(t, a) - before; n != deletions {
			t.Errorf("%d turns for %d deletions, each with time for its own", n, deletions)
		}
	})
}

// TestErasureInASpaceThatNobodyHasOpen: the keys are turned when somebody opens it.
func TestErasureInASpaceThatNobodyHasOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := shared(t)
		a, b := open(t, cfg), open(t, cfg)
		create(t, a, spaceA)
		put(t, a.Space(spaceA), "x", note{"one", "1"}, note{"two", "2"})
		before := turns(t, b)
		deleteOne(t, a, "one")
		b.Bundle(spaceA).Lock(errors.New("the test locks it")) // at a, too
		runs(t, b)
		time.Sleep(time.Hour)
		if after := turns(t, b); after != before {
			t.Fatalf("%d turns while the space is locked", after-before)
		}
		if err := b.Bundle(spaceA).Load(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if after := turns(t, b); after != before+1 {
			t.Errorf("%d turns after it was opened, want 1", after-before)
		}
	})
}

// TestKeysOfAKilledReplica has a process end after a turn, and before it has destroyed the keys from before.
func TestKeysOfAKilledReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := shared(t)
		b := open(t, cfg)
		a, process := openPausable(t, cfg)
		create(t, b, spaceA)
		put(t, b.Space(spaceA), "x", note{"one", "1"})
		runs(t, b)
		time.Sleep(time.Minute)
		eraseOne(t, a.Space(spaceA), "x", "one")
		current, _ := a.Epochs(t, spaceA)
		a.LeaveEpoch(t, spaceA, current-1) // as if it had got no further than the turn
		process.Pause()
		time.Sleep(2 * time.Minute)
		if _, left := b.Epochs(t, spaceA); !slices.Equal(left, []uint32{current}) {
			t.Errorf("epoch keys after two minutes: %v, want %d, the current one", left, current)
		}
		process.Resume()
		time.Sleep(time.Minute) // it joins again, to be closed
	})
}

// TestStatesOfAKilledReplica: what a process wrote in its last minute is known to the root container and the anchors
// a few minutes later, so that going back to before is seen. Another process has the space open, or opens it later.
func TestStatesOfAKilledReplica(t *testing.T) {
	for _, later := range []bool{false, true} {
		t.Run(fmt.Sprint("opened later ", later), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := shared(t)
				cfg.AnchorDir = t.TempDir()
				b := open(t, cfg)
				a, process := openPausable(t, cfg)
				create(t, a, spaceA)
				put(t, a.Space(spaceA), "x", note{"one", "1"})
				use := func() { // it never looks at x
					if err := b.Space(spaceA).View(t.Context(), func(sealed.Reader) error { return nil }); err != nil {
						t.Fatal(err)
					}
				}
				if !later {
					use()
				}
				runs(t, b)
				time.Sleep(3 * time.Minute)
				ofContainers := func(r sealed.Row) bool { return r.Space == spaceA && r.Container != "" && !r.Root() }
				earlier := rowsOf(t, b, ofContainers)
				put(t, a.Space(spaceA), "x", note{"one", "changed"})
				process.Pause() // it is killed
				if later {
					use()
				}
				time.Sleep(5 * time.Minute)
				putBack(t, b, earlier, ofContainers)
				err := b.Space(spaceA).View(t.Context(), func(r sealed.Reader) error {
					_, err := notes.In("x").Get(r, "one")
					return err
				})
				if !isCorruption(err) {
					t.Errorf("the container of a minute earlier: %v, want that it is found", err)
				}
				process.Resume()
				time.Sleep(time.Minute) // it joins again, to be closed
			})
		})
	}
}

// TestErasureWithoutAnAnswer: a deletion whose commit was made, but not acknowledged, is erased.
func TestErasureWithoutAnAnswer(t *testing.T) {
	for _, alone := range []bool{false, true} {
		t.Run(fmt.Sprint("alone ", alone), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, process := openPausable(t, shared(t))
				sp := create(t, s, spaceA)
				put(t, sp, "x", note{"one", "1"})
				runs(t, s)
				time.Sleep(time.Minute)
				before := turns(t, s)
				process.LoseAnswers(true)
				var err error
				if alone {
					err = notes.In("x").Drop(t.Context(), sp)
				} else {
					err = sp.Update(t.Context(), func(tx sealed.Tx) error { return notes.In("x").Delete(tx, "one") })
				}
				process.LoseAnswers(false)
				if !errors.Is(err, sealed.ErrAnswer) {
					t.Fatalf("got %v", err)
				}
				time.Sleep(15 * time.Second)
				if turns(t, s) == before {
					t.Error("the keys were not turned")
				}
			})
		})
	}
}
