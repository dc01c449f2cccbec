package keyvault_test

import (
	"bytes"
	"context"
	"crypto/fips140"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/keyvault"
)

func TestKindsOfKeys(t *testing.T) {
	r := newAuditedService(t)
	r.vault("gold", func(v *keyvault.Vault) { v.Premium = true })
	for _, c := range []struct {
		vault string
		want  keyvault.NewKey
		fits  bool
	}{
		{"safe", keyvault.NewKey{Type: "RSA"}, true},
		{"safe", keyvault.NewKey{Type: "rsa", Bits: 3072}, true},
		{"safe", keyvault.NewKey{Type: "EC", Curve: "P-521"}, true},
		{"safe", keyvault.NewKey{Type: "RSA-HSM"}, false},
		{"gold", keyvault.NewKey{Type: "RSA-HSM"}, true},
		{"gold", keyvault.NewKey{Type: "EC-HSM"}, true},
		{"safe", keyvault.NewKey{Type: "RSA", Bits: 1024}, false},
		{"safe", keyvault.NewKey{Type: "RSA", Bits: 2047}, false},
		{"safe", keyvault.NewKey{Type: "EC", Curve: "P-256K"}, false},
		{"gold", keyvault.NewKey{Type: "oct"}, false},
		{"safe", keyvault.NewKey{}, false},
		{"safe", keyvault.NewKey{Type: "EC", Operations: []keyvault.Operation{"fly"}}, false},
	} {
		k, err := r.CreateKey(t.Context(), caller(alice), keyvault.Ref{Vault: c.vault, Name: "k"}, c.want)
		if c.fits {
			if err != nil || k.Public.Type != strings.ToUpper(c.want.Type) {
				t.Errorf("%+v: got %+v, %v", c.want, k.Public.Type, err)
			}
			continue
		}
		wantRefusal(t, err, visage.Invalid, "BadParameter", "")
	}
}

func TestStatesOfAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAuditedService(t)
		now := time.Now()
		r.create(
			"k", "RSA", func(k *keyvault.NewKey) { k.NotBefore, k.Expires = now.Add(time.Hour), now.Add(48*time.Hour) },
		)
		use := func(op keyvault.Operation, in []byte) ([]byte, error) {
			_, out, err := r.Use(t.Context(), caller(alice), key("k"), op, "RSA-OAEP-256", in)
			return out, err
		}
		_, err := use(keyvault.Wrap, []byte("x"))
		wantRefusal(t, err, visage.Denied, "Forbidden", "KeyNotYetValid")
		time.Sleep(2 * time.Hour)
		wrapped, err := use(keyvault.Wrap, []byte("x"))
		ok(t, err)
		time.Sleep(48 * time.Hour)
		_, err = use(keyvault.Encrypt, []byte("x"))
		wantRefusal(t, err, visage.Denied, "Forbidden", "KeyExpired")
		out, err := use(keyvault.Unwrap, wrapped) // expiry is not revocation
		if err != nil || string(out) != "x" {
			t.Errorf("an expired key unwraps to %q, %v", out, err)
		}
		off := false
		_, err = r.UpdateKey(t.Context(), caller(alice), key("k"), keyvault.KeyChange{Enabled: &off})
		ok(t, err)
		_, err = use(keyvault.Unwrap, wrapped)
		wantRefusal(t, err, visage.Denied, "Forbidden", "KeyDisabled")
		_, err = r.Key(t.Context(), caller(alice), key("k"))
		wantRefusal(t, err, visage.Denied, "Forbidden", "KeyDisabled")
		on := true
		change := keyvault.KeyChange{Enabled: &on, Operations: []keyvault.Operation{"WRAPKEY"}, Expires: new(time.Time)}
		k, err := r.UpdateKey(t.Context(), caller(alice), key("k"), change)
		if err != nil || !slices.Equal(k.Operations, []keyvault.Operation{keyvault.Wrap}) || !k.Expires.IsZero() {
			t.Fatalf("got %+v, %v", k, err)
		}
		_, err = use(keyvault.Unwrap, wrapped)
		wantRefusal(t, err, visage.Denied, "Forbidden", "")
		_, err = use(keyvault.Wrap, []byte("x"))
		ok(t, err)
	})
}

func TestLongestPlaintexts(t *testing.T) {
	r := newAuditedService(t)
	r.create("k", "RSA")
	for alg, most := range map[string]int{"RSA-OAEP-256": 190, "RSA-OAEP": 214, "RSA1_5": 245} { // contract §A5
		for n, fits := range map[int]bool{0: true, most: true, most + 1: false} {
			fits = fits && (alg == "RSA-OAEP-256" || !fips140.Enforced())
			_, out, err := r.Use(t.Context(), caller(alice), key("k"), keyvault.Encrypt, alg, make([]byte, n))
			if !fits {
				wantRefusal(t, err, visage.Invalid, "BadParameter", "")
				continue
			}
			ok(t, err)
			if _, back, err := r.Use(t.Context(), caller(alice), key("k"), keyvault.Decrypt, alg, out); err != nil ||
				len(back) != n {
				t.Errorf("%s: %d bytes came back as %d, %v", alg, n, len(back), err)
			}
		}
	}
}

func TestOldVersionsGoOn(t *testing.T) {
	r := newAuditedService(t)
	first := r.create("k", "RSA")
	used, wrapped, err := r.Use(t.Context(), caller(alice), key("k"), keyvault.Wrap, "RSA-OAEP-256", []byte("x"))
	if err != nil || used != first.Ref {
		t.Fatalf("wrapped with %+v, %v", used, err)
	}
	second, err := r.RotateKey(t.Context(), caller(alice), key("K"))
	if err != nil || second.Version == first.Version || second.Public.Bits() != 2048 ||
		bytes.Equal(second.Public.N, first.Public.N) {
		t.Fatalf("rotated to %+v, %v", second.Ref, err)
	}
	_, _, err = r.Use(t.Context(), caller(alice), key("k"), keyvault.Unwrap, "RSA-OAEP-256", wrapped)
	wantRefusal(t, err, visage.Invalid, "BadParameter", "") // the newest is another key
	_, out, err := r.Use(t.Context(), caller(alice), first.Ref, keyvault.Unwrap, "RSA-OAEP-256", wrapped)
	if err != nil || string(out) != "x" {
		t.Errorf("the old version gives %q, %v", out, err)
	}
	page, err := r.KeyVersions(t.Context(), caller(alice), key("k"), "", 1)
	if err != nil || len(page.Keys) != 1 || page.Keys[0].Version != first.Version || page.Next == "" {
		t.Fatalf("got %+v, %v", page, err)
	}
	page, err = r.KeyVersions(t.Context(), caller(alice), key("k"), page.Next, 1)
	if err != nil || len(page.Keys) != 1 || page.Keys[0].Version != second.Version || page.Next != "" {
		t.Errorf("got %+v, %v", page, err)
	}
	unknown := first.Ref
	unknown.Version = strings.Repeat("0", 32)
	_, err = r.Key(t.Context(), caller(alice), unknown)
	wantRefusal(t, err, visage.NotFound, "KeyNotFound", "")
}

// TestManyAtOnce checks that every concurrent rotation of a key either creates a version or is refused as too late, and
// that every announced version works.
func TestManyAtOnce(t *testing.T) {
	r := newAuditedService(t)
	r.create("k", "EC")
	var mu sync.Mutex
	var made []keyvault.Ref
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			k, err := r.RotateKey(t.Context(), caller(alice), key("k"))
			if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.Conflict {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			made = append(made, k.Ref)
		})
	}
	wg.Wait()
	page, err := r.KeyVersions(t.Context(), caller(alice), key("k"), "", 25)
	if err != nil || len(page.Keys) != len(made)+1 || len(made) == 0 {
		t.Errorf("%d versions after %d rotations, %v", len(page.Keys), len(made), err)
	}
	for _, ref := range made {
		if _, _, err := r.Use(t.Context(), caller(alice), ref, keyvault.Sign, "ES256", make([]byte, 32)); err != nil {
			t.Errorf("%s: %v", ref.Version, err)
		}
	}
}

func TestRetentionEndsInPurge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAuditedService(t, func(v *keyvault.Vault) { v.RetentionDays, v.PurgeProtection = 7, true })
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		r.create("k", "EC")
		r.create("kept", "EC")
		for _, name := range []string{"k", "kept"} {
			_, err := r.DeleteKey(t.Context(), caller(alice), key(name))
			ok(t, err)
		}
		time.Sleep(7*24*time.Hour - time.Minute)
		synctest.Wait()
		_, err := r.DeletedKey(t.Context(), caller(alice), key("k"))
		ok(t, err)
		_, err = r.RecoverKey(t.Context(), caller(alice), key("kept"))
		ok(t, err)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		_, err = r.DeletedKey(t.Context(), caller(alice), key("k"))
		wantRefusal(t, err, visage.NotFound, "KeyNotFound", "")
		_, err = r.Key(t.Context(), caller(alice), key("kept"))
		ok(t, err)
		_, err = r.DeleteVault(t.Context(), caller("operator"), "safe")
		ok(t, err)
		time.Sleep(7*24*time.Hour + time.Minute)
		synctest.Wait()
		r.vault("safe") // the name is available again
		if events, _ := r.taken(); !slices.Contains(events, "KeyPurge done") ||
			!slices.Contains(events, "VaultPurge done") {
			t.Errorf("the audit has %v", events)
		}
		stop()
		ok(t, <-ended)
	})
}

func TestKeysRotateByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAuditedService(t)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		first := r.create("k", "EC")
		policy := keyvault.RotationPolicy{
			Rotate: keyvault.Trigger{AfterCreate: "P30D"}, Notify: keyvault.Trigger{BeforeExpiry: "P65D"},
			Expiry: "P90D",
		}
		_, err := r.SetRotationPolicy(t.Context(), caller(alice), key("k"), policy)
		ok(t, err)
		current := func() keyvault.Key {
			t.Helper()
			synctest.Wait()
			k, err := r.Key(t.Context(), caller(alice), key("k"))
			ok(t, err)
			return k
		}
		time.Sleep(30*24*time.Hour - time.Minute)
		if k := current(); k.Version != first.Version {
			t.Fatal("rotated before its time")
		}
		time.Sleep(2 * time.Minute)
		second := current()
		if second.Version == first.Version || second.Expires.Sub(second.Created) != 90*24*time.Hour {
			t.Fatalf("after 30 days: %+v", second)
		}
		time.Sleep(26 * 24 * time.Hour)
		synctest.Wait()
		events, _ := r.taken()
		if n := count(events, "KeyNearExpiryEventGridNotification done"); n != 1 {
			t.Errorf("%d notices, want 1", n)
		}
		off := false
		_, err = r.UpdateKey(t.Context(), caller(alice), key("k"), keyvault.KeyChange{Enabled: &off})
		ok(t, err)
		time.Sleep(90 * 24 * time.Hour)
		synctest.Wait()
		if events, _ = r.taken(); count(events, "KeyRotateIfDue done") != 0 {
			t.Errorf("a disabled key was rotated: %v", events)
		}
		stop()
		ok(t, <-ended)
	})
}

func count(all []string, want string) (n int) {
	for _, s := range all {
		if s == want {
			n++
		}
	}
	return n
}

func TestRotationPolicyBounds(t *testing.T) {
	r := newAuditedService(t)
	r.create("k", "EC")
	after := func(p keyvault.Period) keyvault.Trigger { return keyvault.Trigger{AfterCreate: p} }
	before := func(p keyvault.Period) keyvault.Trigger { return keyvault.Trigger{BeforeExpiry: p} }
	for _, c := range []struct {
		name   string
		policy keyvault.RotationPolicy
		fits   bool
	}{
		{"nothing", keyvault.RotationPolicy{}, true},
		{"shortest", keyvault.RotationPolicy{Expiry: "P28D", Rotate: after("P7D"), Notify: before("P7D")}, true},
		{"expiry too short", keyvault.RotationPolicy{Expiry: "P27D"}, false},
		{"rotation too early", keyvault.RotationPolicy{Rotate: after("P6D")}, false},
		{"rotation too close to the end", keyvault.RotationPolicy{Expiry: "P28D", Rotate: after("P22D")}, false},
		{"before an end that is not", keyvault.RotationPolicy{Rotate: before("P30D")}, false},
		{
			"both", keyvault.RotationPolicy{Expiry: "P1Y",
				Rotate: keyvault.Trigger{AfterCreate: "P30D", BeforeExpiry: "P30D"}}, false,
		},
	} {
		_, err := r.SetRotationPolicy(t.Context(), caller(alice), key("k"), c.policy)
		if c.fits && err != nil || !c.fits && err == nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil {
			wantRefusal(t, err, visage.Invalid, "BadParameter", "")
		}
	}
}

func TestBackupsAreOfTheirInstance(t *testing.T) {
	r := newAuditedService(t)
	r.vault("other")
	first := r.create("k", "RSA")
	_, wrapped, err := r.Use(t.Context(), caller(alice), key("k"), keyvault.Wrap, "RSA-OAEP-256", []byte("x"))
	ok(t, err)
	_, err = r.RotateKey(t.Context(), caller(alice), key("k"))
	ok(t, err)
	blob, err := r.BackupKey(t.Context(), caller(alice), key("k"))
	ok(t, err)
	_, err = r.RestoreKey(t.Context(), caller(alice), "safe", blob)
	wantRefusal(t, err, visage.Conflict, "Conflict", "")
	restored, err := r.RestoreKey(t.Context(), caller(alice), "other", blob)
	if err != nil || restored.Vault.Name != "other" || restored.Version == first.Version {
		t.Fatalf("restored %+v, %v", restored.Ref, err)
	}
	ref := keyvault.Ref{Vault: "other", Name: "k", Version: first.Version}
	_, out, err := r.Use(t.Context(), caller(alice), ref, keyvault.Unwrap, "RSA-OAEP-256", wrapped)
	if err != nil || string(out) != "x" {
		t.Errorf("the restored key gives %q, %v", out, err)
	}
	_, err = r.DeleteKey(t.Context(), caller(alice), key("k"))
	ok(t, err)
	_, err = r.RestoreKey(t.Context(), caller(alice), "safe", blob)
	wantRefusal(t, err, visage.Conflict, "Conflict", "ObjectIsDeletedButRecoverable")
	ok(t, r.PurgeKey(t.Context(), caller(alice), key("k")))
	_, err = r.RestoreKey(t.Context(), caller(alice), "safe", blob)
	ok(t, err)
	for i := 0; i < len(blob); i += 97 {
		broken := bytes.Clone(blob)
		broken[i] ^= 1
		_, err := r.RestoreKey(t.Context(), caller(alice), "other", broken)
		wantRefusal(t, err, visage.Invalid, "BadParameter", "")
	}
	foreign := newAuditedService(t)
	_, err = foreign.RestoreKey(t.Context(), caller(alice), "safe", blob)
	wantRefusal(t, err, visage.Invalid, "BadParameter", "")
}

func TestKeysOutliveTheProcess(t *testing.T) {
	dir, root := t.TempDir(), sourcetest.NewFake("root")
	store := openStore(t, dir, root)
	r := newAuditedServiceOn(t, store)
	r.vault("safe", func(v *keyvault.Vault) { v.PurgeProtection = true })
	made := r.create("k", "RSA", func(k *keyvault.NewKey) { k.Tags = map[string]string{"team": "front desk"} })
	policy, err := r.SetRotationPolicy(t.Context(), caller(alice), key("k"), keyvault.RotationPolicy{Expiry: "P1Y"})
	ok(t, err)
	_, wrapped, err := r.Use(t.Context(), caller(alice), key("k"), keyvault.Wrap, "RSA-OAEP-256", []byte("x"))
	ok(t, err)
	blob, err := r.BackupKey(t.Context(), caller(alice), key("k"))
	ok(t, err)
	ok(t, store.Close())
	r = newAuditedServiceOn(t, openStore(t, dir, root))
	k, err := r.Key(t.Context(), caller(alice), key("k"))
	if err != nil || k.Ref != made.Ref || k.Tags["team"] != "front desk" || !k.Vault.PurgeProtection {
		t.Errorf("got %+v, %v", k, err)
	}
	if got, err := r.RotationPolicy(t.Context(), caller(alice), key("k")); err != nil || got != policy {
		t.Errorf("got the policy %+v, %v, want %+v", got, err, policy)
	}
	_, out, err := r.Use(t.Context(), caller(alice), made.Ref, keyvault.Unwrap, "RSA-OAEP-256", wrapped)
	if err != nil || string(out) != "x" {
		t.Errorf("got %q, %v", out, err)
	}
	r.vault("other")
	_, err = r.RestoreKey(t.Context(), caller(alice), "other", blob)
	ok(t, err)
}

// TestNothingHappensUnseen checks that a key operation without its audit entry returns nothing to its caller.
func TestNothingHappensUnseen(t *testing.T) {
	r := newAuditedService(t)
	r.create("k", "RSA")
	full := errors.New("the disk is full")
	r.audit.Fail(full)
	_, out, err := r.Use(t.Context(), caller(alice), key("k"), keyvault.Wrap, "RSA-OAEP-256", []byte("x"))
	if out != nil || !errors.Is(err, full) {
		t.Errorf("got %x, %v", out, err)
	}
	r.taken()
	off := false
	_, err = r.UpdateKey(t.Context(), caller(alice), key("k"), keyvault.KeyChange{Enabled: &off})
	if !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	if _, told := r.taken(); len(told) != 1 { // a disabled key must be reported nevertheless
		t.Errorf("told of %v", told)
	}
	r.audit.Fail(nil)
	_, err = r.Key(t.Context(), caller(bob), key("k"))
	wantRefusal(t, err, visage.Denied, "Forbidden", "AccessDenied")
	if events, _ := r.taken(); !slices.Equal(events, []string{"KeyGet AccessDenied"}) {
		t.Errorf("the audit has %v", events)
	}
}
