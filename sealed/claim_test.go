package sealed_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// shared returns the configuration of stores that share one engine and one key store.
func shared(t *testing.T) sealed.Config {
	t.Helper()
	cfg := config(t, "memory")
	cfg.Engine, cfg.Shared = "memory:"+t.Name(), true
	return cfg
}

func openPausable(t *testing.T, cfg sealed.Config) (*sealed.Store, *sealed.Process) {
	t.Helper()
	s, process, err := sealed.OpenPausable(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s, process
}

func claim(t *testing.T, s *sealed.Store, name string) *sealed.Claim {
	t.Helper()
	c, err := s.Claim(t.Context(), name, 9*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestClaimsAreOfOneStore has two stores claim the same name, in turn, and one of them twice.
func TestClaimsAreOfOneStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := shared(t)
		a, b := open(t, cfg), open(t, cfg)
		sp := create(t, a, spaceA)
		first := claim(t, a, "job")
		for range 20 { // it is renewed, however often the others ask
			for _, s := range []*sealed.Store{a, b} {
				if _, err := s.Claim(t.Context(), "job", 9*time.Second); !errors.Is(err, sealed.ErrClaimed) {
					t.Fatalf("claim what is claimed: %v", err)
				}
			}
			time.Sleep(time.Second)
		}
		other := claim(t, b, "other job")
		if other.Fence() <= first.Fence() {
			t.Errorf("claim %d came after claim %d", other.Fence(), first.Fence())
		}
		if err := sp.Update(t.Context(), first.Check); err != nil {
			t.Errorf("check what is held: %v", err)
		}
		first.Release()
		first.Release()
		if err := context.Cause(first.Context()); !errors.Is(err, sealed.ErrClaimLost) {
			t.Errorf("a claim that was given back ends with %v", err)
		}
		second := claim(t, b, "job") // at once
		if second.Fence() <= other.Fence() {
			t.Errorf("claim %d came after claim %d", second.Fence(), other.Fence())
		}
		if err := sp.Update(t.Context(), first.Check); !errors.Is(err, sealed.ErrClaimLost) {
			t.Errorf("check what was given back: %v", err)
		}
		second.Release()
	})
}

// TestBusyProcessIsNotTakenForDead: a process whose snapshots are all in use by long reads renews its row all the same,
// so that it writes on, and others count it.
func TestBusyProcessIsNotTakenForDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := shared(t)
		a, process := openPausable(t, cfg)
		b := open(t, cfg)
		sp := create(t, a, spaceA)
		free := process.Occupy()
		for range 60 {
			time.Sleep(time.Second)
			if n := b.Replicas(); n != 2 {
				t.Errorf("%d processes have the store open, want 2", n)
				break
			}
		}
		free()
		put(t, sp, "x", note{"1", "one"})
	})
}

// TestClaimOfOneThatIsPaused has a process stop renewing: another one gets its claim when it has watched it for the
// whole time, and not before; and what the first one still tries to write under it fails.
func TestClaimOfOneThatIsPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := shared(t)
		a, process := openPausable(t, cfg)
		b := open(t, cfg)
		sp := create(t, a, spaceA)
		lost := claim(t, a, "job")
		process.Pause()
		began := time.Now()
		var taken *sealed.Claim
		for taken == nil {
			c, err := b.Claim(t.Context(), "job", 9*time.Second)
			switch {
			case err == nil:
				taken = c
			case !errors.Is(err, sealed.ErrClaimed):
				t.Fatal(err)
			default:
				if err := sp.Update(t.Context(), lost.Check); err != nil {
					t.Errorf("check what nobody has taken: %v", err)
				}
				time.Sleep(500 * time.Millisecond)
			}
		}
		if waited := time.Since(began); waited < 9*time.Second || waited > 10*time.Second {
			t.Errorf("it was taken over after %v", waited)
		}
		if lost.Context().Err() != nil {
			t.Fatal("a process that is paused cannot know")
		}
		if err := sp.Update(t.Context(), lost.Check); !errors.Is(err, sealed.ErrClaimLost) {
			t.Errorf("check what was lost: %v", err)
		}
		process.Resume()
		<-lost.Context().Done()
		lost.Release()
		if err := b.Space(spaceA).Update(t.Context(), taken.Check); err != nil {
			t.Errorf("the one that lost a claim has given back what another one holds: %v", err)
		}
	})
}

// TestClaimsEndWithTheStore closes a store, whose claims are then free.
func TestClaimsEndWithTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := shared(t)
		a, b := open(t, cfg), open(t, cfg)
		c := claim(t, a, "job")
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if err := context.Cause(c.Context()); !errors.Is(err, sealed.ErrClosed) {
			t.Errorf("the claim ended with %v", err)
		}
		if _, err := a.Claim(t.Context(), "another", time.Minute); !errors.Is(err, sealed.ErrClosed) {
			t.Errorf("claim in a store that is closed: %v", err)
		}
		claim(t, b, "job").Release()
	})
}

// TestClaimsOfOneProcess claims in a store that nobody shares.
func TestClaimsOfOneProcess(t *testing.T) {
	for _, engine := range []string{"memory", "pebble"} {
		t.Run(engine, func(t *testing.T) {
			cfg := config(t, engine)
			cfg.Shared = true // of an engine that cannot be
			s := open(t, cfg)
			if s.Shared() || s.Replicas() != 1 {
				t.Errorf("shared: %t, %d replicas", s.Shared(), s.Replicas())
			}
			c := claim(t, s, "job")
			if _, err := s.Claim(t.Context(), "job", time.Minute); !errors.Is(err, sealed.ErrClaimed) {
				t.Errorf("claim what is claimed: %v", err)
			}
			sp := create(t, s, spaceA)
			if err := sp.Update(t.Context(), c.Check); err != nil {
				t.Error(err)
			}
			c.Release()
			if err := sp.Update(t.Context(), c.Check); !errors.Is(err, sealed.ErrClaimLost) {
				t.Errorf("check what was given back: %v", err)
			}
			if again := claim(t, s, "job"); again.Fence() <= c.Fence() {
				t.Errorf("claim %d came after claim %d", again.Fence(), c.Fence())
			}
		})
	}
}

// TestReplicasAreCounted opens and closes stores, and lets one die.
func TestReplicasAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := shared(t)
		a := open(t, cfg)
		_, process := openPausable(t, cfg)
		want := func(n int) {
			t.Helper()
			time.Sleep(4 * time.Second)
			if got := a.Replicas(); got != n {
				t.Errorf("%d replicas, want %d", got, n)
			}
		}
		want(2)
		c := open(t, cfg)
		want(3)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		want(2)
		process.Pause()
		time.Sleep(5 * time.Second)
		want(2)
		time.Sleep(15 * time.Second)
		want(1)
		process.Resume()
		time.Sleep(4 * time.Second) // what it was about to do when it was paused is too late
		want(2)
	})
}

// TestReplicasTellOneAnother announces a note, replaces it, and takes it along when a process has to join anew.
func TestReplicasTellOneAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := shared(t)
		a := open(t, cfg)
		b, process := openPausable(t, cfg)
		want := func(notes ...string) {
			t.Helper()
			time.Sleep(7 * time.Second) // two looks, and a process that joins anew
			var got []string
			for _, m := range a.Members() {
				got = append(got, string(m.Note))
			}
			if !slices.Equal(got, notes) {
				t.Errorf("the members say %q, want %q", got, notes)
			}
		}
		announce := func(s *sealed.Store, note string) {
			t.Helper()
			if err := s.Announce(t.Context(), []byte(note)); err != nil {
				t.Fatal(err)
			}
		}
		want("", "")
		announce(a, "I am a")
		announce(b, "I am b")
		want("I am a", "I am b")
		announce(b, "I was b")
		want("I am a", "I was b")
		process.Pause()
		time.Sleep(20 * time.Second)
		want("I am a")
		process.Resume()
		want("I am a", "I was b")
		if all := a.Members(); len(all) != 2 || !all[0].Self || all[1].Self || all[0].ID == all[1].ID {
			t.Errorf("members %+v", all)
		}
		if err := b.Announce(t.Context(), make([]byte, 2000)); err == nil {
			t.Error("a note without a limit")
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		want("I am a")
		if err := b.Announce(t.Context(), nil); !errors.Is(err, sealed.ErrClosed) {
			t.Errorf("announce with a closed store: %v", err)
		}
	})
}

// TestOneStoreAlone: a store that is not shared keeps every other one out, and is kept out, until those in the way have
// closed theirs or have not answered for long.
func TestOneStoreAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := shared(t)
		alone := cfg
		alone.Shared = false
		refused := func(cfg sealed.Config) {
			t.Helper()
			if s, err := sealed.Open(t.Context(), cfg); !errors.Is(err, sealed.ErrInUse) {
				t.Errorf("opened beside another one: %v, %v", s, err)
			}
		}
		a, process := openPausable(t, alone)
		refused(alone)
		refused(cfg)
		sp := create(t, a, spaceA)
		process.Pause()
		b := open(t, cfg)
		if err := sp.Update(t.Context(), func(tx sealed.Tx) error {
			return notes.In("x").Put(tx, "1", note{"1", "one"})
		}); !errors.Is(err, sealed.ErrInUse) {
			t.Errorf("the one that was taken for dead writes: %v", err)
		}
		process.Resume()
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		refused(alone)
		c := open(t, cfg)
		if err := errors.Join(b.Close(), c.Close()); err != nil {
			t.Fatal(err)
		}
		refilled := open(t, alone) // it forgot everything with the last of them
		if ids, err := refilled.Spaces().List(t.Context()); err != nil || len(ids) != 1 {
			t.Errorf("spaces %v, %v", ids, err)
		}
	})
}

// TestAbsentReplicaAsksForPatience: what one does that others took for dead, before it takes part again, is refused so
// that callers try again.
func TestAbsentReplicaAsksForPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := shared(t)
		a, process := openPausable(t, cfg)
		sp := create(t, a, spaceA)
		open(t, cfg)
		process.Pause()
		time.Sleep(90 * time.Second) // its row is removed
		write := func() error {
			return sp.Update(t.Context(), func(tx sealed.Tx) error {
				return notes.In("x").Put(tx, "1", note{"1", "one"})
			})
		}
		err := write()
		if out, ok := errors.AsType[visage.Outage](err); !ok || !strings.Contains(out.Outage(), "Try again") ||
			!errors.Is(err, sealed.ErrInUse) {
			t.Errorf("a replica without its row writes: %v", err)
		}
		process.Resume()
		time.Sleep(4 * time.Second)
		if err := write(); err != nil {
			t.Errorf("when it takes part again: %v", err)
		}
	})
}

// TestMembersAreSurveyed: each process knows the others, what they hold, and when they have gone silent.
func TestMembersAreSurveyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := shared(t)
		a, process := openPausable(t, cfg)
		b := open(t, cfg)
		if err := a.Announce(t.Context(), []byte("I am A")); err != nil {
			t.Fatal(err)
		}
		defer claim(t, a, "job").Release()
		other := func() sealed.MemberStatus {
			t.Helper()
			all, err := b.Survey(t.Context())
			if err != nil || len(all) != 2 || !all[0].Self || all[1].Self {
				t.Fatalf("the members are %+v (%v)", all, err)
			}
			return all[1]
		}
		time.Sleep(10 * time.Second) // A renews its row, and what it told stays
		m := other()
		if string(m.Note) != "I am A" || !slices.Equal(m.Claims, []string{"job"}) || m.Expired {
			t.Errorf("A is %+v", m)
		}
		process.Pause()
		time.Sleep(20 * time.Second)
		if m := other(); !m.Expired || m.Silent < 15*time.Second || m.Claims != nil {
			t.Errorf("A, which is paused, is %+v", m)
		}
		time.Sleep(time.Minute)
		if all, err := b.Survey(t.Context()); err != nil || len(all) != 1 {
			t.Errorf("after a minute: %+v (%v)", all, err)
		}
		c := open(t, cfg) // it knows nothing of A, and does not wait to see it silent
		if n := len(c.Members()); n != 2 {
			t.Errorf("a process that starts later counts %d, not itself and B", n)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		process.Resume()
		time.Sleep(4 * time.Second)
		if m := other(); string(m.Note) != "I am A" || m.Expired {
			t.Errorf("A, which goes on, is %+v", m)
		}
	})
}
