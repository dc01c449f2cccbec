package keyvault_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keyvault"
)

func TestVaultRefusals(t *testing.T) {
	r := newAuditedService(t)
	for _, c := range []struct {
		name string
		set  func(*keyvault.Vault)
		kind visage.Kind
		code string
	}{
		{"taken in another case", func(v *keyvault.Vault) { v.Name = "SAFE" }, visage.Conflict, "VaultAlreadyExists"},
		{"short name", func(v *keyvault.Vault) { v.Name = "ab" }, visage.Invalid, "VaultNameNotValid"},
		{"long name", func(v *keyvault.Vault) { v.Name = strings.Repeat("a", 25) }, visage.Invalid,
			"VaultNameNotValid"},
		{"name with a dot", func(v *keyvault.Vault) { v.Name = "a.b.c" }, visage.Invalid, "VaultNameNotValid"},
		{"two hyphens", func(v *keyvault.Vault) { v.Name = "a--b" }, visage.Invalid, "VaultNameNotValid"},
		{"retention too short", func(v *keyvault.Vault) { v.RetentionDays = 6 }, visage.Invalid, "BadRequest"},
		{"retention too long", func(v *keyvault.Vault) { v.RetentionDays = 91 }, visage.Invalid, "BadRequest"},
		{"no tenant", func(v *keyvault.Vault) { v.Tenant = "" }, visage.Invalid, "BadRequest"},
		{"no location", func(v *keyvault.Vault) { v.Location = "" }, visage.Invalid, "BadRequest"},
		{"a policy of nobody", func(v *keyvault.Vault) { v.Policies = []keyvault.AccessPolicy{{}} }, visage.Invalid,
			"BadRequest"},
		{"two policies of one", func(v *keyvault.Vault) {
			v.Policies = []keyvault.AccessPolicy{{ObjectID: "a"}, {ObjectID: "A"}}
		}, visage.Invalid, "BadRequest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := keyvault.Vault{Name: "other", Location: "local", Tenant: tenant}
			c.set(&v)
			_, err := r.CreateVault(t.Context(), caller("operator"), v)
			wantRefusal(t, err, c.kind, c.code, "")
		})
	}
	if all, err := r.Vaults(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("after the refusals there are %d vaults, %v", len(all), err)
	}
}

func TestPurgeProtectionStaysOn(t *testing.T) {
	r := newAuditedService(t)
	set := func(on bool) (keyvault.Vault, error) {
		return r.UpdateVault(t.Context(), caller("operator"), "safe", func(v keyvault.Vault) (keyvault.Vault, error) {
			v.PurgeProtection = on
			return v, nil
		})
	}
	v, err := set(true)
	if err != nil || !v.PurgeProtection || v.RecoveryLevel() != "Recoverable" {
		t.Fatalf("got %+v, %v", v, err)
	}
	_, err = set(false)
	wantRefusal(t, err, visage.Invalid, "BadRequest", "")
	r.create("k", "EC")
	_, err = r.DeleteKey(t.Context(), caller(alice), key("k"))
	ok(t, err)
	wantRefusal(t, r.PurgeKey(t.Context(), caller(alice), key("k")), visage.Denied, "Forbidden", "")
	_, err = r.DeleteVault(t.Context(), caller("operator"), "safe")
	ok(t, err)
	wantRefusal(t, r.PurgeVault(t.Context(), caller("operator"), "safe"), visage.Denied, "MethodNotAllowed", "")
	_, err = r.UpdateVault(t.Context(), caller("operator"), "safe",
		func(v keyvault.Vault) (keyvault.Vault, error) { return v, nil })
	wantRefusal(t, err, visage.NotFound, "VaultNotFound", "")
}

func TestRetentionIsFixed(t *testing.T) {
	r := newAuditedService(t, func(v *keyvault.Vault) { v.RetentionDays = 7 })
	_, err := r.UpdateVault(t.Context(), caller("operator"), "safe", func(v keyvault.Vault) (keyvault.Vault, error) {
		v.RetentionDays = 8
		return v, nil
	})
	wantRefusal(t, err, visage.Invalid, "BadRequest", "")
	if v, err := r.Vault(t.Context(), "Safe"); err != nil || v.RecoveryLevel() != "CustomizedRecoverable+Purgeable" {
		t.Errorf("got %+v, %v", v, err)
	}
}

func TestDeletedVaultComesBackWithItsKeys(t *testing.T) {
	r := newAuditedService(t)
	made := r.create("k", "EC")
	_, err := r.DeleteVault(t.Context(), caller("operator"), "safe")
	ok(t, err)
	_, err = r.Key(t.Context(), caller(alice), key("k"))
	wantRefusal(t, err, visage.NotFound, "VaultNotFound", "")
	v := keyvault.Vault{Name: "safe", Location: "local", Tenant: tenant}
	_, err = r.CreateVault(t.Context(), caller("operator"), v)
	wantRefusal(t, err, visage.Conflict, "VaultAlreadyExists", "")
	if all, err := r.DeletedVaults(t.Context()); err != nil || len(all) != 1 || all[0].PurgeAt.IsZero() {
		t.Errorf("deleted vaults: %+v, %v", all, err)
	}
	_, err = r.RecoverVault(t.Context(), caller("operator"), "safe")
	ok(t, err)
	if k, err := r.Key(t.Context(), caller(alice), key("k")); err != nil || k.Version != made.Version {
		t.Errorf("got %+v, %v", k.Ref, err)
	}
	_, err = r.DeleteVault(t.Context(), caller("operator"), "safe")
	ok(t, err)
	ok(t, r.PurgeVault(t.Context(), caller("operator"), "safe"))
	r.vault("safe")
	_, err = r.Key(t.Context(), caller(alice), key("k"))
	wantRefusal(t, err, visage.NotFound, "KeyNotFound", "")
}

func TestPoliciesDecide(t *testing.T) {
	give := func(ps ...keyvault.Permission) func(*keyvault.Vault) {
		return func(v *keyvault.Vault) {
			v.Policies = append(v.Policies, keyvault.AccessPolicy{ObjectID: bob, Keys: ps})
		}
	}
	for _, c := range []struct {
		name string
		set  func(*keyvault.Vault)
		who  visage.Caller
		want map[string]string // by operation: the inner code, empty for success
	}{
		{"nothing", give(), caller(bob),
			map[string]string{"get": "AccessDenied", "wrap": "AccessDenied", "rotate": "AccessDenied"}},
		{"wrapKey alone", give(keyvault.MayWrap), caller(bob),
			map[string]string{"get": "AccessDenied", "wrap": "", "rotate": "AccessDenied"}},
		{"all", give(keyvault.All), caller(bob), map[string]string{"get": "", "wrap": "", "rotate": "AccessDenied"}},
		{"in capitals", give(keyvault.All), caller(strings.ToUpper(bob)), map[string]string{"get": ""}},
		{"another tenant", give(keyvault.All),
			visage.Caller{Principal: visage.Principal{ObjectID: bob, Tenant: "other"}},
			map[string]string{"get": "AccessDenied"}},
		{"nobody", give(keyvault.All), visage.Caller{Principal: visage.Principal{Tenant: tenant}},
			map[string]string{"get": "AccessDenied"}},
		{"another application", func(v *keyvault.Vault) {
			v.Policies = append(v.Policies, keyvault.AccessPolicy{ObjectID: bob, AppID: "one", Keys: everything})
		}, caller(bob), map[string]string{"get": "AccessDenied"}},
		{"the application", func(v *keyvault.Vault) {
			v.Policies = append(v.Policies, keyvault.AccessPolicy{ObjectID: bob, AppID: "APP", Keys: everything})
		}, caller(bob), map[string]string{"get": ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newAuditedService(t, c.set)
			r.create("k", "RSA")
			for op, inner := range c.want {
				var err error
				switch op {
				case "get":
					_, err = r.Key(t.Context(), c.who, key("k"))
				case "wrap":
					_, _, err = r.Use(t.Context(), c.who, key("k"), keyvault.Wrap, "RSA-OAEP-256", []byte("x"))
				case "rotate":
					_, err = r.RotateKey(t.Context(), c.who, key("k"))
				}
				if inner == "" {
					if err != nil {
						t.Errorf("%s: %v", op, err)
					}
					continue
				}
				wantRefusal(t, err, visage.Denied, "Forbidden", inner)
			}
		})
	}
}

func TestRolesDecideInTheirVaults(t *testing.T) {
	r := newAuditedService(t, func(v *keyvault.Vault) { v.RBAC = true })
	_, err := r.Keys(t.Context(), caller(alice), "safe", "", 25)
	wantRefusal(t, err, visage.Denied, "Forbidden", "ForbiddenByRbac") // her policy is ignored
	r.roles[bob+" safe list"] = true
	_, err = r.Keys(t.Context(), caller(bob), "safe", "", 25)
	ok(t, err)
	_, err = r.Key(t.Context(), caller(bob), key("k"))
	wantRefusal(t, err, visage.Denied, "Forbidden", "ForbiddenByRbac")
}

// TestChangesAreTold checks that custody is notified at once of every change that may end the use of a key.
func TestChangesAreTold(t *testing.T) {
	r := newAuditedService(t)
	r.create("one", "EC")
	r.create("two", "EC")
	const one, two = "https://safe.vault.example/keys/one", "https://safe.vault.example/keys/two"
	off, on := false, true
	for _, c := range []struct {
		name string
		do   func() error
		want []string
	}{
		{"disable", func() error {
			_, err := r.UpdateKey(t.Context(), caller(alice), key("ONE"), keyvault.KeyChange{Enabled: &off})
			return err
		}, []string{one}},
		{"enable", func() error {
			_, err := r.UpdateKey(t.Context(), caller(alice), key("one"), keyvault.KeyChange{Enabled: &on})
			return err
		}, []string{one}},
		{"rotate", func() error { _, err := r.RotateKey(t.Context(), caller(alice), key("one")); return err },
			[]string{one}},
		{"delete", func() error { _, err := r.DeleteKey(t.Context(), caller(alice), key("two")); return err },
			[]string{two}},
		{"recover", func() error { _, err := r.RecoverKey(t.Context(), caller(alice), key("two")); return err },
			[]string{two}},
		{"read", func() error { _, err := r.Key(t.Context(), caller(alice), key("two")); return err }, nil},
		{"access policies", func() error {
			_, err := r.UpdateVault(t.Context(), caller("operator"), "safe",
				func(v keyvault.Vault) (keyvault.Vault, error) {
					v.Tags = map[string]string{"a": "b"}
					return v, nil
				})
			return err
		}, []string{one, two}},
		{"delete vault", func() error { _, err := r.DeleteVault(t.Context(), caller("operator"), "safe"); return err },
			[]string{one, two}},
		{
			"recover vault", func() error {
				_,
					err := r.RecoverVault(t.Context(), caller("operator"), "safe")
				return err
			}, []string{one, two},
		},
	} {
		r.taken()
		if err := c.do(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if _, got := r.taken(); !slices.Equal(got, c.want) {
			t.Errorf("%s: notified of %v, want %v", c.name, got, c.want)
		}
	}
}
