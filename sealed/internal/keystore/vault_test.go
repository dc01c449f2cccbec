package keystore_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/hashivault"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/keystore/keystoretest"
	"github.com/visage-face/visage/test/keystores"
)

// rights are those of docs/operations/epoch-keys.md.
var rights = map[string][]string{
	"kv/data/visage/*": {"create", "read", "update"}, "kv/destroy/visage/*": {"update"},
	"kv/metadata/visage/*": {"list", "delete"},
}

// vaultKV starts a Vault, and returns a folder in its KV engine.
func vaultKV(t *testing.T) (*keystores.Vault, *hashivault.KV) {
	t.Helper()
	v := keystores.StartVault(t)
	dir := t.TempDir()
	ca, secret := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "secret")
	v.Permit("visage", rights)
	v.Post("auth/approle/role/visage", map[string]any{"token_policies": "visage", "token_ttl": "10m"})
	role, _ := v.Do(http.MethodGet, "auth/approle/role/visage/role-id", nil)["role_id"].(string)
	id, _ := v.Post("auth/approle/role/visage/secret-id", nil)["secret_id"].(string)
	if err := errors.Join(os.WriteFile(ca, []byte(v.CA), 0o600), os.WriteFile(secret, []byte(id), 0o600)); err != nil {
		t.Fatal(err)
	}
	kv, err := hashivault.OpenKV("hashivault://"+v.Address+"/kv/visage?login=approle&role="+role+"&ca="+ca, secret)
	if err != nil {
		t.Fatal(err)
	}
	return v, kv
}

func TestVaultConforms(t *testing.T) {
	_, kv := vaultKV(t)
	keystoretest.Run(t, keystoretest.Provider{
		Open: func(_ testing.TB, instance format.ID) keystore.Place {
			return keystore.InVault(kv, instance, time.Minute)
		},
		Grade: keystore.GradeVault,
	})
}

// TestVaultKeepsNothing: neither a replacement nor a destruction leaves a version that somebody could read or undelete.
func TestVaultKeepsNothing(t *testing.T) {
	v, kv := vaultKV(t)
	instance, space := format.RandomID(), format.RandomID()
	place := keystore.InVault(kv, instance, time.Minute)
	ctx, path := t.Context(), "visage/epochs/"+instance.String()+"/"+space.String()+"/5"
	before, after := []byte("before"), []byte("after")
	if err := place.Put(ctx, space, 5, before); err != nil {
		t.Fatal(err)
	}
	if err := place.Replace(ctx, space, 5, before, after); err != nil {
		t.Fatal(err)
	}
	versions, _ := v.Do(http.MethodGet, "kv/metadata/"+path, nil)["versions"].(map[string]any)
	first, _ := versions["1"].(map[string]any)
	if len(versions) != 2 || first["destroyed"] != true {
		t.Errorf("the versions are %v, want the first one destroyed", versions)
	}
	if err := place.DestroyEpoch(ctx, space, 5); err != nil {
		t.Fatal(err)
	}
	if names, err := kv.List(ctx, "epochs/"+instance.String()+"/"+space.String()); err != nil || len(names) != 0 {
		t.Errorf("after the destruction there is %v, %v", names, err)
	}
	// What somebody deletes by hand is not there, and is not written over: it may be brought back.
	if err := place.Put(ctx, space, 6, before); err != nil {
		t.Fatal(err)
	}
	v.Do(http.MethodDelete, "kv/data/"+strings.TrimSuffix(path, "5")+"6", nil)
	if _, err := place.Get(ctx, space, 6); !errors.Is(err, keystore.ErrNotFound) ||
		!strings.Contains(err.Error(), "undelete") {
		t.Errorf("deleted by hand: %v", err)
	}
	if err := place.Put(ctx, space, 6, after); !errors.Is(err, keystore.ErrExists) {
		t.Errorf("put in its place: %v", err)
	}
	v.Post("kv/undelete/"+strings.TrimSuffix(path, "5")+"6", map[string]any{"versions": []int{1}})
	if got, err := place.Get(ctx, space, 6); err != nil || !bytes.Equal(got, before) {
		t.Errorf("undeleted: %q, %v", got, err)
	}
}

// TestVaultThatForgets: an engine that deletes versions after a time would lose keys in use, so it gets none.
func TestVaultThatForgets(t *testing.T) {
	v, kv := vaultKV(t)
	space, place := format.RandomID(), keystore.InVault(kv, format.RandomID(), time.Minute)
	v.Post("kv/config", map[string]any{"delete_version_after": "720h"})
	err := place.Put(t.Context(), space, 1, []byte("key"))
	if outage, ok := errors.AsType[*keystore.OutageError](err); !ok ||
		!strings.Contains(outage.Error(), "delete_version_after") {
		t.Errorf("put: %v", err)
	}
	if _, err := place.Get(t.Context(), space, 1); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
}

// TestVaultThatBeginsToForget: keys that were written before the engine began to delete versions stay readable,
// whatever is tried with them, and leave nothing beside them.
func TestVaultThatBeginsToForget(t *testing.T) {
	v, kv := vaultKV(t)
	ctx, space, before, after := t.Context(), format.RandomID(), []byte("before"), []byte("after")
	place := keystore.InVault(kv, format.RandomID(), time.Minute)
	if err := errors.Join(place.Put(ctx, space, 1, before), place.SetAnchor(ctx, space, nil, before)); err != nil {
		t.Fatal(err)
	}
	v.Post("kv/config", map[string]any{"delete_version_after": "720h"})
	for what, err := range map[string]error{
		"replace":    place.Replace(ctx, space, 1, before, after),
		"set anchor": place.SetAnchor(ctx, space, before, after),
	} {
		if outage, ok := errors.AsType[*keystore.OutageError](err); !ok ||
			!strings.Contains(outage.Error(), "delete_version_after") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got, err := place.Get(ctx, space, 1); err != nil || !bytes.Equal(got, before) {
		t.Errorf("the key is %q, %v; want the one before", got, err)
	}
	if got, err := place.Anchor(ctx, space); err != nil || !bytes.Equal(got, after) {
		t.Errorf("the anchor is %q, %v; want the newest", got, err)
	}
	if names, err := kv.List(ctx, "probe"); err != nil || len(names) != 0 {
		t.Errorf("probes are left: %v, %v", names, err)
	}
	v.Post("kv/config", map[string]any{"delete_version_after": "0s"})
	if err := place.Replace(ctx, space, 1, before, after); err != nil {
		t.Errorf("replace, once versions are kept again: %v", err)
	}
}

// TestVaultAway: an outage is none of the answers, and has a sentence for callers; it ends when the server is back.
func TestVaultAway(t *testing.T) {
	v, kv := vaultKV(t)
	space, instance := format.RandomID(), format.RandomID()
	place := keystore.InVault(kv, instance, time.Nanosecond)
	if err := place.Put(t.Context(), space, 1, []byte("key")); err != nil {
		t.Fatal(err)
	}
	away := func(says string) {
		t.Helper()
		_, getErr := place.Get(t.Context(), space, 1)
		_, listErr := place.List(t.Context(), space)
		for name, err := range map[string]error{
			"get": getErr, "list": listErr, "put": place.Put(t.Context(), space, 2, []byte("key")),
			"destroy": place.DestroyEpoch(t.Context(), space, 1),
			"replace": place.Replace(t.Context(), space, 1, []byte("key"), []byte("other")),
		} {
			out, ok := errors.AsType[visage.Outage](err)
			if !ok || !strings.Contains(out.Outage(), "epoch keys") || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v; want an outage that says %q", name, err, says)
			}
		}
	}
	v.Seal(true)
	away("Vault is sealed")
	v.Seal(false)
	v.Permit("visage", nil)
	away("permission denied")
	v.Permit("visage", rights)
	if got, err := place.Get(t.Context(), space, 1); err != nil || string(got) != "key" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
	v.RevokeTokens()
	if _, err := place.Get(t.Context(), space, 1); err != nil {
		t.Errorf("after the token was revoked: %v", err)
	}
}

// faultyKV is a KV in memory, of which one call fails.
type faultyKV struct {
	mu     sync.Mutex
	values map[string][][]byte // by version; nil: destroyed
	calls  int
	fail   int  // the call that fails; negative: none
	done   bool // it is done all the same: the answer is lost
	denied bool // the failure is a definite refusal
}

var errLost = &keysource.Error{Class: keysource.ErrUnknown, Text: "no answer"}

func (f *faultyKV) call(op func()) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.calls-1 != f.fail {
		op()
		return nil
	}
	if f.done {
		op()
	}
	if f.denied {
		return &keysource.Error{Class: keysource.ErrDenied, Text: "no"}
	}
	return errLost
}

func (f *faultyKV) Read(_ context.Context, path string) (value []byte, version int, err error) {
	err = f.call(func() {
		if version = len(f.values[path]); version > 0 {
			value = f.values[path][version-1]
		}
	})
	if err != nil {
		return nil, 0, err
	}
	return value, version, nil
}

func (f *faultyKV) Write(_ context.Context, path string, after int, value []byte) (version int, ok bool, err error) {
	err = f.call(func() {
		if ok = len(f.values[path]) == after; ok {
			f.values[path] = append(f.values[path], value)
			version = after + 1
		}
	})
	return version, ok && err == nil, err
}

func (f *faultyKV) Keeps(context.Context) error { return f.call(func() {}) }

func (f *faultyKV) Destroy(_ context.Context, path string, versions ...int) error {
	return f.call(func() {
		for _, n := range versions {
			if n <= len(f.values[path]) {
				f.values[path][n-1] = nil
			}
		}
	})
}

func (f *faultyKV) Delete(_ context.Context, path string) error {
	return f.call(func() { delete(f.values, path) })
}

func (f *faultyKV) List(_ context.Context, path string) (names []string, err error) {
	err = f.call(func() {
		seen := map[string]bool{}
		for p := range f.values {
			if rest, ok := strings.CutPrefix(p, path+"/"); ok {
				name, _, folder := strings.Cut(rest, "/")
				if folder {
					name += "/"
				}
				if !seen[name] {
					names = append(names, name)
				}
				seen[name] = true
			}
		}
	})
	return names, err
}

func (f *faultyKV) Name() string { return "faulty" }

func newFaulty() *faultyKV { return &faultyKV{values: map[string][][]byte{}, fail: -1} }

// TestVaultConformsInMemory holds the KV of the tests below to the same suite.
func TestVaultConformsInMemory(t *testing.T) {
	kv := newFaulty()
	keystoretest.Run(t, keystoretest.Provider{
		Open: func(_ testing.TB, instance format.ID) keystore.Place {
			return keystore.InVault(kv, instance, time.Minute)
		},
		Grade: keystore.GradeVault,
	})
}

// TestLostAnswers loses each answer once, of calls that were done and of calls that were not. What is asked again has
// the result that it would have had.
func TestLostAnswers(t *testing.T) {
	ctx, space := t.Context(), format.RandomID()
	one, two := bytes.Repeat([]byte{1}, 100), bytes.Repeat([]byte{2}, 100)
	for _, done := range []bool{false, true} {
		for fail := 0; ; fail++ {
			kv := newFaulty()
			kv.fail, kv.done = fail, done
			place := keystore.InVault(kv, format.RandomID(), time.Minute)
			err := errors.Join(
				place.Put(ctx, space, 1, one), place.Put(ctx, space, 2, two),
				place.Replace(ctx, space, 1, one, two),
				place.SetAnchor(ctx, space, nil, one), place.SetAnchor(ctx, space, one, two),
				place.DestroyEpoch(ctx, space, 2),
			)
			if err != nil {
				t.Fatalf("call %d (done: %v): %v", fail, done, err)
			}
			if err := place.Put(ctx, space, 1, one); !errors.Is(err, keystore.ErrExists) {
				t.Errorf("call %d (done: %v): a key of another writer was taken for the own: %v", fail, done, err)
			}
			got, err := place.Get(ctx, space, 1)
			anchor, anchorErr := place.Anchor(ctx, space)
			if err != nil || anchorErr != nil || !bytes.Equal(got, two) || !bytes.Equal(anchor, two) {
				t.Errorf("call %d (done: %v): %x, %v; anchor %x, %v", fail, done, got, err, anchor, anchorErr)
			}
			if _, err := place.Get(ctx, space, 2); !errors.Is(err, keystore.ErrNotFound) {
				t.Errorf("call %d (done: %v): a destroyed key: %v", fail, done, err)
			}
			if kv.calls <= fail {
				break
			}
		}
	}
}

// TestCrashBetweenSteps ends the process at each call of a replacement. What is there then is the old form or the new
// one, and tidying up leaves one version.
func TestCrashBetweenSteps(t *testing.T) {
	ctx, space, instance := t.Context(), format.RandomID(), format.RandomID()
	before, after := make([]byte, 100), make([]byte, 100)
	rand.Read(before)
	rand.Read(after)
	for _, done := range []bool{false, true} {
		for fail := 0; ; fail++ {
			kv := newFaulty()
			place := keystore.InVault(kv, instance, time.Minute)
			if err := place.Put(ctx, space, 1, before); err != nil {
				t.Fatal(err)
			}
			kv.calls, kv.fail, kv.done, kv.denied = 0, fail, done, true // which ends it there
			failed := place.Replace(ctx, space, 1, before, after)
			kv.fail = -1
			got, err := place.Get(ctx, space, 1)
			if err != nil || !bytes.Equal(got, before) && !bytes.Equal(got, after) {
				t.Fatalf("call %d (done: %v): %x, %v", fail, done, got, err)
			}
			if err := place.Tidy(ctx, space); err != nil {
				t.Fatal(err)
			}
			versions := 0
			for _, v := range kv.values["epochs/"+instance.String()+"/"+space.String()+"/1"] {
				if v != nil {
					versions++
				}
			}
			if versions != 1 {
				t.Errorf("call %d (done: %v): %d versions are left", fail, done, versions)
			}
			if failed == nil {
				break
			}
		}
	}
}

// TestVaultLoginThatIsSpent: when the secret id of a role has been used as often as it may be, the error says so, and a
// new one in the file is used at once.
func TestVaultLoginThatIsSpent(t *testing.T) {
	v := keystores.StartVault(t)
	dir := t.TempDir()
	ca, secret := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "secret")
	v.Permit("visage", rights)
	v.Post("auth/approle/role/visage", map[string]any{"token_policies": "visage", "secret_id_num_uses": 1})
	role, _ := v.Do(http.MethodGet, "auth/approle/role/visage/role-id", nil)["role_id"].(string)
	next := func() {
		t.Helper()
		id, _ := v.Post("auth/approle/role/visage/secret-id", nil)["secret_id"].(string)
		if err := os.WriteFile(secret, []byte(id), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	next()
	if err := os.WriteFile(ca, []byte(v.CA), 0o600); err != nil {
		t.Fatal(err)
	}
	kv, err := hashivault.OpenKV("hashivault://"+v.Address+"/kv/visage?login=approle&role="+role+"&ca="+ca, secret)
	if err != nil {
		t.Fatal(err)
	}
	place, space := keystore.InVault(kv, format.RandomID(), time.Hour), format.RandomID()
	if err := place.Put(t.Context(), space, 1, []byte("key")); err != nil {
		t.Fatal(err)
	}
	v.RevokeTokens()
	for range 3 {
		_, err := place.Get(t.Context(), space, 1)
		if outage, ok := errors.AsType[*keystore.OutageError](err); !ok || !errors.Is(err, keysource.ErrDenied) ||
			!strings.Contains(outage.Error(), "secret_id_num_uses") {
			t.Fatalf("with a secret id that is spent: %v", err)
		}
	}
	next()
	if got, err := place.Get(t.Context(), space, 1); err != nil || string(got) != "key" {
		t.Errorf("with another one: %q, %v", got, err)
	}
}
