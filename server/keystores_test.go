package server_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/drill"
	"github.com/visage-face/visage/server/registry"
	"github.com/visage-face/visage/server/servertest"
	"github.com/visage-face/visage/test/keystores"
)

// describeIn returns the description of a store whose authority lies in the folder of the server.
func describeIn(t *testing.T, w *storeWalk, v *keystores.Vault) stores.Store {
	t.Helper()
	ca := filepath.Join(w.Dir(), "keystores", "ca.pem")
	if err := os.WriteFile(ca, []byte(v.CA), 0o600); err != nil {
		t.Fatal(err)
	}
	return stores.Store{Address: "hashivault://" + v.Address + "/keys/of/team", CAFile: ca,
		Login: stores.Login{Method: "jwt", Audience: "vault.example"}}
}

// TestAddedStore holds that resources use a store from the moment when an operator has added it, that it stays while
// they do, and that everything is recorded.
func TestAddedStore(t *testing.T) {
	store := transit{keystores.StartVault(t)}
	w := newStoreWalk(t, store)
	list := w.KeyStores()
	by := visage.Caller{Principal: visage.Principal{Method: "operator", ObjectID: w.Operator().ClientID}}
	about := describeIn(t, w, store.Vault)
	store.Post("keys/of/team/keys/faces", map[string]any{"type": "aes256-gcm96"})
	store.Permit("visage-team", map[string][]string{"keys/of/team/keys/faces": {"read"},
		"keys/of/team/encrypt/faces": {"update"}, "keys/of/team/decrypt/faces": {"update"}})
	store.Post("auth/jwt/role/visage-"+string(w.who), map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_subject": string(w.who), "bound_audiences": "vault.example",
		"token_policies": "visage-team", "token_type": "batch",
	})
	other := *w
	other.address = about.Address
	if says := other.protect(t, "vip", "faces", ""); !strings.Contains(says, "has not configured") {
		t.Errorf("before it is added: %q", says)
	}
	e, err := list.Add(t.Context(), by, about)
	if err != nil || e.Origin != registry.FromOperator {
		t.Fatalf("add: %+v, %v", e, err)
	}
	trial, err := list.Try(t.Context(), by, e.ID, registry.Trial{Resource: "vip", Key: "faces"})
	if err != nil || !trial.Passed() || trial.Key == nil || trial.Key.KeyType != "aes256-gcm96" {
		t.Errorf("trial: %+v, %v", trial, err)
	}
	if says := other.protect(t, "vip", "faces", ""); says != "" {
		t.Fatalf("once it is added: %s", says)
	}
	w.until(t, "the active key", func(s custody.Status) bool {
		return s.Condition == custody.Active && s.Operation.Progress != custody.Running
	})
	refusedAs(t, "KeyStoreInUse", "vip", list.Remove(t.Context(), by, e.ID))
	store.Permit("visage-team", nil)
	w.Custody().Recheck(visage.KeyRef{Vault: about.Address, Name: "faces"})
	w.until(t, "the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
	refusedAs(t, "KeyStoreInUse", "vip", list.Remove(t.Context(), by, e.ID))
	if status, body := w.armed(t, http.MethodDelete, "vip", ""); status/100 != 2 {
		t.Fatalf("delete: %d %s", status, body)
	}
	refusedAs(t, "KeyStoreInUse", "vip", list.Remove(t.Context(), by, e.ID))
	settings := registry.IDOf(store.describe(t).Address)
	refusedAs(t, "KeyStoreFromSettings", "restart", list.Remove(t.Context(), by, settings))
	refusedAs(t, "KeyStoreNotFound", "", list.Remove(t.Context(), by, "0"))

	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	recorded := map[string]int{}
	for _, e := range entries(t, w.Dir()) {
		recorded[e.Details[audit.DetailOperation]+" "+string(e.Outcome)]++
	}
	if recorded["key-store-add done"] != 1 || recorded["key-store-test done"] != 1 ||
		recorded["key-store-remove refused"] != 5 {
		t.Errorf("recorded %v", recorded)
	}
}

// TestTrialsSayWhatIsWrong holds the answers of a trial to each way in which a store can be out of reach.
func TestTrialsSayWhatIsWrong(t *testing.T) {
	store := transit{keystores.StartVault(t)}
	w := newStoreWalk(t, store)
	by := visage.Caller{Principal: visage.Principal{Method: "operator", ObjectID: w.Operator().ClientID}}
	list := w.KeyStores()
	try := func(about stores.Store, want registry.Trial) map[stores.Step]stores.Finding {
		t.Helper()
		e, err := list.Add(t.Context(), by, about)
		if err != nil {
			t.Fatal(err)
		}
		trial, err := list.Try(t.Context(), by, e.ID, want)
		if err != nil || trial.Passed() {
			t.Errorf("trial of %s: %v, %v", about.Address, trial, err)
		}
		if err := list.Remove(t.Context(), by, e.ID); err != nil {
			t.Error(err)
		}
		found := map[stores.Step]stores.Finding{}
		for _, f := range trial.Findings {
			found[f.Step] = f
		}
		return found
	}
	want := registry.Trial{Resource: "vip", Key: "faces"}
	about := describeIn(t, w, store.Vault)

	untrusted := about
	untrusted.CAFile = ""
	found := try(untrusted, want)
	if f := found[stores.Certificate]; f.Met || !f.Known || !strings.Contains(f.Says, "certificate") {
		t.Errorf("an authority that is not trusted: %+v", f)
	}
	if f := found[stores.LoggedIn]; f.Known {
		t.Errorf("an identity has logged in to a server that is not trusted: %+v", f)
	}

	// The answers below are those of the server.
	found = try(about, want)
	if f := found[stores.LoggedIn]; f.Met || !f.Known || !strings.Contains(f.Says, "could not be found") {
		t.Errorf("without a role: %+v", f)
	}
	store.grant(t, w.who, "faces")
	found = try(about, want)
	if f := found[stores.LoggedIn]; !f.Met {
		t.Errorf("with a role: %+v", f)
	}
	if f := found[stores.KeyFound]; f.Met || !f.Known || !strings.Contains(f.Says, "permission denied") {
		t.Errorf("without a policy for the engine: %+v", f)
	}
	store.Seal(true)
	found = try(about, want)
	if f := found[stores.LoggedIn]; f.Met || f.Known || !strings.Contains(f.Says, "sealed") {
		t.Errorf("while the server is sealed: %+v", f)
	}

	nowhere := about
	nowhere.Address = "hashivault://127.0.0.1:1/transit" // where nothing listens
	nowhere.Login.Audience = "nowhere.example"
	found = try(nowhere, want)
	if f := found[stores.Reachable]; f.Met || !f.Known || !strings.Contains(f.Says, "refused") {
		t.Errorf("nothing listens: %+v", f)
	}
}

// TestAddedStoreThatIsBroken holds that a service starts without an added store whose file is gone, and says so.
func TestAddedStoreThatIsBroken(t *testing.T) {
	store := transit{keystores.StartVault(t)}
	w := newStoreWalk(t, store)
	by := visage.Caller{Principal: visage.Principal{Method: "operator", ObjectID: w.Operator().ClientID}}
	about := describeIn(t, w, store.Vault)
	e, err := w.KeyStores().Add(t.Context(), by, about)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(about.CAFile); err != nil {
		t.Fatal(err)
	}
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	again := servertest.Start(t, server.Config{Dir: w.Dir(), AutoApprove: true})
	e, err = again.KeyStores().Find(e.ID)
	if err != nil || !strings.Contains(e.Fault, "caFile") {
		t.Errorf("after the start: %+v, %v", e, err)
	}
	_, err = again.KeyStores().Try(t.Context(), by, e.ID, registry.Trial{})
	refusedAs(t, "KeyStoreNotUsable", "caFile", err)
	found, err := again.Accounts().CheckProtection(t.Context(), by, "vip", account.Protection{Customer: true,
		VaultURI: about.Address, KeyName: "faces"})
	if f, unmet := found.FirstUnmet(); err != nil || !unmet || f.Precondition != custody.VaultKnown ||
		f.Refusal.Code != "KeyStoreNotUsable" {
		t.Errorf("a key in it: %+v, %v", f, err)
	}
	w = &storeWalk{officer: &officer{Server: again}}
	_, answer := w.armed(t, http.MethodPost, "vip/encryption:check", fmt.Sprintf(
		`{"keySource":"Microsoft.KeyVault","keyVaultProperties":{"keyVaultUri":%q,"keyName":"faces"}}`, about.Address))
	if !strings.Contains(answer, `["visage store list"]`) {
		t.Errorf("what to do: %s", answer)
	}
	if err := again.KeyStores().Remove(t.Context(), by, e.ID); err != nil {
		t.Errorf("remove: %v", err)
	}
}

// refusedAs holds the code and a part of the sentence of a refusal.
func refusedAs(t *testing.T, code, says string, err error) {
	t.Helper()
	refusal, ok := err.(*visage.Refusal)
	if !ok || refusal.Code != code || !strings.Contains(refusal.Message, says) {
		t.Errorf("%v, want %s with %q", err, code, says)
	}
}

// TestKeyInStoreIsRehearsed holds that a rehearsal, whose copy logs in to the same store as the same identity, passes
// with a key in a store of the settings and in one that was added.
func TestKeyInStoreIsRehearsed(t *testing.T) {
	store := transit{keystores.StartVault(t)}
	w := newStoreWalk(t, store)
	by := visage.Caller{Principal: visage.Principal{Method: "operator", ObjectID: w.Operator().ClientID}}
	store.makeKey(t, "faces")
	store.grant(t, w.who, "faces")
	active := func(s custody.Status) bool {
		return s.Condition == custody.Active && s.Operation.Progress != custody.Running
	}
	rehearse := func(what string) {
		t.Helper()
		w.until(t, "the active key", active)
		report, err := w.Rehearse(t.Context(), by, "vip", func(drill.Step) {})
		if err != nil || !report.Passed || !strings.Contains(report.Road, "cannot be copied") {
			t.Errorf("%s: %+v, %v", what, report, err)
		}
	}
	if says := w.protect(t, "vip", "faces", ""); says != "" {
		t.Fatal(says)
	}
	rehearse("a store of the settings")

	about := describeIn(t, w, store.Vault)
	if _, err := w.KeyStores().Add(t.Context(), by, about); err != nil {
		t.Fatal(err)
	}
	store.Post("keys/of/team/keys/faces", map[string]any{"type": "aes256-gcm96"})
	store.Permit("visage-faces", map[string][]string{
		"transit/keys/faces": {"read"}, "transit/encrypt/faces": {"update"}, "transit/decrypt/faces": {"update"},
		"keys/of/team/keys/faces": {"read"}, "keys/of/team/encrypt/faces": {"update"},
		"keys/of/team/decrypt/faces": {"update"},
	})
	w.address = about.Address
	if says := w.protect(t, "vip", "faces", ""); says != "" {
		t.Fatal(says)
	}
	w.until(t, "the key in the added store", func(s custody.Status) bool {
		return active(s) && s.Key.Vault == about.Address
	})
	rehearse("a store that was added")
}

// TestKeyInStoreOpensAfterRestart holds that data opens after a start only when its store answers, and by itself.
func TestKeyInStoreOpensAfterRestart(t *testing.T) {
	store := transit{keystores.StartVault(t)}
	about := store.describe(t)
	w := newStoreWalk(t, store)
	store.makeKey(t, "faces")
	store.grant(t, w.who, "faces")
	if says := w.protect(t, "vip", "faces", ""); says != "" {
		t.Fatal(says)
	}
	w.until(t, "the active key", func(s custody.Status) bool { return s.Condition == custody.Active })
	listen := w.Addr().String() // the address is part of the issuer
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	store.Seal(true)
	w.Server = servertest.Start(t, server.Config{Dir: w.Dir(), Listen: listen, Rate: 1000, AutoApprove: true,
		KeyStores: []stores.Store{about}})
	w.until(t, "no answer", func(s custody.Status) bool { return s.Condition == custody.Unavailable })
	keys, err := w.Keys(t.Context(), "vip")
	if err != nil {
		t.Fatal(err)
	}
	w.Key = keys.Key1
	if status, body, _ := w.groups(t); status != http.StatusServiceUnavailable ||
		!strings.Contains(body, "EncryptionKeyUnavailable") {
		t.Errorf("while the store is sealed: %d %s", status, body)
	}
	store.Seal(false)
	w.Custody().Recheck(visage.KeyRef{Vault: about.Address, Name: "faces"})
	w.until(t, "the open data", func(s custody.Status) bool { return s.Condition == custody.Active })
	if status, body, _ := w.groups(t); status != http.StatusOK {
		t.Errorf("after the store answers: %d %s", status, body)
	}
}
