package custody_test

import (
	"context"
	"errors"
	"slices"
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

// TestLife covers the life of a key: enable, a new version, another key, disable.
func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		if s := r.state(spaceA); s.Condition != custody.ServiceManaged || s.Version != "" || s.Code != "" {
			t.Errorf("before: %+v", s)
		}
		one := r.first().add("k1")
		r.enabled(spaceA, one)
		s := r.state(spaceA)
		if s.Condition != custody.Active || s.Version != one.Version || s.Key != one || s.As != principal {
			t.Errorf("enabled: %+v", s)
		}
		if s.Operation.Kind != custody.Enabling || s.Operation.Progress != custody.Succeeded || s.Operation.ID == "" {
			t.Errorf("enabled: %+v", s.Operation)
		}
		two := r.first().add("k1")
		op, err := r.custody.Enable(t.Context(), spaceA, two, principal)
		if err != nil || op.Kind != custody.Updating || op.Progress != custody.Succeeded {
			t.Fatalf("a new version: %+v, %v", op, err)
		}
		if s := r.state(spaceA); s.Version != two.Version || s.Condition != custody.Active {
			t.Errorf("a new version: %+v", s)
		}
		other := r.second().add("k2")
		r.enabled(spaceA, other)
		if s := r.state(spaceA); s.Version != other.Version || s.Key != other || s.Operation.Kind != custody.Switching {
			t.Errorf("another vault: %+v", s)
		}
		if err := r.read(spaceA); err != nil {
			t.Error(err)
		}
		if _, err := r.custody.Disable(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		if s := r.settled(spaceA); s.Condition != custody.ServiceManaged || s.Version != "" || s.Key.Name != "" {
			t.Errorf("disabled: %+v", s)
		}
		if err := r.read(spaceA); err != nil {
			t.Error(err)
		}
		for _, kind := range []audit.Kind{audit.CustodyEnable, audit.CustodySwitch, audit.CustodyFollow,
			audit.CustodyDisable} {
			if r.journal.Count(kind, audit.Unknown) != 1 || r.journal.Count(kind, audit.Done) != 1 {
				t.Errorf("%s was not audited as intended and as done", kind)
			}
		}
	})
}

// TestRevoke disables a key and enables it again.
func TestRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		r.enabled(spaceA, r.first().add("k1"))
		r.first().enable("k1", false)
		s := r.until(spaceA, "the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
		if s.Code != "EncryptionKeyRevoked" || s.Reason == "" || s.Since.IsZero() {
			t.Errorf("revoked: %+v", s)
		}
		err := r.read(spaceA)
		if !errors.Is(err, sealed.ErrLocked) {
			t.Errorf("read: %v", err)
		}
		wantRefusal(t, err, "EncryptionKeyRevoked")
		r.first().enable("k1", true)
		r.until(spaceA, "the restoration", func(s custody.Status) bool { return s.Condition == custody.Active })
		if err := r.read(spaceA); err != nil {
			t.Error(err)
		}
	})
}

// TestReportsPolls tells of each answer of a key, with all resources that depend on it.
func TestReportsPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		var mu sync.Mutex
		counts := map[audit.Outcome]int{}
		var dependents []visage.ResourceID
		c, err := custody.New(t.Context(), custody.Config{
			Store: r.store, Open: r.vaults.open, Audit: r.journal,
			Polled: func(answer audit.Outcome, of []visage.ResourceID) {
				mu.Lock()
				defer mu.Unlock()
				counts[answer]++
				dependents = of
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		r.custody = c
		r.run()
		key := r.first().add("k1")
		r.enabled(spaceA, key)
		other := sealed.SpaceID{1: 2}
		if err := r.store.Spaces().Create(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		r.enabled(other, key)
		time.Sleep(5 * time.Minute)
		mu.Lock()
		if n := counts[audit.Done]; n < 7 || len(counts) > 1 || len(dependents) != 2 {
			t.Errorf("polls in five minutes: %v, the last of %v", counts, dependents)
		}
		mu.Unlock()
		r.first().enable("k1", false)
		r.until(spaceA, "the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
		mu.Lock()
		defer mu.Unlock()
		if counts[audit.Refused] != 1 || counts[audit.Unknown] != 0 {
			t.Errorf("after a refusal: %v", counts)
		}
	})
}

// TestConfirmsApart checks that keys are polled over shared connections, and that a refusal is confirmed over a
// separate one, which is closed again after some successful polls.
func TestConfirmsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		var mu sync.Mutex
		var opened []string
		as := func(how string) func(context.Context, visage.KeyRef, visage.PrincipalID) (keysource.Source, error) {
			return func(ctx context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
				mu.Lock()
				defer mu.Unlock()
				opened = append(opened, how)
				return r.vaults.open(ctx, key, as)
			}
		}
		since := func(want ...string) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(opened, want) {
				t.Errorf("opened %q, want %q", opened, want)
			}
			opened = nil
		}
		c, err := custody.New(t.Context(),
			custody.Config{Store: r.store, Open: as("apart"), Watch: as("shared"), Audit: r.journal})
		if err != nil {
			t.Fatal(err)
		}
		r.custody = c
		r.run()
		r.enabled(spaceA, r.first().add("k1"))
		time.Sleep(2 * time.Minute)
		mu.Lock()
		if last := opened[len(opened)-1]; last != "shared" {
			t.Errorf("the key is polled over a connection that is %s", last)
		}
		opened = nil
		mu.Unlock()
		r.first().set(func(v *vault) {
			first := true
			v.onCall = func(verb string) {
				if verb == "unwrapKey" { // refuse one request, and answer the next
					v.set(func(v *vault) {
						v.verbs[verb] = nil
						if first {
							v.verbs[verb] = refuse(keysource.ErrDenied, keysource.Permission, "not now")
						}
						first = false
					})
				}
			}
		})
		time.Sleep(2 * time.Minute)
		since("apart")
		time.Sleep(6 * time.Minute)
		since("shared")
		if s := r.state(spaceA); s.Condition != custody.Active {
			t.Errorf("the condition is %s", s.Condition)
		}
	})
}
