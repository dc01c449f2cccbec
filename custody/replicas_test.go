package custody_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// replicas are two processes over one store and the same vaults, both with a running custody.
func replicas(t *testing.T) (a, b *storeAndVaults) {
	t.Helper()
	cfg := memory()
	cfg.Engine, cfg.Shared = "memory:"+t.Name(), true
	heard := func(r **storeAndVaults) func(sealed.Event) { // custody hears of the locks of its store
		return func(e sealed.Event) {
			if *r != nil && (*r).custody != nil && errors.Is(e.Err, sealed.ErrLockedElsewhere) {
				(*r).custody.LockedElsewhere(e.Space)
			}
		}
	}
	cfg.Report = heard(&a)
	a = newStoreAndVaults(t, cfg)
	cfg.Report = heard(&b)
	b = &storeAndVaults{t: t, cfg: cfg, journal: a.journal, vaults: a.vaults}
	b.openStore()
	b.openCustody()
	t.Cleanup(b.close)
	a.run()
	b.run()
	return a, b
}

// soon is how long a process may take to follow another.
const soon = time.Second

// within wants a state within a time.
func (r *storeAndVaults) within(d time.Duration, what string, is func(custody.Status) bool) {
	r.t.Helper()
	begun := time.Now()
	r.until(spaceA, what, is)
	if took := time.Since(begun); took > d {
		r.t.Errorf("%s took %v, want %v at most", what, took, d)
	}
}

func in(c custody.Condition) func(custody.Status) bool {
	return func(s custody.Status) bool { return s.Condition == c }
}

// TestReplicasFollowAKey: enabling, a refusal that one hears of, the key given back, and disabling.
func TestReplicasFollowAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := replicas(t)
		key := a.first().add("k1")
		a.enabled(spaceA, key)
		b.within(soon, "the key that another process has enabled", func(s custody.Status) bool {
			return s.Condition == custody.Active && s.Key == key && s.Version == key.Version
		})
		if err := b.read(spaceA); err != nil {
			t.Errorf("read under the key that another process has enabled: %v", err)
		}
		time.Sleep(5 * time.Second) // of the bubble: the next polls are far away
		a.first().enable("k1", false)
		a.custody.Recheck(key) // as the built-in vault does in the process that changes the key
		a.within(soon, "the lock", in(custody.Revoked))
		b.within(soon, "the lock by what another process has heard", in(custody.Revoked))
		wantRefusal(t, b.read(spaceA), "EncryptionKeyRevoked")
		a.first().enable("k1", true)
		a.custody.Recheck(key)
		a.within(soon, "the restoration", in(custody.Active))
		b.within(soon, "the restoration by what another process has heard", in(custody.Active))
		if err := b.read(spaceA); err != nil {
			t.Error(err)
		}
		if _, err := b.custody.Disable(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		a.within(soon, "the end of the customer's key", in(custody.ServiceManaged))
		if err := a.read(spaceA); err != nil {
			t.Errorf("read under the service's key again: %v", err)
		}
		time.Sleep(2 * time.Hour) // of the bubble: longer than the grace
		if err := a.read(spaceA); err != nil {
			t.Errorf("read under the service's key, long after: %v", err)
		}
	})
}

// TestReplicasFollowTheOwner: a lock is of all processes at once, and so is its end.
func TestReplicasFollowTheOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := replicas(t)
		a.enabled(spaceA, a.first().add("k1"))
		b.within(soon, "the key", in(custody.Active))
		if err := a.custody.Lock(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		if err := b.read(spaceA); !errors.Is(err, sealed.ErrLocked) {
			t.Errorf("read at another process after the lock: %v", err)
		}
		b.within(soon, "the owner's lock", in(custody.Locked))
		time.Sleep(2 * time.Minute) // of the bubble: polls do not open it
		if err := b.read(spaceA); !errors.Is(err, sealed.ErrLocked) {
			t.Errorf("read at another process two minutes after the lock: %v", err)
		}
		if err := b.custody.Unlock(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		a.within(soon, "the unlock", in(custody.Active))
		b.within(soon, "the unlock", in(custody.Active))
	})
}

// TestALockThatIsFoundBeforeItIsStored: a process that finds the fence moved, and asks the key before the lock is
// stored, opens the data again. It refuses them all the same when Lock has returned.
func TestALockThatIsFoundBeforeItIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := replicas(t)
		key := a.first().add("k1")
		a.enabled(spaceA, key)
		b.within(soon, "the key", in(custody.Active))
		time.Sleep(5 * time.Second) // of the bubble: the next polls are far away

		// What A writes about a refusal waits, and with it all that A writes afterwards.
		writing, goOn := make(chan struct{}), make(chan struct{})
		once := sync.OnceFunc(func() { close(writing); <-goOn })
		a.journal.before = func(e audit.Event) {
			if e.Kind == audit.CustodyLock && e.Outcome == audit.Refused {
				once()
			}
		}
		a.first().enable("k1", false)
		a.custody.Recheck(key)
		<-writing
		a.first().enable("k1", true)
		locked := make(chan error, 1)
		go func() { locked <- a.custody.Lock(t.Context(), spaceA) }()
		synctest.Wait()
		err := b.read(spaceA)
		if !errors.Is(err, sealed.ErrLocked) {
			t.Errorf("the first read at another process: %v", err)
		}
		for begun := time.Now(); err != nil && time.Since(begun) < time.Minute; err = b.read(spaceA) {
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil {
			t.Fatalf("read before the lock is stored: %v", err)
		}
		close(goOn)
		if err := <-locked; err != nil {
			t.Fatal(err)
		}
		if err := b.read(spaceA); !errors.Is(err, sealed.ErrLocked) {
			t.Errorf("read at another process after Lock has returned: %v", err)
		}
		b.within(soon, "the owner's lock", in(custody.Locked))
	})
}

// TestARefusalKeepsTheLockOfAnotherProcess: what one process stores about the key's answers leaves the owner's lock
// that another one has stored.
func TestARefusalKeepsTheLockOfAnotherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := replicas(t)
		key := a.first().add("k1")
		a.enabled(spaceA, key)
		b.within(soon, "the key", in(custody.Active))
		time.Sleep(5 * time.Second) // of the bubble: the next polls are far away
		writing, goOn := make(chan struct{}), make(chan struct{})
		once := sync.OnceFunc(func() { close(writing); <-goOn })
		b.journal.before = func(e audit.Event) { // B is about to store that the key refuses
			if e.Kind == audit.CustodyLock && e.Outcome == audit.Refused {
				once()
			}
		}
		b.first().enable("k1", false)
		b.custody.Recheck(key)
		<-writing
		if err := a.custody.Lock(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		close(goOn)
		synctest.Wait()
		b.first().enable("k1", true)
		time.Sleep(5 * time.Minute) // of the bubble: polls ask the key
		for _, r := range []*storeAndVaults{a, b} {
			if err := r.read(spaceA); !errors.Is(err, sealed.ErrLocked) {
				t.Errorf("read after the owner's lock: %v", err)
			}
		}
	})
}

// TestARefusalOfTheFirstKeySurvives: what one process stores about silent keys leaves the refusal of the first key that
// another one has stored meanwhile, so that a restart opens nothing with the second.
func TestARefusalOfTheFirstKeySurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := replicas(t)
		a.underBoth()
		b.within(soon, "the keys", in(custody.Active))
		b.vaults = vaults{} // b was given the map of both
		for _, address := range []string{firstVault, secondVault} {
			same := newVault(address)
			same.keys = a.vaults[address].keys
			b.vaults[address] = same
		}
		b.halt()
		b.store.Bundle(spaceA).LockNow(errors.New("restart"))
		b.openCustody()
		b.run()
		b.later("the opening", in(custody.Active))
		writing, goOn := make(chan struct{}), make(chan struct{})
		once := sync.OnceFunc(func() { close(writing); <-goOn })
		b.journal.before = func(e audit.Event) { // B is about to store that no key answers
			if e.Kind == audit.CustodyLock && e.Outcome == audit.Unknown {
				once()
			}
		}
		b.first().silent(true)
		b.second().silent(true)
		<-writing // after the grace
		a.first().set(func(v *vault) { v.denied[principal] = keysource.Permission })
		a.later("the lock", in(custody.Revoked))
		synctest.Wait()
		close(goOn)
		synctest.Wait()
		keys, err := a.store.Bundle(spaceA).Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if note := string(keys.Note); !strings.Contains(note, `"refusedBy":1`) ||
			!strings.Contains(note, `"code":"EncryptionKeyRevoked"`) {
			t.Errorf("the note is %s", note)
		}
	})
}

// TestOneProcessChangesKeys: a second change is refused everywhere, and what an ended process leaves is finished.
func TestOneProcessChangesKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := replicas(t)
		one, two := a.first().add("k1"), a.second().add("k2")
		a.halt()
		if _, err := a.custody.Enable(t.Context(), spaceA, one, principal); err != nil {
			t.Fatal(err) // a is past the point of no return, and does not run
		}
		_, err := b.custody.Enable(t.Context(), spaceA, two, principal)
		wantRefusal(t, err, "RequestConflict")
		b.within(time.Minute, "the change that another process has begun", func(s custody.Status) bool {
			return s.Condition == custody.Active && s.Operation.Progress == custody.Succeeded && s.Key == one
		})
		if err := b.read(spaceA); err != nil {
			t.Error(err)
		}
	})
}

// TestAChangeMeetsOtherChanges: the bundle changes while a step of a change of keys wraps. The step is taken again;
// when that does not end, the change is refused and undone.
func TestAChangeMeetsOtherChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := replicas(t)
		key := a.first().add("k1")
		var times int
		a.first().set(func(v *vault) {
			v.onCall = func(verb string) {
				if verb != "wrapKey" || times == 0 {
					return
				}
				times--
				bundle := b.store.Bundle(spaceA)
				keys, err := bundle.Keys(t.Context())
				if err == nil {
					err = bundle.SetNote(t.Context(), keys.Sequence, keys.Note)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
		times = 1 << 20
		_, err := a.custody.Enable(t.Context(), spaceA, key, principal)
		wantRefusal(t, err, "RequestConflict")
		if s := a.state(spaceA); s.Operation.Progress != custody.Failed || s.Condition == custody.Active {
			t.Errorf("after a change that was refused: %+v", s)
		}
		times = 2
		if _, err = a.custody.Enable(t.Context(), spaceA, key, principal); err != nil {
			t.Fatal(err)
		}
		b.within(soon, "the key", func(s custody.Status) bool { return s.Condition == custody.Active && s.Key == key })
	})
}

// TestALockDuringAChangeIsNotMissed: while this process changes the keys, another one locks the data, and a request
// finds that here. When the change has ended, the key is asked, and the data opens again.
func TestALockDuringAChangeIsNotMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := replicas(t)
		one := a.first().add("k1")
		a.enabled(spaceA, one)
		b.within(soon, "the key", func(s custody.Status) bool { return s.Condition == custody.Active })
		if err := a.read(spaceA); err != nil {
			t.Fatal(err)
		}
		two := a.first().add("k1") // another version: no page is rewritten, and no key loaded again
		met := false
		a.first().set(func(v *vault) {
			v.onCall = func(verb string) {
				if verb != "wrapKey" || met {
					return
				}
				met = true
				if err := b.store.Bundle(spaceA).LockElsewhere(t.Context()); err != nil {
					t.Error(err)
				}
				if err := a.read(spaceA); !errors.Is(err, sealed.ErrLockedElsewhere) {
					t.Errorf("a read after the lock: %v", err)
				}
			}
		})
		if _, err := a.custody.Enable(t.Context(), spaceA, two, principal); err != nil {
			t.Logf("the change that met the lock: %v", err) // it may be undone, and then be asked for again
		}
		if !met {
			t.Error("the change did not wrap")
		}
		time.Sleep(10 * time.Second) // of the bubble
		if err := a.read(spaceA); err != nil {
			t.Errorf("after the change: %v; %+v", err, a.state(spaceA))
		}
		_ = b.read(spaceA) // which may find the lock only now
		time.Sleep(10 * time.Second)
		if err := b.read(spaceA); err != nil {
			t.Errorf("after the change, at the other process: %v; %+v", err, b.state(spaceA))
		}
	})
}

// TestAChangeGoesOnAfterItsClaimWasLost: a process that was paused during a change of keys, and is the only one left,
// claims the change anew and finishes it.
func TestAChangeGoesOnAfterItsClaimWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := replicas(t)
		key := a.first().add("k1")
		lost := false
		b.halt()
		b.custody.SetFault(func(string) error {
			if lost {
				return nil
			}
			lost = true
			b.custody.LoseClaim(spaceA)
			return errors.New("the process was paused")
		})
		b.run()
		a.halt()
		if _, err := a.custody.Enable(t.Context(), spaceA, key, principal); err != nil {
			t.Fatal(err) // a is past the point of no return, and does not run
		}
		b.within(time.Minute, "the change that another process has begun", func(s custody.Status) bool {
			return s.Condition == custody.Active && s.Operation.Progress == custody.Succeeded && s.Key == key
		})
		if !lost {
			t.Error("the claim was not lost")
		}
	})
}

// TestAnOutageOfOneProcessIsItsOwn: it loses its vault, and the others serve. When one of these gives the key back to
// the service, it needs the vault no more.
func TestAnOutageOfOneProcessIsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := replicas(t)
		key := a.first().add("k1")
		a.enabled(spaceA, key)
		b.within(soon, "the key", in(custody.Active))
		cut := newVault(firstVault)
		cut.fail = errors.New("no route to the vault")
		a.vaults = vaults{firstVault: cut} // a was given the map of both
		a.halt()
		a.store.Bundle(spaceA).LockNow(errors.New("restart"))
		a.openCustody()
		a.run()
		time.Sleep(2 * time.Hour) // of the bubble: longer than the grace
		if s := a.state(spaceA); s.Condition != custody.Unavailable {
			t.Errorf("without its vault: %+v", s)
		}
		if s := b.state(spaceA); s.Condition != custody.Active {
			t.Errorf("while another process has lost its vault: %+v", s)
		}
		if err := b.read(spaceA); err != nil {
			t.Errorf("read while another process has lost its vault: %v", err)
		}
		if _, err := b.custody.Disable(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		a.within(soon, "the end of the customer's key", in(custody.ServiceManaged))
		synctest.Wait()
		if err := a.read(spaceA); err != nil {
			t.Errorf("read under the service's key, without a vault: %v", err)
		}
	})
}

// TestARefusalWaitsForNoPublication has another transaction keep the record that tells other processes of a change: of
// several keys, it is stored who has refused before the data is locked, and told afterwards.
func TestARefusalWaitsForNoPublication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := replicas(t)
		a.underBoth()
		b.within(soon, "the keys", in(custody.Active))
		free := a.keepRecords(sealed.Operator)
		a.first().refuses()
		refused := time.Now()
		err := a.read(spaceA)
		for ; err == nil && time.Since(refused) < 5*time.Minute; err = a.read(spaceA) {
			time.Sleep(500 * time.Millisecond)
		}
		if took := time.Since(refused); err == nil || took > promised {
			t.Errorf("%v after the refusal, reading returns %v", took, err)
		}
		free()
		b.later("the lock", in(custody.Revoked))
		a.later("the lock", in(custody.Revoked))
	})
}

// keepRecords has a transaction keep the records of a space until free is called.
func (r *storeAndVaults) keepRecords(id sealed.SpaceID) (free func()) {
	kept, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	keep := sync.OnceFunc(func() { close(kept) })
	ctx := context.WithoutCancel(r.t.Context())
	go func() {
		defer close(ended)
		err := r.store.Space(id).Update(ctx, func(tx sealed.Tx) error {
			err := items.In("kept").Put(tx, "item", item{"item", secretly})
			keep()
			<-goOn
			return err
		})
		if err != nil {
			r.t.Logf("the transaction that has kept records: %v", err) // others have locked the space meanwhile
		}
	}()
	<-kept
	return sync.OnceFunc(func() {
		close(goOn)
		<-ended
	})
}

// TestALockIsToldAgain: the database does not take the owner's lock in time, and later does not take the record that
// tells the others what is stored. They hear of it all the same.
func TestALockIsToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := replicas(t)
		a.enabled(spaceA, a.first().add("k1"))
		b.within(soon, "the key", in(custody.Active))
		if err := b.read(spaceA); err != nil {
			t.Fatal(err)
		}
		freeData, freeRecord := b.keepRecords(spaceA), a.keepRecords(sealed.Operator)
		locked := make(chan error, 1)
		go func() { locked <- a.custody.Lock(t.Context(), spaceA) }()
		time.Sleep(3 * time.Second) // of the bubble: longer than a lock waits
		freeData()
		time.Sleep(3 * time.Second)
		if err := b.read(spaceA); !errors.Is(err, sealed.ErrLocked) {
			t.Errorf("at another process: %v", err)
		}
		freeRecord()
		if err := <-locked; err != nil {
			t.Errorf("lock: %v", err)
		}
		b.within(soon, "the lock", in(custody.Locked))
	})
}
