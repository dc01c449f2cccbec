package custody_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
)

// enableVersion enables or disables one version of a key.
func (v *vault) enableVersion(key visage.KeyRef, on bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, version := range v.keys[key.Name].versions {
		if version.id == key.Version {
			version.description.Enabled = on
		}
	}
}

// TestDisabledAfterRotation disables a version as soon as a newer one exists. The reason says which version is
// disabled, that it is still needed, and until when. Enabling it opens the resource, which then moves to the newer
// version.
func TestDisabledAfterRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		one := r.first().add("k1")
		followed := one
		followed.Version = ""
		r.enabled(spaceA, followed)
		two := r.first().add("k1")
		r.first().enableVersion(one, false)
		r.custody.Recheck(one)
		s := r.until(spaceA, "the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
		wants(t, s.Reason, "Version "+one.Version, one.Unversioned(), "is disabled", "still wrapped by it",
			"enable it again until",
			"version "+two.Version)
		if refusal, ok := errors.AsType[*visage.Refusal](r.read(spaceA)); !ok ||
			strings.Contains(refusal.Message, one.Vault) {
			t.Errorf("clients of the Face API see the address of the key: %v", refusal)
		}
		r.first().enableVersion(one, true)
		r.custody.Recheck(one)
		r.until(spaceA, "the restoration", func(s custody.Status) bool { return s.Condition == custody.Active })
		time.Sleep(2 * time.Hour)
		if s := r.state(spaceA); s.Version != two.Version || s.Reason != "" {
			t.Errorf("later: %+v", s)
		}
		r.first().enableVersion(one, false) // it is not needed any more
		r.custody.Recheck(one)
		time.Sleep(time.Minute)
		if s := r.state(spaceA); s.Condition != custody.Active {
			t.Errorf("with a disabled version that is no longer in use: %+v", s)
		}
	})
}

// TestRightsOfAFurtherKey: a refusal of a further key names the rights that its own store has, not those of the first.
func TestRightsOfAFurtherKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const elsewhere = "hashivault://transit.example/transit"
		r := newStoreAndVaults(t, memory())
		r.vaults[elsewhere] = newVault(elsewhere)
		r.run()
		r.enabled(spaceA, r.first().add("k1"))
		r.added(r.vaults[elsewhere].add("k2"))
		r.first().silent(true)
		r.later("the other key serves", func(s custody.Status) bool { return s.Serving > 0 })
		r.vaults[elsewhere].set(func(v *vault) { v.denied[principal] = keysource.Permission })
		s := r.later("the lock", in(custody.Revoked))
		wants(t, s.Reason, "give it its rights in the key store again")
	})
}

// TestReasonsNameTheVersion removes access to a key in every possible way.
func TestReasonsNameTheVersion(t *testing.T) {
	for name, c := range map[string]struct {
		take func(v *vault, key visage.KeyRef)
		want custody.Condition
		says []string // beginning with Status.Cause
	}{
		"disabled": {func(v *vault, _ visage.KeyRef) { v.enable("k1", false) }, custody.Revoked,
			[]string{"disabled", "is disabled", "enable it again."}},
		"deleted": {func(v *vault, _ visage.KeyRef) {
			v.set(func(v *vault) {
				v.verbs["unwrapKey"] = refuse(keysource.ErrDenied, keysource.Missing, "404 in the vault's words")
			})
		}, custody.Revoked, []string{"missing", "recover the key", "404 in the vault's words"}},
		"permission": {func(v *vault, _ visage.KeyRef) {
			v.set(func(v *vault) { v.verbs["unwrapKey"] = refuse(keysource.ErrDenied, keysource.Permission, "403") })
		}, custody.Revoked, []string{"permission", "refused to principal", "get, wrapKey and unwrapKey"}},
		"firewall": {func(v *vault, _ visage.KeyRef) {
			v.set(func(v *vault) { v.verbs["unwrapKey"] = refuse(keysource.ErrDenied, keysource.Firewall, "403") })
		}, custody.Revoked, []string{"firewall", "firewall"}},
		"another key": {func(v *vault, _ visage.KeyRef) {
			v.set(func(v *vault) { v.verbs["unwrapKey"] = refuse(keysource.ErrWrong, "", "no") })
		}, custody.Revoked, []string{"wrong", "another key answers"}},
		"no reason": {func(v *vault, _ visage.KeyRef) {
			v.set(func(v *vault) { v.verbs["unwrapKey"] = refuse(keysource.ErrDenied, "", "no") })
		}, custody.Revoked, []string{"denied", "is refused"}},
		"silence": {func(v *vault, _ visage.KeyRef) {
			v.set(func(v *vault) { v.fail = refuse(keysource.ErrUnknown, "", "nobody there") })
		}, custody.Degraded, []string{"unknown", "gets no usable answer", "nobody there"}},
		"expiry": {func(v *vault, _ visage.KeyRef) {
			v.change("k1", func(d *keysource.Description) { d.Expires = time.Now() })
		}, custody.Degraded, []string{"expired", "has expired"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newStoreAndVaults(t, memory())
				r.run()
				key := r.first().add("k1")
				r.enabled(spaceA, key)
				c.take(r.first(), key)
				r.custody.Recheck(key)
				s := r.until(spaceA, "the answer", func(s custody.Status) bool { return s.Condition == c.want })
				if s.Cause != c.says[0] {
					t.Errorf("the cause is %q, want %q", s.Cause, c.says[0])
				}
				wants(t, s.Reason, append(c.says[1:], "Version "+key.Version+" of key "+key.Unversioned()+" ")...)
			})
		})
	}
}

func wants(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in %q", part, text)
		}
	}
}
