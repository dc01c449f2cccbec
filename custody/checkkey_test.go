package custody_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// TestWeakKeysAreNotSuitable: a weak key is refused in every kind of store.
func TestWeakKeysAreNotSuitable(t *testing.T) {
	for _, address := range []string{"https://first.vault.example", "pkcs11:token=HSM", "hashivault://x/transit"} {
		d := keysource.Description{Enabled: true, KeyType: "RSA-HSM", Bits: 2048, Recovery: "Recoverable",
			Operations: []string{"wrapKey", "unwrapKey"}}
		key := visage.KeyRef{Vault: address, Name: "faces"}
		if !custody.Suitable(key, d) {
			t.Errorf("%s: a good key is refused", key)
		}
		d.Weak = "its two primes are too close together"
		if custody.Suitable(key, d) {
			t.Errorf("%s: a weak key is accepted", key)
		}
	}
}

// TestPreconditions checks that every unsuitable key is refused with its own code, and that nothing changes.
func TestPreconditions(t *testing.T) {
	denied := refuse(keysource.ErrDenied, keysource.Permission, "not for you")
	describe := func(fn func(*keysource.Description)) func(*vault) {
		return func(v *vault) { fn(&v.keys["k1"].versions[0].description) }
	}
	for name, c := range map[string]struct {
		change func(*vault)
		key    func(visage.KeyRef) visage.KeyRef
		as     visage.PrincipalID
		code   string
		says   string
	}{
		"no identity": {as: "-", code: "IdentityRequired"},
		"no name": {key: func(k visage.KeyRef) visage.KeyRef { k.Name = ""; return k },
			code: "InvalidKeyVaultProperties"},
		"path in the vault": {key: func(k visage.KeyRef) visage.KeyRef { k.Vault += "/x"; return k },
			code: "InvalidKeyVaultProperties"},
		"no https": {key: func(k visage.KeyRef) visage.KeyRef { k.Vault = "http://first.vault.example"; return k },
			code: "InvalidKeyVaultProperties"},
		"a vault that is not allowed": {
			key:  func(k visage.KeyRef) visage.KeyRef { k.Vault = "https://third.vault.example"; return k },
			code: "InvalidKeyVaultProperties"},
		"no such key": {key: func(k visage.KeyRef) visage.KeyRef { k.Name = "k9"; return k },
			code: "KeyVaultKeyNotFound"},
		"no such version": {
			key:  func(k visage.KeyRef) visage.KeyRef { k.Version = strings.Repeat("0", 32); return k },
			code: "KeyVaultKeyNotFound",
		},
		"no soft delete": {change: describe(func(d *keysource.Description) { d.Recovery = "Purgeable" }),
			code: "KeyVaultSoftDeleteRequired"},
		"no recovery level": {change: describe(func(d *keysource.Description) { d.Recovery = "" }),
			code: "KeyVaultSoftDeleteRequired"},
		"no purge protection": {
			change: describe(func(d *keysource.Description) { d.Recovery = "Recoverable+Purgeable" }),
			code:   "KeyVaultPurgeProtectionRequired"},
		"purge protection off, short retention": {
			change: describe(func(d *keysource.Description) { d.Recovery = "CustomizedRecoverable+Purgeable" }),
			code:   "KeyVaultPurgeProtectionRequired"},
		"elliptic curve": {change: describe(func(d *keysource.Description) { d.KeyType, d.Bits = "EC", 0 }),
			code: "KeyVaultKeyTypeNotSupported"},
		"3072 bits": {change: describe(func(d *keysource.Description) { d.Bits = 3072 }),
			code: "KeyVaultKeyTypeNotSupported"},
		"weak": {change: describe(func(d *keysource.Description) { d.Weak = "its primes are close" }),
			code: "KeyVaultKeyTypeNotSupported", says: "its primes are close"},
		"disabled": {change: describe(func(d *keysource.Description) { d.Enabled = false }),
			code: "KeyVaultKeyDisabled"},
		"expired": {change: describe(func(d *keysource.Description) { d.Expires = time.Now() }),
			code: "KeyVaultKeyExpired"},
		"not yet valid": {change: describe(func(d *keysource.Description) { d.NotBefore = time.Now().Add(time.Hour) }),
			code: "KeyVaultKeyNotYetValid"},
		"may not be unwrapped with": {
			change: describe(func(d *keysource.Description) { d.Operations = []string{"wrapKey"} }),
			code:   "KeyVaultAccessDenied", says: "unwrapKey"},
		"no get": {change: func(v *vault) { v.verbs["get"] = denied }, code: "KeyVaultAccessDenied", says: "get"},
		"no wrap": {change: func(v *vault) { v.verbs["wrapKey"] = denied }, code: "KeyVaultAccessDenied",
			says: "wrapKey"},
		"no unwrap": {change: func(v *vault) { v.verbs["unwrapKey"] = denied }, code: "KeyVaultAccessDenied",
			says: string(principal)},
		"expired, says wrapping": {change: func(v *vault) {
			v.verbs["wrapKey"] = refuse(keysource.ErrExpired, keysource.Expired, "expired")
		}, code: "KeyVaultKeyExpired"},
		"not yet valid, found by wrapping": {change: func(v *vault) {
			v.verbs["wrapKey"] = refuse(keysource.ErrDenied, keysource.NotYetValid, "not yet")
		}, code: "KeyVaultKeyNotYetValid"},
		"disabled, says wrapping": {change: func(v *vault) {
			v.verbs["wrapKey"] = refuse(keysource.ErrDenied, keysource.Disabled, "disabled")
		}, code: "KeyVaultKeyDisabled"},
		"firewall": {
			change: func(v *vault) { v.fail = refuse(keysource.ErrDenied, keysource.Firewall, "not from there") },
			code:   "KeyVaultFirewall",
		},
		"no answer": {change: func(v *vault) { v.fail = refuse(keysource.ErrUnknown, "", "nobody there") },
			code: "KeyVaultUnavailable"},
		"an answer that never comes": {change: func(v *vault) { v.onCall = func(string) { time.Sleep(time.Minute) } },
			code: "KeyVaultUnavailable"},
		"another key's answer": {change: func(v *vault) { v.lie = true }, code: "KeyVaultKeyNotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newStoreAndVaultsWith(t, memory(), custody.Policy{})
				r.run()
				key := r.first().add("k1")
				if c.change != nil {
					r.first().set(c.change)
				}
				if c.key != nil {
					key = c.key(key)
				}
				as := principal
				if c.as == "-" {
					as = ""
				}
				_, err := r.custody.Enable(t.Context(), spaceA, key, as)
				wantRefusal(t, err, c.code)
				if err != nil && !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v does not say %q", err, c.says)
				}
				if s := r.state(spaceA); s.Condition != custody.ServiceManaged ||
					s.Operation.Progress == custody.Running || s.Version != "" {
					t.Errorf("after a refusal: %+v", s)
				}
				if err := r.read(spaceA); err != nil {
					t.Errorf("after a refusal: %v", err)
				}
				if r.journal.Count(audit.CustodyEnable, audit.Done) != 0 {
					t.Error("a refused change was audited as done")
				}
			})
		})
	}
}

// TestChangesRefused checks that changes are refused that the present state does not allow.
func TestChangesRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		wantRefusal(t, r.custody.Lock(t.Context(), spaceA), "CustomerManagedKeyNotEnabled")
		if op, err := r.custody.Disable(t.Context(), spaceA); err != nil || op.Progress != custody.Succeeded {
			t.Errorf("disable a key that is not enabled: %+v, %v", op, err)
		}
		key := r.first().add("k1")
		r.enabled(spaceA, key)
		other := r.second().add("k2")

		r.first().set(func(v *vault) { v.fail = refuse(keysource.ErrUnknown, "", "nobody there") })
		_, err := r.custody.Enable(t.Context(), spaceA, other, principal)
		wantRefusal(t, err, "KeyVaultUnavailable")
		_, err = r.custody.Disable(t.Context(), spaceA)
		wantRefusal(t, err, "KeyVaultUnavailable")
		r.first().set(func(v *vault) { v.fail = nil })

		r.first().enable("k1", false)
		for range 2 { // before the lock, and after
			_, err = r.custody.Enable(t.Context(), spaceA, other, principal)
			wantRefusal(t, err, "EncryptionKeyRevoked")
			_, err = r.custody.Disable(t.Context(), spaceA)
			wantRefusal(t, err, "EncryptionKeyRevoked")
			_, err = r.custody.Enable(t.Context(), spaceA, r.first().add("k1"), principal)
			wantRefusal(t, err, "EncryptionKeyRevoked")
			r.until(spaceA, "the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
		}
		for _, grace := range []time.Duration{time.Second, 25 * time.Hour, -1} {
			wantRefusal(t, r.custody.SetPolicy(t.Context(), spaceA, custody.Policy{Grace: grace}),
				"InvalidEncryptionPolicy")
		}
		if err := r.custody.SetPolicy(t.Context(), spaceA, custody.Policy{Grace: custody.StrictGrace}); err != nil {
			t.Errorf("set a policy while locked: %v", err)
		}
		if _, err := r.custody.Status(t.Context(), sealed.SpaceID{9}); err == nil {
			t.Error("a resource that does not exist has a state")
		}
	})
}

// TestTwoAtOnce checks that one of two concurrent changes is refused.
func TestTwoAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		one, two := r.first().add("k1"), r.second().add("k2")
		for _, v := range r.vaults {
			v.set(func(v *vault) { v.onCall = func(string) { time.Sleep(time.Second) } })
		}
		answers := make(chan error, 2)
		for _, key := range []visage.KeyRef{one, two} {
			go func() {
				_, err := r.custody.Enable(t.Context(), spaceA, key, principal)
				answers <- err
			}()
		}
		first, second := <-answers, <-answers
		if first == nil {
			first, second = second, first
		}
		wantRefusal(t, first, "RequestConflict")
		if second != nil {
			t.Errorf("the other: %v", second)
		}
		if s := r.settled(spaceA); s.Condition != custody.Active {
			t.Errorf("%+v", s)
		}
	})
}

// TestNothingWithoutAudit checks that no key is changed when the change cannot be audited.
func TestNothingWithoutAudit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		key := r.first().add("k1")
		r.journal.Fail(context.DeadlineExceeded)
		if _, err := r.custody.Enable(t.Context(), spaceA, key, principal); err == nil {
			t.Error("a key was changed without an audit entry")
		}
		r.journal.Fail(nil)
		if s := r.state(spaceA); s.Condition != custody.ServiceManaged || s.Operation.Progress == custody.Running {
			t.Errorf("%+v", s)
		}
		if err := r.read(spaceA); err != nil {
			t.Error(err)
		}
	})
}
