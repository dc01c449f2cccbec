package custody_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// TestLock checks that the owner's lock holds although the key would unwrap, also after a restart.
func TestLock(t *testing.T) {
	r := newStoreAndVaults(t, onDisk(t))
	r.run()
	r.enabled(spaceA, r.first().add("k1"))
	if err := r.custody.Lock(t.Context(), spaceA); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, r.read(spaceA), "EncryptionKeyRevoked")
	if s := r.state(spaceA); s.Condition != custody.Locked || s.Code != "EncryptionKeyRevoked" {
		t.Errorf("%+v", s)
	}
	r.restart()
	r.run()
	r.until(spaceA, "the first question", func(s custody.Status) bool { return !s.NextCheck.IsZero() })
	if s := r.state(spaceA); s.Condition != custody.Locked {
		t.Errorf("after a restart: %+v", s)
	}
	wantRefusal(t, r.read(spaceA), "EncryptionKeyRevoked")
	_, err := r.custody.Disable(t.Context(), spaceA)
	wantRefusal(t, err, "EncryptionKeyRevoked")
	if err := r.custody.Unlock(t.Context(), spaceA); err != nil {
		t.Fatal(err)
	}
	r.until(spaceA, "the opening", func(s custody.Status) bool { return s.Condition == custody.Active })
	if err := r.read(spaceA); err != nil {
		t.Error(err)
	}
}

// TestLockAgainstEverything locks while polls open the data, notes are stored and other callers unlock: the last
// command wins, and no operation that starts after Lock has returned succeeds.
func TestLockAgainstEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		key := r.first().add("k1")
		r.enabled(spaceA, key)
		r.first().set(func(v *vault) { v.onCall = func(string) { time.Sleep(time.Millisecond) } })
		var noise sync.WaitGroup
		ended := make(chan struct{})
		for range 4 {
			noise.Go(func() {
				for {
					select {
					case <-ended:
						return
					case <-time.After(time.Millisecond):
						r.custody.Recheck(key)
						if err := r.custody.SetPolicy(t.Context(), spaceA,
							custody.Policy{Grace: time.Hour}); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		for range 200 {
			if err := r.custody.Lock(t.Context(), spaceA); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				if err := r.read(spaceA); !errors.Is(err, sealed.ErrLocked) {
					t.Fatalf("after Lock: %v", err)
				}
				time.Sleep(time.Millisecond)
			}
			if err := r.custody.Unlock(t.Context(), spaceA); err != nil {
				t.Fatal(err)
			}
			r.until(spaceA, "the opening", func(s custody.Status) bool { return s.Condition == custody.Active })
			if err := r.read(spaceA); err != nil {
				t.Fatal(err)
			}
		}
		close(ended)
		noise.Wait()
	})
}

// TestManualRestore checks that data that was revoked under such a policy, or for more than 30 days, opens only by
// Unlock.
func TestManualRestore(t *testing.T) {
	for name, c := range map[string]struct {
		policy custody.Policy
		locked time.Duration
	}{
		"policy":   {custody.Policy{ManualRestore: true}, time.Minute},
		"for long": {custody.Policy{}, custody.LongLocked + time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newStoreAndVaultsWith(t, memory(), c.policy)
				r.run()
				r.enabled(spaceA, r.first().add("k1"))
				r.first().enable("k1", false)
				r.until(spaceA, "the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
				// A month of lock takes a month of polls; an outage of the vault makes no difference to it.
				time.Sleep(c.locked)
				r.first().enable("k1", true)
				time.Sleep(10 * time.Minute)
				if s := r.state(spaceA); s.Condition != custody.Revoked {
					t.Errorf("opened without Unlock: %+v", s)
				}
				if err := r.custody.Unlock(t.Context(), spaceA); err != nil {
					t.Fatal(err)
				}
				r.until(spaceA, "the opening", func(s custody.Status) bool { return s.Condition == custody.Active })
			})
		})
	}
}

// TestLockWithoutNote checks that a lock whose note cannot be stored is audited, since it holds until the next restart.
func TestLockWithoutNote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		r.enabled(spaceA, r.first().add("k1"))
		if err := r.store.Spaces().Drop(t.Context(), spaceA); err != nil { // so that it has no note
			t.Fatal(err)
		}
		if err := r.custody.Lock(t.Context(), spaceA); !errors.Is(err, sealed.ErrNoSpace) {
			t.Errorf("a lock without its note: %v", err)
		}
		if n := r.journal.Count(audit.CustodyLock, audit.Done); n != 1 {
			t.Errorf("%d locks were audited, want 1", n)
		}
	})
}

// TestRevokedInside revokes the key during a long transaction and a long read: the transaction fails at its commit, the
// read ends by itself, and neither delays the lock.
func TestRevokedInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		key := r.first().add("k1")
		r.enabled(spaceA, key)
		lease := r.store.Space(spaceA).Lease()
		written := make(chan error, 1)
		go func() {
			written <- r.store.Space(spaceA).Update(t.Context(), func(tx sealed.Tx) error {
				time.Sleep(3 * time.Second) // longer than Lock waits
				return items.In("list").Put(tx, "late", item{"late", "late"})
			})
		}()
		time.Sleep(time.Second)
		r.first().enable("k1", false)
		start := time.Now()
		r.custody.Recheck(key)
		<-lease.Done()
		if took := time.Since(start); took > 0 {
			t.Errorf("the lease ended after %v", took)
		}
		wantRefusal(t, r.read(spaceA), "EncryptionKeyRevoked")
		if err := <-written; !errors.Is(err, sealed.ErrLocked) {
			t.Errorf("the transaction: %v", err)
		}
		r.first().enable("k1", true)
		r.until(spaceA, "the opening", func(s custody.Status) bool { return s.Condition == custody.Active })
		err := r.store.Space(spaceA).View(t.Context(), func(rd sealed.Reader) error {
			_, err := items.In("list").Get(rd, "late")
			return err
		})
		if !errors.Is(err, sealed.ErrNotFound) {
			t.Errorf("a record written while the key was revoked: %v", err)
		}
	})
}

// TestFollow moves resources to new versions, if their reference has no version and the new one is suitable.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		pinned := sealed.SpaceID{0xb}
		if err := r.store.Spaces().Create(t.Context(), pinned); err != nil {
			t.Fatal(err)
		}
		r.run()
		one := r.first().add("k1")
		followed := one
		followed.Version = ""
		r.enabled(spaceA, followed)
		r.enabled(pinned, one)

		bad := r.first().add("k1")
		r.first().change("k1", func(d *keysource.Description) { d.Expires = time.Now() })
		r.custody.Recheck(one)
		synctest.Wait()
		if s := r.state(spaceA); s.Version != one.Version {
			t.Errorf("followed to the expired version %s: %+v", bad.Version, s)
		}
		two := r.first().add("k1")
		time.Sleep(90 * time.Minute) // the search runs every hour
		if s := r.state(spaceA); s.Version != two.Version || s.Operation.Kind != custody.Following ||
			s.Condition != custody.Active {
			t.Errorf("%+v", s)
		}
		if s := r.state(pinned); s.Version != one.Version {
			t.Errorf("a pinned version was left: %+v", s)
		}
		three := r.first().add("k1")
		r.custody.Recheck(one)
		synctest.Wait()
		four := r.first().add("k1")
		r.custody.Recheck(one)
		synctest.Wait()
		if s := r.state(spaceA); s.Version != three.Version {
			t.Errorf("twice within the guard: %+v", s)
		}
		time.Sleep(11 * time.Minute)
		if s := r.state(spaceA); s.Version != four.Version {
			t.Errorf("after the guard: %+v", s)
		}
		if err := r.read(spaceA); err != nil {
			t.Error(err)
		}
		if n := r.journal.Count(audit.CustodyFollow, audit.Done); n != 3 {
			t.Errorf("%d follows were audited", n)
		}
	})
}

// TestIdentityAnew gives a locked resource whose identity was removed another identity, which opens it.
func TestIdentityAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		key := r.first().add("k1")
		r.enabled(spaceA, key)
		r.first().set(func(v *vault) { v.denied[principal] = keysource.NoIdentity })
		r.until(spaceA, "the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
		anew := visage.PrincipalID("22222222-2222-2222-2222-222222222222")
		r.first().set(func(v *vault) { v.denied[anew] = keysource.Permission })
		_, err := r.custody.Enable(t.Context(), spaceA, key, anew)
		wantRefusal(t, err, "KeyVaultAccessDenied")
		r.first().set(func(v *vault) { delete(v.denied, anew) })
		if _, err := r.custody.Enable(t.Context(), spaceA, key, anew); err != nil {
			t.Fatal(err)
		}
		if s := r.until(spaceA, "the opening",
			func(s custody.Status) bool { return s.Condition == custody.Active }); s.As != anew {
			t.Errorf("%+v", s)
		}
	})
}

// TestKeyGoneHalfWay disables the new key while it is being enabled: before the point of no return nothing has changed;
// after it the resource is locked until the key unwraps again, and then the change continues.
func TestKeyGoneHalfWay(t *testing.T) {
	for _, point := range custody.Points(custody.Enabling) {
		t.Run(point, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newStoreAndVaults(t, memory())
				r.first().add("k1")
				var once sync.Once
				r.custody.SetFault(func(at string) error {
					if at == point {
						once.Do(func() { r.first().enable("k1", false) })
					}
					return nil
				})
				r.run()
				err := r.enable(t.Context(), visage.KeyRef{Vault: firstVault, Name: "k1"})
				if err != nil {
					wantRefusal(t, err, "KeyVaultKeyDisabled")
					if s := r.state(spaceA); s.Condition != custody.ServiceManaged ||
						s.Operation.Progress != custody.Failed {
						t.Errorf("%+v", s)
					}
					if err := r.read(spaceA); err != nil {
						t.Error(err)
					}
					return
				}
				s := r.until(spaceA, "the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
				wantRefusal(t, r.read(spaceA), "EncryptionKeyRevoked")
				_, err = r.custody.Disable(t.Context(), spaceA)
				if s.Operation.Progress == custody.Running {
					wantRefusal(t, err, "RequestConflict")
				} else {
					wantRefusal(t, err, "EncryptionKeyRevoked")
				}
				r.first().enable("k1", true)
				r.until(spaceA, "the end", func(s custody.Status) bool {
					return s.Condition == custody.Active && s.Operation.Progress == custody.Succeeded
				})
				if err := r.read(spaceA); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestVaultGoneHalfWay stops the vault during a change: the change waits, within the grace.
func TestVaultGoneHalfWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaultsWith(t, memory(), custody.Policy{Grace: 10 * time.Minute})
		r.first().add("k1")
		var once sync.Once
		r.custody.SetFault(func(at string) error {
			if at == "enable acked before" {
				once.Do(func() {
					r.first().set(func(v *vault) { v.fail = refuse(keysource.ErrUnknown, "", "nobody there") })
				})
			}
			return nil
		})
		r.run()
		if err := r.enable(t.Context(), visage.KeyRef{Vault: firstVault, Name: "k1"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if s := r.state(spaceA); s.Condition != custody.Degraded || s.Operation.Progress != custody.Running {
			t.Errorf("within the grace: %+v", s)
		}
		if err := r.read(spaceA); err != nil {
			t.Errorf("within the grace: %v", err)
		}
		time.Sleep(7 * time.Minute)
		wantRefusal(t, r.read(spaceA), "EncryptionKeyUnavailable")
		r.first().set(func(v *vault) { v.fail = nil })
		r.until(spaceA, "the end", func(s custody.Status) bool {
			return s.Condition == custody.Active && s.Operation.Progress == custody.Succeeded
		})
	})
}

// TestLockWaitsForNoVault locks a resource that is being opened while its vault is slow.
func TestLockWaitsForNoVault(t *testing.T) {
	r := newStoreAndVaults(t, memory())
	r.run()
	r.enabled(spaceA, r.first().add("k1"))
	r.halt()
	if err := r.custody.Suspend(t.Context(), spaceA); err != nil {
		t.Fatal(err)
	}
	asked, answer := make(chan struct{}), make(chan struct{})
	r.first().set(func(v *vault) {
		v.onCall = func(string) { close(asked); <-answer }
	})
	resumed, locked := make(chan error, 1), make(chan error, 1)
	go func() { resumed <- r.custody.Recover(t.Context(), spaceA) }()
	<-asked
	r.first().set(func(v *vault) { v.onCall = nil })
	go func() { locked <- r.custody.Lock(t.Context(), spaceA) }()
	select {
	case err := <-locked:
		if err != nil {
			t.Error(err)
		}
		wantRefusal(t, r.read(spaceA), "EncryptionKeyRevoked")
	case <-time.After(time.Minute):
		t.Error("Lock has waited for the vault")
	}
	close(answer)
	if err := <-resumed; err != nil {
		t.Error(err)
	}
	if s := r.state(spaceA); s.Condition != custody.Locked {
		t.Errorf("%+v", s)
	}
	wantRefusal(t, r.read(spaceA), "EncryptionKeyRevoked")
}
