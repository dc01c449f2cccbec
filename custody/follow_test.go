package custody_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// TestFailedMoveWaits: a newer version that cannot wrap is tried again after an hour, or when the key is reported as
// changed, and not as fast as the vault answers. The data stays open under the version in use.
func TestFailedMoveWaits(t *testing.T) {
	spaces := []sealed.SpaceID{spaceA, {0xb}}
	for _, c := range []struct {
		name                 string
		resources, processes int
	}{{"one resource", 1, 1}, {"two resources", 2, 1}, {"one resource of two processes", 1, 2}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r *storeAndVaults
				if c.processes > 1 {
					r, _ = replicas(t)
				} else {
					r = newStoreAndVaults(t, memory())
					r.run()
				}
				key := r.first().add("k1")
				followed := visage.KeyRef{Vault: key.Vault, Name: key.Name}
				for _, id := range spaces[:c.resources] {
					if id != spaceA {
						if err := r.store.Spaces().Create(t.Context(), id); err != nil {
							t.Fatal(err)
						}
					}
					r.enabled(id, followed)
				}
				time.Sleep(time.Minute)
				refused := func(want int, when string) {
					t.Helper()
					synctest.Wait()
					if n := r.journal.Count(audit.CustodyFollow, audit.Failed); n < want || n > want*c.processes {
						t.Fatalf("%s: %d moves have failed, want %d of each process at most", when, n, want)
					}
					if s := r.state(spaceA); s.Condition != custody.Active || s.Version != key.Version {
						t.Errorf("%s: %+v", when, s)
					}
				}
				newest := r.first().add("k1")
				r.first().set(func(v *vault) {
					v.verbs["wrapKey"] = refuse(keysource.ErrDenied, keysource.Permission, "no wrapKey")
					v.delay = map[string]time.Duration{"wrapKey": 100 * time.Millisecond}
				})
				r.custody.Recheck(followed)
				time.Sleep(50 * time.Minute)
				refused(1, "50 minutes after the new version")
				r.custody.Recheck(followed)
				time.Sleep(time.Second)
				refused(2, "when the key was reported as changed")
				time.Sleep(50 * time.Minute)
				refused(2, "50 minutes later")

				r.first().set(func(v *vault) { v.verbs["wrapKey"] = nil })
				time.Sleep(65 * time.Minute) // of two processes, the other one may have tried just before
				for _, id := range spaces[:c.resources] {
					if s := r.state(id); s.Version != newest.Version || s.Condition != custody.Active {
						t.Errorf("an hour after the version can wrap: %+v", s)
					}
				}
			})
		})
	}
}

// TestRecheckOfAMoveThatFails: a key that is reported as changed while a resource moves to its newer version is tried
// again as soon as the move has failed.
func TestRecheckOfAMoveThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		key := r.first().add("k1")
		followed := visage.KeyRef{Vault: key.Vault, Name: key.Name}
		r.enabled(spaceA, followed)
		time.Sleep(time.Minute)
		newest, failed := r.first().add("k1"), false
		r.custody.SetFault(func(at string) error {
			if at != "follow rewrapped before" || failed {
				return nil
			}
			failed = true
			r.custody.Recheck(followed)
			return errFault
		})
		r.custody.Recheck(followed)
		r.within(soon, "the second move", func(s custody.Status) bool { return s.Version == newest.Version })
		if !failed {
			t.Error("the first move has not failed")
		}
	})
}

// TestRecheckDuringASearch: a version that a vault makes while an earlier search is under way is found at once, when it
// is reported, and not by a later poll.
func TestRecheckDuringASearch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		key := r.first().add("k1")
		followed := visage.KeyRef{Vault: key.Vault, Name: key.Name}
		r.enabled(spaceA, followed)
		time.Sleep(time.Minute)
		searching, search, reads := make(chan struct{}), make(chan struct{}), 0
		r.first().set(func(v *vault) {
			v.onRead = func() { // the poll reads the expiry date, and then the search reads the key
				if reads++; reads == 2 {
					v.set(func(v *vault) { v.onRead = nil })
					close(searching)
					<-search
				}
			}
		})
		r.custody.Recheck(followed)
		<-searching
		newest := r.first().add("k1")
		r.custody.Recheck(followed)
		synctest.Wait() // for the poll
		close(search)
		r.within(soon, "the move", func(s custody.Status) bool { return s.Version == newest.Version })
	})
}
