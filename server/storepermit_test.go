package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/registry"
	"github.com/visage-face/visage/server/servertest"
	"github.com/visage-face/visage/test/keystores"
)

// oneToken is a transit engine to which all resources log in with the same token, with files in a folder.
func oneToken(t *testing.T, vault *keystores.Vault, folder string, resources ...string) stores.Store {
	t.Helper()
	ca, secret := filepath.Join(folder, "ca.pem"), filepath.Join(folder, "token")
	if err := errors.Join(os.WriteFile(ca, []byte(vault.CA), 0o600),
		os.WriteFile(secret, []byte(vault.Root), 0o600)); err != nil {
		t.Fatal(err)
	}
	return stores.Store{Address: "hashivault://" + vault.Address + "/transit", CAFile: ca, Resources: resources,
		Login: stores.Login{Method: "token", SecretFile: secret}}
}

// only is the change of a description that lets these resources alone use the store.
func only(resources ...string) map[string]string {
	return map[string]string{stores.ResourcesField: strings.Join(resources, ",")}
}

// TestStoreOfOneLoginNamesItsResources: a resource that the operator has not named reaches no key in a store in which
// all resources log in alike, and one that has a key in it stays named.
func TestStoreOfOneLoginNamesItsResources(t *testing.T) {
	vault := keystores.StartVault(t)
	vault.Post("transit/keys/faces", map[string]any{"type": "aes256-gcm96"})
	w := &storeWalk{officer: &officer{Server: servertest.Start(t, server.Config{Rate: 1000, AutoApprove: true})}}
	w.resource(t, "vip")
	w.resource(t, "other")
	w.know(t)
	list, op := w.KeyStores(), w.Operator()
	by := visage.Caller{Principal: visage.Principal{Method: "operator", ObjectID: op.ClientID}}
	group := "/subscriptions/" + op.SubscriptionID + "/resourceGroups/default"
	vip := group + "/providers/Microsoft.CognitiveServices/accounts/vip"
	about := oneToken(t, vault, filepath.Join(w.Dir(), "keystores"))
	_, err := list.Add(t.Context(), by, about)
	refusedAs(t, "InvalidKeyStore", `list those that may use it in the field "resources"`, err)
	about.Resources = []string{vip}
	e, err := list.Add(t.Context(), by, about)
	if err != nil {
		t.Fatal(err)
	}
	w.address = about.Address
	refused := func(what string) {
		t.Helper()
		if says := w.protect(t, "other", "faces", ""); !strings.HasPrefix(says, "KeyStoreNotPermitted") ||
			!strings.Contains(says, "accounts/other") {
			t.Errorf("%s: %q", what, says)
		}
	}
	refused("a resource that is not named")
	found, err := w.Accounts().CheckProtection(t.Context(), by, "other", account.Protection{Customer: true,
		VaultURI: about.Address, KeyName: "faces"})
	if f, unmet := found.FirstUnmet(); err != nil || !unmet || f.Precondition != custody.VaultKnown ||
		f.Refusal.Code != "KeyStoreNotPermitted" {
		t.Errorf("checked before: %+v, %v", f, err)
	}
	_, err = list.Try(t.Context(), by, e.ID, registry.Trial{Resource: "other", Key: "faces"})
	refusedAs(t, "KeyStoreNotPermitted", "accounts/other", err)
	for _, resource := range []string{"vip", ""} {
		trial, err := list.Try(t.Context(), by, e.ID, registry.Trial{Resource: resource, Key: "faces"})
		if err != nil || !trial.Passed() {
			t.Errorf("a trial as %q: %+v, %v", resource, trial, err)
		}
	}
	if says := w.protect(t, "vip", "faces", ""); says != "" {
		t.Fatal(says)
	}
	w.until(t, "the active key", active)

	others := []string{group + "/providers/Microsoft.CognitiveServices/accounts/other"}
	_, err = list.Change(t.Context(), by, e.ID, only(others...))
	refusedAs(t, "KeyStoreInUse", "vip", err)
	_, err = list.Change(t.Context(), by, e.ID, only())
	refusedAs(t, "InvalidKeyStore", "missing or empty", err)
	if e, err = list.Change(t.Context(), by, e.ID, only(group)); err != nil ||
		e.Store.Resources[0] != group {
		t.Fatalf("for the whole group: %+v, %v", e, err)
	}
	if says := w.protect(t, "other", "faces", ""); says != "" {
		t.Errorf("in a group that is named: %s", says)
	}
}

// TestStoreFromBeforeNamesNobody: a store of the settings in which all resources log in alike, described before there
// was a field for the resources, goes on to serve the resources that have a key in it, and no other one.
func TestStoreFromBeforeNamesNobody(t *testing.T) {
	vault := keystores.StartVault(t)
	for _, name := range []string{"faces", "next"} {
		vault.Post("transit/keys/"+name, map[string]any{"type": "aes256-gcm96"})
	}
	dir := filepath.Join(t.TempDir(), "visage")
	about := oneToken(t, vault, t.TempDir(), stores.Everybody)
	start := func() *storeWalk {
		return &storeWalk{officer: &officer{Server: servertest.Start(t, server.Config{Dir: dir, Rate: 1000,
			AutoApprove: true, KeyStores: []stores.Store{about}})}, address: about.Address}
	}
	w := start()
	w.resource(t, "vip")
	w.resource(t, "other")
	w.know(t)
	if says := w.protect(t, "vip", "faces", ""); says != "" {
		t.Fatal(says)
	}
	w.until(t, "the active key", active)
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	about.Resources = nil
	w = start()
	w.know(t)
	w.until(t, "the active key after the start", active)
	if status, body, _ := w.groups(t); status != http.StatusOK {
		t.Errorf("the data after the start: %d %s", status, body)
	}
	vault.Post("transit/keys/faces/rotate", nil)
	w.Custody().Recheck(visage.KeyRef{Vault: w.address, Name: "faces"})
	w.until(t, "the move to the new version", func(s custody.Status) bool { return active(s) && s.Version == "2" })
	vault.Post("transit/keys/faces/rotate", nil) // not followed at once: the resource has just moved
	if says := w.protect(t, "vip", "faces", "3"); says != "" {
		t.Errorf("another version of the key: %s", says)
	}
	for account, key := range map[string]string{"other": "faces", "vip": "next"} {
		if says := w.protect(t, account, key, ""); !strings.HasPrefix(says, "KeyStoreNotPermitted") {
			t.Errorf("%s under the key %s: %q", account, key, says)
		}
	}
	if all := fmt.Sprint(w.Manage(t, http.MethodGet, "/providers/Visage.Operations/keyStores", nil)); !strings.Contains(
		all, "has no field") {
		t.Errorf("the list does not warn: %s", all)
	}

	// Without its identity, a resource reaches no key, and with a new one the same as before.
	identity := func(kind string) {
		t.Helper()
		if status, body := w.armed(t, http.MethodPatch, "vip", `{"identity":{"type":"`+kind+`"}}`); status/100 != 2 {
			t.Fatalf("identity %s: %d %s", kind, status, body)
		}
	}
	identity("None")
	w.until(t, "the lock without an identity", func(s custody.Status) bool { return s.Condition == custody.Revoked })
	identity("SystemAssigned")
	if status, body := w.armed(t, http.MethodPost, "vip/encryption:unlock", ""); status/100 != 2 {
		t.Fatalf("unlock: %d %s", status, body)
	}
	w.until(t, "the data with another identity", active)
}

// TestProtectorAddedLaterProtectsNoResource: a key that was added to protect the root key while the server runs cannot
// be named for a resource, and the key of a resource cannot be added.
func TestProtectorAddedLaterProtectsNoResource(t *testing.T) {
	vault := keystores.StartVault(t)
	for _, name := range []string{"root", "faces"} {
		vault.Post("transit/keys/"+name, map[string]any{"type": "aes256-gcm96"})
	}
	about := oneToken(t, vault, t.TempDir(), stores.Everybody)
	w := &storeWalk{officer: &officer{Server: servertest.Start(t, server.Config{Rate: 1000, AutoApprove: true,
		KeyStores: []stores.Store{about}})}, address: about.Address}
	w.resource(t, "vip")
	w.know(t)
	const protectors = "/providers/Visage.Operations/rootKey/protectors"
	r := realm{w.Server, t}
	token := w.Token(t, managementPlane)
	if says := w.protect(t, "vip", "faces", ""); says != "" {
		t.Fatal(says)
	}
	r.call(http.StatusConflict, "RootProtectorInUse", token, "POST", protectors,
		fmt.Sprintf(`{"entry":%q}`, about.Address+"/keys/faces"))
	r.call(http.StatusOK, "", token, "POST", protectors, fmt.Sprintf(`{"entry":%q}`, about.Address+"/keys/root"))
	if says := w.protect(t, "vip", "root", ""); !strings.Contains(says, "protects the root key") {
		t.Errorf("under the key of the root key: %q", says)
	}
}

// TestStoreOfADamagedResourceStays: a key store is neither removed nor restricted while the keys of a resource cannot
// be read, since a backup of the resource may need the store. When the resource is purged, it is removed.
func TestStoreOfADamagedResourceStays(t *testing.T) {
	vault := keystores.StartVault(t)
	vault.Post("transit/keys/faces", map[string]any{"type": "aes256-gcm96"})
	dir := filepath.Join(t.TempDir(), "visage")
	start := func() *storeWalk {
		return &storeWalk{officer: &officer{Server: servertest.Start(t, server.Config{Dir: dir, Rate: 1000,
			AutoApprove: true})}}
	}
	w := start()
	w.resource(t, "vip")
	w.know(t)
	op := w.Operator()
	by := visage.Caller{Principal: visage.Principal{Method: "operator", ObjectID: op.ClientID}}
	group := "/subscriptions/" + op.SubscriptionID + "/resourceGroups/default"
	about := oneToken(t, vault, filepath.Join(dir, "keystores"), group)
	e, err := w.KeyStores().Add(t.Context(), by, about)
	if err != nil {
		t.Fatal(err)
	}
	w.address = about.Address
	if says := w.protect(t, "vip", "faces", ""); says != "" {
		t.Fatal(says)
	}
	w.until(t, "the active key", active)
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	damageBundle(t, filepath.Join(dir, "data"), w.space)

	w = start()
	list := w.KeyStores()
	const cannotBeRead = "damaged and cannot be read: vip."
	refusedAs(t, "KeyStoreInUse", cannotBeRead, list.Remove(t.Context(), by, e.ID))
	others := []string{group + "/providers/Microsoft.CognitiveServices/accounts/other"}
	_, err = list.Change(t.Context(), by, e.ID, only(others...))
	refusedAs(t, "KeyStoreInUse", cannotBeRead, err)
	if _, err := list.Change(t.Context(), by, e.ID, only(stores.Everybody)); err != nil {
		t.Errorf("for all resources: %v", err)
	}
	if status, body := w.armed(t, http.MethodDelete, "vip", ""); status/100 != 2 {
		t.Fatalf("delete the resource: %d %s", status, body)
	}
	refusedAs(t, "KeyStoreInUse", cannotBeRead, list.Remove(t.Context(), by, e.ID))
	if err := w.Accounts().Purge(t.Context(), by, "vip"); err != nil {
		t.Fatalf("purge the resource: %v", err)
	}
	if err := list.Remove(t.Context(), by, e.ID); err != nil {
		t.Errorf("after the purge: %v", err)
	}
}

// damageBundle changes the last byte of a resource's key bundle in the store of a stopped server. Its row is the one
// that docs/formats/containers.md describes.
func damageBundle(t *testing.T, dir string, space sealed.SpaceID) {
	t.Helper()
	db, err := pebble.Open(dir, &pebble.Options{ErrorIfNotExists: true})
	if err != nil {
		t.Fatal(err)
	}
	at := append(space[:], 'B')
	row, done, err := db.Get(at)
	if err != nil {
		t.Fatal(err)
	}
	row = bytes.Clone(row)
	row[len(row)-1] ^= 1
	if err := errors.Join(done.Close(), db.Set(at, row, pebble.Sync), db.Close()); err != nil {
		t.Fatal(err)
	}
}
