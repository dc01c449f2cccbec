package keyvault_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/audit/audittest"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/keyvault"
)

// TestWhoMayGiveAccess checks that, where roles decide, policies and the change to policies require the right to assign
// roles; all other changes require the right to change the vault.
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
			update := func(who visage.Caller) error {
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
			ok(t, update(visage.Caller{})) // the service itself
		})
	}
}

// TestAccessIsToldBeforeAndAfter checks that the audit gets every change of access with the state before and after.
func TestAccessIsToldBeforeAndAfter(t *testing.T) {
	r := newAuditedService(t, func(v *keyvault.Vault) {
		v.Policies = []keyvault.AccessPolicy{{ObjectID: alice,
			Keys: []keyvault.Permission{keyvault.MayList, keyvault.MayGet}}}
	})
	want := func(step string, all ...string) {
		t.Helper()
		if got := changes(r.audit.Events()); !slices.Equal(got, all) {
			t.Errorf("%s: recorded %q, want %q", step, got, all)
		}
	}
	want("create", alice+" : none -> get,list")
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
	want("policies", alice+" : get,list -> get,list,wrapKey", bob+" app: none -> all")
	change(func(v *keyvault.Vault) { v.Tags = map[string]string{"a": "b"} })
	want("tags")
	change(func(v *keyvault.Vault) { v.RBAC, v.Policies = true, v.Policies[:1] })
	want("model", " : access-policies -> roles", bob+" app: all -> none")
	_, err := r.DeleteVault(t.Context(), caller(bob), "safe")
	ok(t, err)
	ok(t, r.PurgeVault(t.Context(), caller(bob), "safe"))
	want("the end", alice+" : get,list,wrapKey -> none")
}

// changes returns the changes of access among events, as "OBJECT APP: BEFORE -> AFTER".
func changes(events []audit.Event) (all []string) {
	for _, e := range events {
		if e.Kind == audit.VaultAccess {
			d := e.Details
			all = append(all, fmt.Sprintf("%s %s: %s -> %s", d[audit.DetailSubject], d[audit.DetailClient],
				d[audit.DetailBefore], d[audit.DetailAfter]))
		}
	}
	return all
}

// TestAccessIsNeverChangedUntold checks that a change that could not be recorded at once is recorded later, once.
func TestAccessIsNeverChangedUntold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAuditedService(t)
		r.taken()
		full := errors.New("the disk is full")
		r.audit.Fail(full)
		_, err := r.UpdateVault(t.Context(), caller(bob), "safe", func(v keyvault.Vault) (keyvault.Vault, error) {
			v.Policies = append(v.Policies,
				keyvault.AccessPolicy{ObjectID: bob, Keys: []keyvault.Permission{keyvault.MayGet}})
			return v, nil
		})
		if !errors.Is(err, full) {
			t.Fatalf("a change that could not be recorded: %v", err)
		}
		r.audit.Fail(nil)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		synctest.Wait()
		time.Sleep(2 * time.Hour)
		stop()
		ok(t, <-ended)
		events := r.audit.Events()
		if len(events) != 2 || !slices.Equal(changes(events), []string{bob + " : none -> get"}) {
			t.Fatalf("recorded %+v", events)
		}
		who := audit.Actor{Kind: audit.Identity, ID: bob}
		for _, e := range events {
			if e.Outcome != audit.Done || e.Actor != who || e.RequestID != "r1" {
				t.Errorf("recorded %+v", e)
			}
		}
	})
}

// TestAChangeIsDeliveredSoon: Run leaves an event alone while the operation itself is about to append it, and looks
// again when that has failed, instead of in an hour.
func TestAChangeIsDeliveredSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var recorder audittest.Recorder
		appending := false
		s, err := keyvault.New(keyvault.Config{
			Store: openStore(t, "", sourcetest.NewFake("root")), Audit: &recorder,
			Address: func(vault string) string { return "https://" + vault + ".vault.example/" },
			Scope: func(string) string {
				if appending {
					appending = false
					synctest.Wait() // until Run has looked, and sleeps
				}
				return "/a/scope"
			},
		})
		ok(t, err)
		_, err = s.CreateVault(t.Context(), caller(bob), keyvault.Vault{Name: "safe", Group: "default",
			Location: "local", Tenant: tenant})
		ok(t, err)
		recorder.Events()
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		synctest.Wait()
		full := errors.New("the disk is full")
		recorder.Fail(full)
		appending = true
		_, err = s.UpdateVault(t.Context(), caller(bob), "safe", func(v keyvault.Vault) (keyvault.Vault, error) {
			v.Policies = []keyvault.AccessPolicy{{ObjectID: bob, Keys: []keyvault.Permission{keyvault.MayGet}}}
			return v, nil
		})
		if !errors.Is(err, full) {
			t.Fatalf("a change that could not be recorded: %v", err)
		}
		recorder.Fail(nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := changes(recorder.Events()); !slices.Equal(got, []string{bob + " : none -> get"}) {
			t.Errorf("recorded two minutes after the disk was full: %q", got)
		}
		stop()
		ok(t, <-ended)
	})
}

// TestRightsComeFirst: a caller without rights is refused for that, whatever else is wrong, so that its refusals are
// counted and cannot fill the audit log.
func TestRightsComeFirst(t *testing.T) {
	r := newAuditedService(t)
	for _, name := range []string{"rsa", "no_name"} {
		_, err := r.RotateKey(t.Context(), caller(bob), key(name))
		wantRefusal(t, err, visage.Denied, "Forbidden", "AccessDenied")
	}
	_, err := r.RotateKey(t.Context(), caller(alice), key("no_name"))
	wantRefusal(t, err, visage.Invalid, "BadParameter", "")
}
