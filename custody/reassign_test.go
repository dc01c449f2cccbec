package custody_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
)

// TestChangeSurvivesItsIdentity removes the identity of a change past the point of no return, and assigns another one
// with access: naming the key again with it, or Reassign, lets the change continue.
func TestChangeSurvivesItsIdentity(t *testing.T) {
	for _, j := range journeys {
		for _, point := range custody.Points(j.kind) {
			// Short changes do not wait, and the last step needs no key.
			if !custody.Forward(j.kind, point) || j.kind == custody.Updating || !slices.Contains([]string{
				string(j.kind) + " acked before", string(j.kind) + " turned before", string(j.kind) + " turned after",
				string(j.kind) + " destroyed before",
			}, point) {
				continue
			}
			t.Run(point, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { survivesItsIdentity(t, j, point) })
			})
		}
	}
}

func survivesItsIdentity(t *testing.T, j journey, point string) {
	r := newStoreAndVaults(t, memory())
	var waiting atomic.Bool
	waiting.Store(true)
	r.custody.SetFault(func(at string) error {
		if at == point && waiting.Load() {
			return &keysource.Error{Class: keysource.ErrDenied, Text: "gone"}
		}
		return nil
	})
	r.run()
	j.before(r)
	if err := j.change(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	for _, v := range r.vaults {
		v.set(func(v *vault) { v.denied[principal] = keysource.Permission })
	}
	const successor = visage.PrincipalID("33333333-3333-3333-3333-333333333333")
	key := visage.KeyRef{Vault: firstVault, Name: "k1"}
	if j.kind == custody.Switching {
		key = visage.KeyRef{Vault: secondVault, Name: "k2"}
	}
	time.Sleep(10 * time.Minute)
	waiting.Store(false)
	if j.kind == custody.Disabling {
		if found, err := r.custody.Reassign(t.Context(), spaceA, successor); err != nil || !found {
			t.Fatalf("another identity: %v, %v", found, err)
		}
		if err := r.custody.Unlock(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
	} else if _, err := r.custody.Enable(t.Context(), spaceA, key, successor); err != nil {
		t.Fatalf("another identity: %v", err)
	}
	s := r.settled(spaceA)
	if s.Operation.Kind != j.kind || s.Operation.Progress != custody.Succeeded {
		t.Errorf("the change is %+v", s.Operation)
	}
	if j.kind != custody.Disabling && s.As != successor {
		t.Errorf("the key is used as %s", s.As)
	}
	if err := r.read(spaceA); err != nil {
		t.Errorf("read: %v", err)
	}
}

// TestLockWhileEnabling checks that a resource whose change to a customer's key is past the point of no return can be
// locked.
func TestLockWhileEnabling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		var waiting atomic.Bool
		waiting.Store(true)
		r.custody.SetFault(func(at string) error {
			if at == "enable turned before" && waiting.Load() {
				return &keysource.Error{Class: keysource.ErrUnknown, Text: "down"}
			}
			return nil
		})
		r.run()
		if err := r.enable(t.Context(), r.first().add("k1")); err != nil {
			t.Fatal(err)
		}
		if err := r.custody.Lock(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, r.read(spaceA), "EncryptionKeyRevoked")
		waiting.Store(false)
		time.Sleep(10 * time.Minute)
		wantRefusal(t, r.read(spaceA), "EncryptionKeyRevoked")
		if err := r.custody.Unlock(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		if s := r.settled(spaceA); s.Operation.Progress != custody.Succeeded || s.Condition != custody.Active {
			t.Errorf("unlocked: %+v", s)
		}
		if err := r.read(spaceA); err != nil {
			t.Errorf("unlocked: %v", err)
		}
	})
}

// TestExpiryLocksWithinThePromise checks that, where the policy locks at expiry, the lock comes as soon as after any
// refusal, and that a later expiry date opens the data with the next poll.
func TestExpiryLocksWithinThePromise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaultsWith(t, memory(), custody.Policy{LockOnExpiry: true})
		r.run()
		r.first().add("k1")
		expires := time.Now().Add(time.Hour)
		r.first().change("k1", func(d *keysource.Description) { d.Expires = expires })
		r.enabled(spaceA, visage.KeyRef{Vault: firstVault, Name: "k1"})
		time.Sleep(time.Until(expires) - time.Second)
		if err := r.read(spaceA); err != nil {
			t.Errorf("before the expiry: %v", err)
		}
		time.Sleep(promised)
		wantRefusal(t, r.read(spaceA), "EncryptionKeyRevoked")
		r.first().change("k1", func(d *keysource.Description) { d.Expires = time.Time{} })
		time.Sleep(promised)
		if err := r.read(spaceA); err != nil {
			t.Errorf("after a new date: %v", err)
		}
	})
}

// TestKeysThatExpireAreKnown: the expiry date of the version in use, as the vault gives it, until the resource
// leaves the key.
func TestKeysThatExpireAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		r.first().add("k1")
		expires := time.Now().Add(custody.KeyExpiresSoon + time.Hour)
		r.first().change("k1", func(d *keysource.Description) { d.Expires = expires })
		check := func(when string, ends time.Time, soon bool) {
			t.Helper()
			time.Sleep(10 * time.Minute) // the date is read at every tenth poll
			synctest.Wait()
			if s := r.state(spaceA); !s.KeyExpires.Equal(ends) {
				t.Errorf("%s the key expires at %v, want %v", when, s.KeyExpires, ends)
			}
			all := r.custody.KeysExpiring()
			if at, found := all[visage.ResourceID(spaceA)]; found != soon || found && !at.Equal(ends) || len(all) > 1 {
				t.Errorf("%s these expire soon: %v", when, all)
			}
			dates := r.custody.KeyExpiries()
			if len(dates) > 1 || (len(dates) == 1) == ends.IsZero() || len(dates) == 1 &&
				(!dates[0].Ends.Equal(ends) || dates[0].Key.Name != "k1" || dates[0].Key.Vault != firstVault) {
				t.Errorf("%s the dates are %v, want %v", when, dates, ends)
			}
		}
		check("with the service's key", time.Time{}, false)
		r.enabled(spaceA, visage.KeyRef{Vault: firstVault, Name: "k1"})
		check("at first", expires, false)
		time.Sleep(time.Hour)
		check("later", expires, true)
		r.first().change("k1", func(d *keysource.Description) { d.Expires = time.Time{} })
		check("without a date", time.Time{}, false)
		expires = time.Now().Add(time.Hour)
		r.first().change("k1", func(d *keysource.Description) { d.Expires = expires })
		check("with a date again", expires, true)
		if _, err := r.custody.Disable(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		r.settled(spaceA)
		check("after the return to the service's key", time.Time{}, false)
	})
}

// TestLockBeforeTheLastStep locks a resource at the moment in which it returns to the service's key: it stays locked,
// also after a restart, and opens when it is unlocked.
func TestLockBeforeTheLastStep(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(map[bool]string{false: "running", true: "restarted"}[restart], func(t *testing.T) {
			r := newStoreAndVaults(t, onDisk(t))
			locked := make(chan error, 1)
			r.custody.SetFault(func(at string) error {
				if at == "disable done before" {
					locked <- r.custody.Lock(t.Context(), spaceA)
				}
				return nil
			})
			r.run()
			r.underFirst()
			if _, err := r.custody.Disable(t.Context(), spaceA); err != nil {
				t.Fatal(err)
			}
			if err := <-locked; err != nil {
				t.Fatal(err)
			}
			r.settled(spaceA)
			if restart {
				r.restart()
				r.run()
			}
			if s := r.state(spaceA); s.Condition != custody.Locked {
				t.Errorf("locked: %+v", s)
			}
			wantRefusal(t, r.read(spaceA), "EncryptionKeyRevoked")
			if err := r.custody.Unlock(t.Context(), spaceA); err != nil {
				t.Fatal(err)
			}
			if s := r.state(spaceA); s.Condition != custody.ServiceManaged || s.Code != "" {
				t.Errorf("unlocked: %+v", s)
			}
			if err := r.read(spaceA); err != nil {
				t.Errorf("unlocked: %v", err)
			}
		})
	}
}

// TestRevokedWhileAChangeIsStuck checks that a change that cannot continue for another reason, such as a full disk,
// does not hide a revocation of the key, and locks nothing while the key answers.
func TestRevokedWhileAChangeIsStuck(t *testing.T) {
	for _, point := range []string{"enable turned after", "enable destroyed after", "switch destroyed after"} {
		t.Run(point, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { revokedWhileStuck(t, point) }) })
	}
}

func revokedWhileStuck(t *testing.T, point string) {
	r := newStoreAndVaults(t, memory())
	var stuck atomic.Bool
	stuck.Store(true)
	r.custody.SetFault(func(at string) error {
		if at == point && stuck.Load() {
			return errFault
		}
		return nil
	})
	r.run()
	v, name := r.first(), "k1"
	if point[0] == 's' {
		r.underFirst()
		v, name = r.second(), "k2"
	}
	v.add(name)
	if err := r.enable(t.Context(), visage.KeyRef{Vault: v.address, Name: name}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Hour)
	if err := r.read(spaceA); err != nil {
		t.Errorf("stuck while its key answers: %v", err)
	}
	v.enable(name, false)
	time.Sleep(promised)
	wantRefusal(t, r.read(spaceA), "EncryptionKeyRevoked")
	v.enable(name, true)
	time.Sleep(promised)
	if err := r.read(spaceA); err != nil {
		t.Errorf("restored: %v", err)
	}
	stuck.Store(false)
	if s := r.settled(spaceA); s.Operation.Progress != custody.Succeeded || s.Condition != custody.Active {
		t.Errorf("%+v", s)
	}
}

// TestNextChange checks that a client that sees the end of a change can begin the next one.
func TestNextChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		tail := make(chan struct{})
		r.custody.SetFault(func(at string) error {
			if at == "enable done after" {
				<-tail
			}
			return nil
		})
		r.run()
		if err := r.enable(t.Context(), r.first().add("k1")); err != nil {
			t.Fatal(err)
		}
		r.settled(spaceA)
		next := make(chan error, 1)
		go func() { _, err := r.custody.Disable(t.Context(), spaceA); next <- err }()
		synctest.Wait()
		close(tail)
		if err := <-next; err != nil {
			t.Errorf("the next change: %v", err)
		}
		if s := r.settled(spaceA); s.Condition != custody.ServiceManaged {
			t.Errorf("%+v", s)
		}
	})
}
