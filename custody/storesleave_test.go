package custody_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
)

// refuses has a vault refuse every call.
func (v *vault) refuses() {
	v.set(func(v *vault) { v.fail = refuse(keysource.ErrDenied, keysource.Permission, "no") })
}

// TestRemovalMakesANewDataKey checks that a removed key opens nothing that is written afterwards, not even with copies
// from before: the data key is another one, and the pages are sealed anew. That holds for data that is not open yet
// when the removal begins.
func TestRemovalMakesANewDataKey(t *testing.T) {
	for _, open := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r := newStoreAndVaults(t, memory())
			r.run()
			one, two := r.underBoth()
			generation := func() uint32 {
				keys, err := r.store.Bundle(spaceA).Keys(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return keys.Slots[0].Generation
			}
			before, turned := generation(), r.journal.Count(audit.CustodyEpoch, audit.Done)
			if open {
				r.removed(two)
			} else {
				r.halt()
				r.openCustody()
				if _, err := r.custody.RemoveStore(t.Context(), spaceA, two); err != nil {
					t.Fatal(err)
				}
				r.run()
				r.settled(spaceA)
			}
			r.slotsAre(one)
			if after := generation(); after == before {
				t.Errorf("open %v: generation %d before and after the removal", open, after)
			}
			if n := r.journal.Count(audit.CustodyEpoch, audit.Done); n != turned+1 {
				t.Errorf("open %v: the pages were sealed anew %d times", open, n-turned)
			}
		})
	}
}

// TestPromotionAsksTheFirst has the first key answer again in the middle of a promotion, when no watch asks it: then it
// decides, and is not replaced.
func TestPromotionAsksTheFirst(t *testing.T) {
	for _, mood := range []mood{no, yes} {
		synctest.Test(t, func(t *testing.T) {
			r := newStoreAndVaults(t, memory())
			r.run()
			one, two := r.underBoth()
			r.first().silent(true)
			r.later("the fail-over", func(s custody.Status) bool { return s.Serving == 1 })
			time.Sleep(time.Hour)
			r.custody.SetFault(func(at string) error {
				if at == "promote-store intended before" {
					if r.first().silent(false); mood == no {
						r.first().refuses()
					}
				}
				return nil
			})
			_, err := r.custody.PromoteStore(t.Context(), spaceA)
			wantRefusal(t, err, "PromotionNotAllowed")
			want := custody.Active
			if mood == no {
				want = custody.Revoked
			}
			r.until(spaceA, "the first key's decision", func(s custody.Status) bool { return s.Condition == want })
			r.slotsAre(one, two)
			if mood == no {
				r.first().silent(true)
				r.reborn()
				time.Sleep(time.Hour)
				if r.read(spaceA) == nil {
					t.Error("the second key has opened the data")
				}
			}
		})
	}
}

// TestFurtherKeyRefusesDuringSwitch has a further key refuse past the point of no return of a change: that is no
// refusal of the first key, and the change does not wait for it.
func TestFurtherKeyRefusesDuringSwitch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const third = "https://third.vault.example"
		r := newStoreAndVaults(t, memory())
		r.vaults[third] = newVault(third)
		r.run()
		_, two := r.underBoth()
		three := r.vaults[third].add("k3")
		r.custody.SetFault(func(at string) error {
			if at == "switch pending after" {
				r.second().refuses()
			}
			return nil
		})
		r.enabled(spaceA, three)
		r.slotsAre(three, two)
		for range 60 {
			if err := r.read(spaceA); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if s := r.state(spaceA); s.Condition != custody.Active || !s.Stores[1].Refuses() {
			t.Errorf("%+v", s)
		}
	})
}

// TestRefusalDuringStuckChange has a change that cannot be finished, because a record cannot be written, and the first
// key refuse after a long silence: the data is locked within 60 s.
func TestRefusalDuringStuckChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		one := r.first().add("k1")
		r.enabled(spaceA, one)
		two := r.second().add("k2")
		r.added(visage.KeyRef{Vault: two.Vault, Name: two.Name})
		r.first().silent(true)
		r.later("the fail-over", func(s custody.Status) bool { return s.Serving == 1 })
		stuck := false
		r.custody.SetFault(func(at string) error {
			if at == "follow done before" {
				stuck = true
				return errFault
			}
			return nil
		})
		two = r.second().add("k2")
		r.custody.Recheck(two)
		start := time.Now()
		for time.Since(start) < 2*custody.DefaultGrace {
			if err := r.read(spaceA); err != nil {
				t.Fatalf("served by the second key: %v", err)
			}
			time.Sleep(time.Second)
		}
		if !stuck {
			t.Fatal("the change did not begin")
		}
		r.first().refuses()
		start = time.Now()
		s := r.later("the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
		if took := time.Since(start); took > time.Minute {
			t.Errorf("locked after %v: %+v", took, s)
		}
	})
}

// TestSlowStores adds a key while three stores are slow, and revokes the first in the middle, when no watch asks it:
// the change gives up, and the data is closed in time.
func TestSlowStores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slow = 4 * time.Second // and a change makes four calls to each
		r := newStoreAndVaults(t, memory())
		third := newVault("https://third.vault.example")
		r.vaults[third.address] = third
		r.run()
		r.underBoth()
		key := third.add("k3")
		var revoked time.Time
		for _, v := range r.vaults {
			v.set(func(v *vault) { v.delay = map[string]time.Duration{"wrapKey": slow, "unwrapKey": slow} })
		}
		r.second().set(func(v *vault) {
			v.onCall = func(verb string) {
				if verb == "wrapKey" && revoked.IsZero() { // the first has wrapped the new data key
					r.first().set(func(v *vault) { v.denied[principal] = keysource.Permission })
					revoked = time.Now()
				}
			}
		})
		_, err := r.custody.AddStore(t.Context(), spaceA, key, principal)
		wantRefusal(t, err, "KeyVaultUnavailable")
		if revoked.IsZero() {
			t.Fatal("the first key was not revoked during the change")
		}
		for r.read(spaceA) == nil {
			time.Sleep(250 * time.Millisecond)
		}
		if took := time.Since(revoked); took > 45*time.Second {
			t.Errorf("the revocation took %v", took)
		}
		r.slotsAre(r.first().newest("k1"), r.second().newest("k2"))
	})
}

// TestSlowChecks has the first key refuse just after it was asked before a change, while all stores are so slow that
// their answers come just in time: the checks and the change together do not keep the data open for more than a minute.
func TestSlowChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slow = 4900 * time.Millisecond
		r := newStoreAndVaults(t, memory())
		for _, address := range []string{"https://third.vault.example", "https://fourth.vault.example"} {
			r.vaults[address] = newVault(address)
		}
		r.run()
		r.underBoth()
		r.added(r.vaults["https://third.vault.example"].add("k3"))
		key := r.vaults["https://fourth.vault.example"].add("k4")
		for _, v := range r.vaults {
			v.set(func(v *vault) {
				v.delay = map[string]time.Duration{"get": slow, "wrapKey": slow, "unwrapKey": slow}
			})
		}
		for range 8 { // at different distances from the next poll
			var revoked time.Time
			r.first().set(func(v *vault) {
				v.onReply = func(verb string) {
					if verb == "unwrapKey" && revoked.IsZero() {
						revoked = time.Now()
						r.first().set(func(v *vault) { v.denied[principal] = keysource.Permission })
					}
				}
			})
			if _, err := r.custody.Enable(t.Context(), spaceA, key, principal); err == nil {
				t.Fatal("the key was switched")
			}
			for r.read(spaceA) == nil {
				time.Sleep(250 * time.Millisecond)
			}
			if took := time.Since(revoked); took > time.Minute {
				t.Errorf("the revocation took %v", took)
			}
			r.first().set(func(v *vault) {
				v.onReply = nil
				delete(v.denied, principal)
			})
			r.later("the restoration", in(custody.Active))
			time.Sleep(7 * time.Second)
		}
	})
}

// TestRefusalIsStoredFirst holds that the note of a resource with two keys names the key that has refused before the
// data is locked, so that after a crash in between the other key does not open it.
func TestRefusalIsStoredFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		r.underBoth()
		var notes []string
		r.journal.before = func(e audit.Event) { // written after the lock, and before its note
			if e.Kind != audit.CustodyLock {
				return
			}
			keys, err := r.store.Bundle(spaceA).Keys(t.Context())
			if err != nil {
				t.Error(err)
			}
			notes = append(notes, string(keys.Note))
		}
		r.first().set(func(v *vault) { v.denied[principal] = keysource.Permission })
		r.later("the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
		synctest.Wait()
		if len(notes) != 1 || !strings.Contains(notes[0], `"refusedBy":1`) || strings.Contains(notes[0], `"closed"`) {
			t.Errorf("when the data was locked, the note was %q", notes)
		}
	})
}
