package keyvault_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keyvault"
)

// TestWhoMayGiveAccess: where roles decide, policies and the change to them are for who may give roles; everything else
// is for who may change the vault.
func TestWhoMayGiveAccess(t *testing.T) {
	policy := keyvault.AccessPolicy{ObjectID: bob, Keys: []keyvault.Permission{keyvault.MayGet}}
	model := func(rbac bool) func(*keyvault.Vault) { return func(v *keyvault.Vault) { v.RBAC = rbac } }
	for _, c := range []struct {
		name   string
		rbac   bool // before
		change func(*keyvault.Vault)
		guards bool
	}{
		{"to policies", true, model(false), true},
		{"to roles", false, model(true), true},
		{"a policy where roles decide", true, func(v *keyvault.Vault) { v.Policies = append(v.Policies[:1], policy) },
			true},
		{"more in a policy where roles decide", true,
			func(v *keyvault.Vault) { v.Policies[0].Keys = append(v.Policies[0].Keys, keyvault.MayRelease) }, true},
		{"less in a policy where roles decide", true,
			func(v *keyvault.Vault) { v.Policies[0].Keys = v.Policies[0].Keys[1:] }, true},
		{"no policies where roles decide", true, func(v *keyvault.Vault) { v.Policies = nil }, true},
		{"another name in a policy where roles decide", true, func(v *keyvault.Vault) { v.Policies[0].ObjectID = bob },
			true},
		{"another application in a policy where roles decide", true,
			func(v *keyvault.Vault) { v.Policies[0].AppID = "x" }, true},
		{"a permission that is only kept", true,
			func(v *keyvault.Vault) { v.Policies[0].Others = []string{"secrets/get"} }, true},
		{"the model with a policy", true,
			func(v *keyvault.Vault) { v.RBAC, v.Policies = false, []keyvault.AccessPolicy{policy} }, true},
		{"tags where roles decide", true, func(v *keyvault.Vault) { v.Tags = map[string]string{"a": "b"} }, false},
		{"the same policies where roles decide", true, func(v *keyvault.Vault) { slices.Reverse(v.Policies[0].Keys) },
			false},
		{"a policy where policies decide", false, func(v *keyvault.Vault) { v.Policies = append(v.Policies, policy) },
			false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newAuditedService(t, func(v *keyvault.Vault) { v.RBAC = c.rbac })
			before, err := r.Vault(t.Context(), "safe")
			ok(t, err)
			update := func(who keyvault.Caller) error {
				_, err := r.UpdateVault(t.Context(), who, "safe", func(v keyvault.Vault) (keyvault.Vault, error) {
					c.change(&v)
					return v, nil
				})
				return err
			}
			r.taken()
			err = update(caller(bob))
			if !c.guards {
				ok(t, err)
				return
			}
			wantRefusal(t, err, visage.Denied, "AuthorizationFailed", "")
			if now, err := r.Vault(t.Context(), "safe"); err != nil || now.Revision != before.Revision ||
				now.RBAC != c.rbac {
				t.Errorf("after a refusal: %+v, %v", now, err)
			}
			if told, _ := r.taken(); !slices.Equal(told, []string{"VaultPatch AuthorizationFailed"}) {
				t.Errorf("told of %v", told)
			}
			r.roles[bob+" safe give access"] = true
			ok(t, update(caller(bob)))
			r.roles[bob+" safe give access"] = false
			ok(t, update(keyvault.Caller{})) // the service itself
		})
	}
}

// TestAccessIsToldBeforeAndAfter holds what the audit is told of every change of who may do what.
func TestAccessIsToldBeforeAndAfter(t *testing.T) {
	r := newAuditedService(t, func(v *keyvault.Vault) {
		v.Policies = []keyvault.AccessPolicy{{ObjectID: alice,
			Keys: []keyvault.Permission{keyvault.MayList, keyvault.MayGet}}}
	})
	told := func() []keyvault.Access {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.events[len(r.events)-1].Access
	}
	want := func(step string, all ...keyvault.Access) {
		t.Helper()
		if !slices.Equal(told(), all) {
			t.Errorf("%s: told %+v, want %+v", step, told(), all)
		}
	}
	want("create", keyvault.Access{ObjectID: alice, After: "get,list"})
	r.roles[bob+" safe give access"] = true
	change := func(do func(*keyvault.Vault)) {
		t.Helper()
		_, err := r.UpdateVault(t.Context(), caller(bob), "safe", func(v keyvault.Vault) (keyvault.Vault, error) {
			do(&v)
			return v, nil
		})
		ok(t, err)
	}
	change(func(v *keyvault.Vault) {
		v.Policies[0].Keys = append(v.Policies[0].Keys, keyvault.MayWrap)
		v.Policies = append(v.Policies,
			keyvault.AccessPolicy{ObjectID: bob, AppID: "app", Keys: []keyvault.Permission{keyvault.All}})
	})
	want("policies", keyvault.Access{ObjectID: alice, Before: "get,list", After: "get,list,wrapKey"},
		keyvault.Access{ObjectID: bob, AppID: "app", After: "all"})
	change(func(v *keyvault.Vault) { v.Tags = map[string]string{"a": "b"} })
	want("tags")
	change(func(v *keyvault.Vault) { v.RBAC, v.Policies = true, v.Policies[:1] })
	want("model", keyvault.Access{Before: keyvault.ModelPolicies, After: keyvault.ModelRoles},
		keyvault.Access{ObjectID: bob, AppID: "app", Before: "all"})
	_, err := r.DeleteVault(t.Context(), caller(bob), "safe")
	ok(t, err)
	ok(t, r.PurgeVault(t.Context(), caller(bob), "safe"))
	want("the end", keyvault.Access{ObjectID: alice, Before: "get,list,wrapKey"})
}

// TestAccessIsNeverChangedUntold: what could not be told when it was done is told later, once.
func TestAccessIsNeverChangedUntold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAuditedService(t)
		r.taken()
		r.deaf = errors.New("the disk is full")
		_, err := r.UpdateVault(t.Context(), caller(bob), "safe", func(v keyvault.Vault) (keyvault.Vault, error) {
			v.Policies = append(v.Policies,
				keyvault.AccessPolicy{ObjectID: bob, Keys: []keyvault.Permission{keyvault.MayGet}})
			return v, nil
		})
		if !errors.Is(err, r.deaf) {
			t.Fatalf("a change that could not be told of: %v", err)
		}
		r.deaf = nil
		r.taken()
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		synctest.Wait()
		time.Sleep(2 * time.Hour)
		stop()
		ok(t, <-ended)
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.events) != 1 || r.events[0].Outcome != keyvault.Success || r.events[0].Who != caller(bob) ||
			!slices.Equal(r.events[0].Access, []keyvault.Access{{ObjectID: bob, After: "get"}}) {
			t.Errorf("told of %+v", r.events)
		}
	})
}
