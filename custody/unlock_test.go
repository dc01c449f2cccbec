package custody_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
)

// heldReplies makes a vault hold its answers to unwrapping. Each answer is settled when it is received from the
// channel, and sent when the received function is called.
func heldReplies(v *vault) <-chan func() {
	replies := make(chan func())
	v.set(func(v *vault) {
		v.onReply = func(string) {
			given := make(chan struct{})
			replies <- func() { close(given) }
			<-given
		}
	})
	return replies
}

// allow enables or disables the keys of the first vault for custody. A refusal of this kind is confirmed without
// further questions.
func (r *storeAndVaults) allow(yes bool) {
	r.first().set(func(v *vault) {
		if delete(v.denied, principal); !yes {
			v.denied[principal] = keysource.Permission
		}
	})
}

// revoked is a store whose only space is locked because its key refuses.
func revoked(t *testing.T) (*storeAndVaults, visage.KeyRef) {
	t.Helper()
	r := newStoreAndVaults(t, memory())
	r.run()
	key := r.first().add("k1")
	r.enabled(spaceA, key)
	r.allow(false)
	r.custody.Recheck(key)
	r.until(spaceA, "the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
	return r, key
}

// TestRefusalFromBeforeUnlock checks that a refusal to a poll that began before Unlock, and arrives after it, does not
// lock again; the answer to Unlock's own question decides.
func TestRefusalFromBeforeUnlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, key := revoked(t)
		locks := r.journal.Count(audit.CustodyLock, audit.Refused)
		replies := heldReplies(r.first())
		r.custody.Recheck(key)
		(<-replies)()          // the refusal
		confirmed := <-replies // and the answer to the confirmation
		r.allow(true)
		if err := r.custody.Unlock(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		confirmed()
		good := <-replies // of the next poll, which begins when the one before has ended
		if s := r.state(spaceA); s.Condition != custody.Unavailable {
			t.Errorf("after an answer from before Unlock: %+v", s)
		}
		wantRefusal(t, r.read(spaceA), "EncryptionKeyUnavailable")
		r.first().set(func(v *vault) { v.onReply = nil })
		good()
		r.until(spaceA, "the opening", func(s custody.Status) bool { return s.Condition == custody.Active })
		if n := r.journal.Count(audit.CustodyLock, audit.Refused); n != locks {
			t.Errorf("%d locks were audited, want %d", n, locks)
		}
		if err := r.read(spaceA); err != nil {
			t.Error(err)
		}
	})
}

// TestUnlockHoldsNoRefusalUp checks that, however often Unlock comes between a question and its answer, nothing opens
// unless the key unwraps, and the first refusal after the last Unlock locks.
func TestUnlockHoldsNoRefusalUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, key := revoked(t)
		replies := heldReplies(r.first())
		r.custody.Recheck(key)
		for range 5 {
			(<-replies)()
			confirmed := <-replies
			if err := r.custody.Unlock(t.Context(), spaceA); err != nil {
				t.Fatal(err)
			}
			confirmed()
			wantRefusal(t, r.read(spaceA), "EncryptionKeyUnavailable")
		}
		last := <-replies
		r.first().set(func(v *vault) { v.onReply = nil })
		last()
		synctest.Wait()
		if s := r.state(spaceA); s.Condition != custody.Revoked {
			t.Errorf("refused after Unlock: %+v", s)
		}
	})
}

// TestUnlockOfWhatIsOpen checks that unlocking open data changes nothing: a refusal that is under way locks.
func TestUnlockOfWhatIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		key := r.first().add("k1")
		r.enabled(spaceA, key)
		r.allow(false)
		replies := heldReplies(r.first())
		r.custody.Recheck(key)
		(<-replies)()
		confirmed := <-replies
		if err := r.custody.Unlock(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		confirmed()
		next := <-replies // the poll before has ended
		if s := r.state(spaceA); s.Condition != custody.Revoked {
			t.Errorf("refused while it was open: %+v", s)
		}
		wantRefusal(t, r.read(spaceA), "EncryptionKeyRevoked")
		r.first().set(func(v *vault) { v.onReply = nil })
		next()
	})
}

// TestUnlockOutlivesARestart checks that a refusal that arrives while Unlock is being audited does not restore the
// owner's lock at the next start.
func TestUnlockOutlivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		key := r.first().add("k1")
		r.enabled(spaceA, key)
		if err := r.custody.Lock(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		r.journal.before = func(e audit.Event) {
			if e.Kind == audit.OperatorAction {
				r.allow(false)
				r.custody.Recheck(key)
				time.Sleep(time.Minute)
				r.allow(true)
			}
		}
		if err := r.custody.Unlock(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		r.until(spaceA, "the opening", func(s custody.Status) bool { return s.Condition == custody.Active })
		r.halt()
		r.openCustody()
		if s := r.state(spaceA); s.Condition != custody.Unavailable {
			t.Errorf("after a restart: %+v", s)
		}
		r.run()
		r.until(spaceA, "the opening", func(s custody.Status) bool { return s.Condition == custody.Active })
	})
}

// pausingRecorder has each record of an unwrapping wait for proceed, once it is paused.
type pausingRecorder struct {
	audit.Recorder
	paused  atomic.Bool
	reached chan struct{}
	proceed chan struct{}
}

// Append implements audit.Recorder.
func (r *pausingRecorder) Append(ctx context.Context, events ...audit.Event) error {
	for _, e := range events {
		if e.Kind == audit.KeyUnwrap && r.paused.CompareAndSwap(true, false) {
			r.reached <- struct{}{}
			<-r.proceed
		}
	}
	return r.Recorder.Append(ctx, events...)
}

// TestChangeWhileOpening: once a revoked key has answered and its data is served again, a change is not refused as if
// the key were revoked, although the opening is not recorded yet.
func TestChangeWhileOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		recorder := &pausingRecorder{Recorder: r.journal, reached: make(chan struct{}), proceed: make(chan struct{})}
		c, err := custody.New(t.Context(), custody.Config{Store: r.store, Open: r.vaults.open, Audit: recorder})
		if err != nil {
			t.Fatal(err)
		}
		r.custody = c
		r.run()
		key := r.first().add("k1")
		r.enabled(spaceA, key)
		r.allow(false)
		c.Recheck(key)
		r.until(spaceA, "the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
		recorder.paused.Store(true)
		r.allow(true)
		c.Recheck(key)
		<-recorder.reached
		if err := r.read(spaceA); err != nil {
			t.Fatalf("the key has answered: %v", err)
		}
		disabled := make(chan error, 1)
		go func() {
			_, err := c.Disable(t.Context(), spaceA)
			disabled <- err
		}()
		synctest.Wait()
		close(recorder.proceed)
		if err := <-disabled; err != nil {
			t.Errorf("disable while the data opens: %v", err)
		}
		if s := r.settled(spaceA); s.Condition != custody.ServiceManaged {
			t.Errorf("disabled: %+v", s)
		}
		if err := r.read(spaceA); err != nil {
			t.Error(err)
		}
	})
}
