package custody_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
)

// answering is a source whose vault gives every call an id.
type answering struct{ keysource.Source }

func (s answering) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	defer keysource.TraceOf(ctx).Answered("wrapped")
	return s.Source.Wrap(ctx, inner)
}

func (s answering) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	defer keysource.TraceOf(ctx).Answered("unwrapped")
	return s.Source.Unwrap(ctx, ref, blob)
}

// TestCallsOfVaultsAreTraced checks that the audit entry of a call to a vault contains the request id of the vault.
func TestCallsOfVaultsAreTraced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		c, err := custody.New(t.Context(), custody.Config{
			Store: r.store, Audit: r.journal,
			Open: func(ctx context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
				src, err := r.vaults.open(ctx, key, as)
				return answering{src}, err
			},
		})
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
		r.allow(true)
		c.Recheck(key)
		r.until(spaceA, "the opening", func(s custody.Status) bool { return s.Condition == custody.Active })
		seen := map[audit.Kind]string{}
		for _, e := range r.journal.Events() {
			if id := e.Details[audit.DetailProviderRequest]; id != "" {
				seen[e.Kind] = id
			}
		}
		if seen[audit.KeyWrap] == "" || seen[audit.KeyProbe] != "unwrapped" || seen[audit.KeyUnwrap] != "unwrapped" {
			t.Errorf("ids of calls: %v", seen)
		}
	})
}

// labelled is a source that notes the resources that its calls are about.
type labelled struct {
	keysource.Source
	note func(resource [16]byte)
}

func (s labelled) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	s.note(keysource.LabelOf(ctx).Resource)
	return s.Source.Wrap(ctx, inner)
}

func (s labelled) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	s.note(keysource.LabelOf(ctx).Resource)
	return s.Source.Unwrap(ctx, ref, blob)
}

// TestKeyOfAnUnusableStore wants the examination to say of a store that cannot be used that this instance may not use
// it, and nothing of the key.
func TestKeyOfAnUnusableStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		key := r.first().add("k1")
		r.first().set(func(v *vault) {
			v.fail = visage.Refuse(visage.Conflict, "KeyStoreNotUsable", "The store cannot be used.")
		})
		found, err := r.custody.Examine(t.Context(), spaceA, key, principal)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range found.Checks {
			if unusable := c.Requirement == custody.VaultKnown; unusable != (c.Refusal != nil) {
				t.Errorf("%+v", c)
			}
		}
	})
}

// TestCallsNameTheResource checks that every use of a key is labelled with the resource, the trial before it is enabled
// too: the policy of a key may demand that.
func TestCallsNameTheResource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		var mu sync.Mutex
		calls := 0
		note := func(resource [16]byte) {
			mu.Lock()
			defer mu.Unlock()
			if calls++; resource != spaceA {
				t.Errorf("call %d is about %x", calls, resource)
			}
		}
		c, err := custody.New(t.Context(), custody.Config{
			Store: r.store, Audit: r.journal,
			Open: func(ctx context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
				src, err := r.vaults.open(ctx, key, as)
				return labelled{src, note}, err
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		r.custody = c
		r.run()
		key := r.first().add("k1")
		if _, err := c.Examine(t.Context(), spaceA, key, principal); err != nil {
			t.Fatal(err)
		}
		examined := calls
		r.enabled(spaceA, key)
		c.Recheck(key)
		r.until(spaceA, "a poll", func(s custody.Status) bool { return s.Condition == custody.Active })
		if mu.Lock(); examined == 0 || calls <= examined {
			t.Errorf("%d calls to examine the key, %d in all", examined, calls)
		}
		mu.Unlock()
	})
}
