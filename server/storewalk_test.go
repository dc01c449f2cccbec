package server_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/file"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// customerStore is a running store of customers' keys, with its administrator.
type customerStore interface {
	// describe returns what the operator configures.
	describe(t *testing.T) stores.Store
	// trust makes the store accept assertions of an instance.
	trust(t *testing.T, issuer issuer)
	// makeKey makes a key that is fit to protect a resource, and returns the name by which the store knows it: the
	// given one, or one of the store's own.
	makeKey(t *testing.T, name string) string
	// grant lets an identity, and nobody else, use keys, as docs/operations/key-stores.md has it.
	grant(t *testing.T, who visage.PrincipalID, keys ...string)
	// revoke lets nobody use a key any more.
	revoke(t *testing.T, key string)
	// rotate makes a new version of a key and returns it; empty: the store's keys have no versions.
	rotate(t *testing.T, key string) string
}

// denial begins the refusal of a key that the identity may not use. A store in which all resources log in alike has no
// such key for it.
func denial(store customerStore) string {
	if _, alike := store.(interface {
		label(visage.PrincipalID, string) string
	}); alike {
		return "KeyVaultKeyNotFound"
	}
	return "KeyVaultAccessDenied"
}

// issuer is an instance as the stores see it that trust its assertions.
type issuer struct {
	URL  string // the claim "iss"
	Keys string // where the keys that verify are published
	CA   string // PEM of the authority of that address
}

// storeWalk is a server whose resources may use keys in one store.
type storeWalk struct {
	*officer
	store   customerStore
	address string
}

const accountPath = "/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts/"

// newStoreWalk starts a server with the resource "vip", whose identity has no rights in the store yet.
func newStoreWalk(t *testing.T, store customerStore) *storeWalk {
	t.Helper()
	w := startStoreWalk(t, store, "")
	w.resource(t, "vip")
	w.know(t)
	store.trust(t, w.issuer(t))
	return w
}

// startStoreWalk starts a server on a folder; empty: a new one.
func startStoreWalk(t *testing.T, store customerStore, dir string) *storeWalk {
	t.Helper()
	about := store.describe(t)
	return &storeWalk{&officer{Server: servertest.Start(t, server.Config{
		Dir: dir, Rate: 1000, AutoApprove: true, KeyStores: []stores.Store{about},
	})}, store, about.Address}
}

// know finds out who the resource "vip" is.
func (w *storeWalk) know(t *testing.T) {
	t.Helper()
	var err error
	if w.space, w.who, err = w.Identify(t.Context(), "vip"); err != nil {
		t.Fatal(err)
	}
	keys, err := w.Keys(t.Context(), "vip")
	if err != nil {
		t.Fatal(err)
	}
	w.Key = keys.Key1
}

// issuer is the server as stores see it.
func (w *storeWalk) issuer(t *testing.T) issuer {
	t.Helper()
	ca, err := os.ReadFile(w.Operator().CAFile)
	if err != nil {
		t.Fatal(err)
	}
	var published struct {
		Issuer string
		Keys   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal([]byte(w.page(t, "/"+w.Operator().TenantID+"/.well-known/openid-configuration")),
		&published); err != nil {
		t.Fatal(err)
	}
	return issuer{published.Issuer, published.Keys, string(ca)}
}

// resource makes a resource that may have a customer-managed key.
func (w *storeWalk) resource(t *testing.T, name string) {
	t.Helper()
	if status, body := w.armed(t, http.MethodPut, name, `{"kind":"Face","location":"local","sku":{"name":"E0"},`+
		`"identity":{"type":"SystemAssigned"}}`); status/100 != 2 {
		t.Fatalf("make resource %s: %d %s", name, status, body)
	}
}

// protect puts a resource under a key by the management plane, and returns why that is refused; empty: it is accepted.
func (w *storeWalk) protect(t *testing.T, account, key, version string) string {
	t.Helper()
	body := fmt.Sprintf(`{"properties":{"encryption":{"keySource":"Microsoft.KeyVault","keyVaultProperties":`+
		`{"keyVaultUri":%q,"keyName":%q,"keyVersion":%q}}}}`, w.address, key, version)
	status, answer := w.armed(t, http.MethodPatch, account, body)
	if status/100 == 2 {
		return ""
	}
	var refused struct {
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(answer), &refused); err != nil || refused.Error.Message == "" {
		t.Fatalf("protect %s: %d %s", account, status, answer)
	}
	return refused.Error.Code + ": " + refused.Error.Message
}

// armed sends a request about a resource to the management plane.
func (w *storeWalk) armed(t *testing.T, method, account, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, w.URL+"/subscriptions/"+w.Operator().SubscriptionID+accountPath+account+
		"?api-version=2025-09-01", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.Token(t, "https://management.azure.com"))
	req.Header.Set("Content-Type", "application/json")
	res, err := w.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

// active reports whether the customer's key protects the data and no change is under way.
func active(s custody.Status) bool {
	return s.Condition == custody.Active && s.Operation.Progress != custody.Running
}

// walkArticle walks through the article with a key in a store: enable, revoke, restore, rotate, switch and disable.
func walkArticle(t *testing.T, store customerStore) {
	w := newStoreWalk(t, store)
	faces := store.makeKey(t, "faces")
	if says := w.protect(t, "vip", faces, ""); !strings.HasPrefix(says, denial(store)) {
		t.Errorf("before the identity may use the key: %q", says)
	}
	store.grant(t, w.who, faces)
	if says := w.protect(t, "vip", faces, ""); says != "" {
		t.Fatalf("enable: %s", says)
	}
	first := w.until(t, "the active key", active)
	if first.Key.Vault != w.address || first.Key.Name != faces {
		t.Errorf("the key is %s, version %s", first.Key, first.Version)
	}
	status, body, _ := w.face(t, http.MethodPut, "/face/v1.2/persongroups/g", `{"name":"g"}`)
	if status != http.StatusOK {
		t.Fatalf("make a group: %d %s", status, body)
	}
	key := visage.KeyRef{Vault: w.address, Name: faces}

	store.revoke(t, faces)
	w.Custody().Recheck(key)
	w.until(t, "the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
	if status, body, _ := w.groups(t); status != http.StatusForbidden ||
		!strings.Contains(body, "EncryptionKeyRevoked") {
		t.Errorf("while revoked: %d %s", status, body)
	}
	store.grant(t, w.who, faces)
	w.Custody().Recheck(key)
	w.until(t, "the restoration", active)

	if version := store.rotate(t, faces); version != "" {
		w.Custody().Recheck(key)
		w.until(t, "the move to the new version",
			func(s custody.Status) bool { return active(s) && s.Version == version })
	}
	if status, body, _ := w.groups(t); status != http.StatusOK || !strings.Contains(body, `"g"`) {
		t.Errorf("after the rotation: %d %s", status, body)
	}

	next := store.makeKey(t, "next")
	store.grant(t, w.who, faces, next)
	if says := w.protect(t, "vip", next, ""); says != "" {
		t.Fatalf("switch: %s", says)
	}
	w.until(t, "the other key", func(s custody.Status) bool { return active(s) && s.Key.Name == next })

	if status, body := w.armed(t, http.MethodPatch, "vip",
		`{"properties":{"encryption":{"keySource":"Microsoft.CognitiveServices"}}}`); status/100 != 2 {
		t.Fatalf("disable: %d %s", status, body)
	}
	w.until(t, "the service's key", func(s custody.Status) bool { return s.Condition == custody.ServiceManaged })
	if status, body, _ := w.groups(t); status != http.StatusOK || !strings.Contains(body, `"g"`) {
		t.Errorf("disabled: %d %s", status, body)
	}
}

// walkOthers holds that a key which is granted to one resource cannot be reached through another.
func walkOthers(t *testing.T, store customerStore) {
	w := newStoreWalk(t, store)
	faces := store.makeKey(t, "faces")
	store.grant(t, w.who, faces)
	w.resource(t, "other")
	if says := w.protect(t, "other", faces, ""); !strings.HasPrefix(says, denial(store)) {
		t.Errorf("through another resource: %q", says)
	}
	if says := w.protect(t, "vip", faces, ""); says != "" {
		t.Errorf("through its own resource: %q", says)
	}
}

// walkTheft takes a copy of everything that a server keeps, its data, root key and keyring, and holds that it opens
// nothing without the store: neither with the keys of the copy nor in a server that the store refuses.
func walkTheft(t *testing.T, store customerStore) {
	dir := filepath.Join(t.TempDir(), "visage")
	w := startStoreWalk(t, store, dir)
	w.resource(t, "vip")
	w.know(t)
	store.trust(t, w.issuer(t))
	faces := store.makeKey(t, "faces")
	store.grant(t, w.who, faces)
	if says := w.protect(t, "vip", faces, ""); says != "" {
		t.Fatalf("enable: %s", says)
	}
	w.until(t, "the active key", active)
	if status, body, _ := w.face(t, http.MethodPut, "/face/v1.2/persongroups/g",
		`{"name":"canary"}`); status != http.StatusOK {
		t.Fatalf("make a group: %d %s", status, body)
	}
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	store.revoke(t, faces)
	loot := copied(t, dir)
	breakOpen(t, loot, w.space)

	thief := startStoreWalk(t, store, loot)
	thief.know(t)
	thief.until(t, "the refusal", func(s custody.Status) bool { return s.Condition == custody.Revoked })
	if status, body, _ := thief.groups(t); status == http.StatusOK || strings.Contains(body, "canary") {
		t.Errorf("in a server that the store refuses: %d %s", status, body)
	}
	// The copy is whole: with the store it opens.
	store.trust(t, thief.issuer(t))
	store.grant(t, thief.who, faces)
	thief.Custody().Recheck(visage.KeyRef{Vault: thief.address, Name: faces})
	thief.until(t, "the store's consent", active)
	if status, body, _ := thief.groups(t); status != http.StatusOK || !strings.Contains(body, "canary") {
		t.Errorf("with the store: %d %s", status, body)
	}
}

// breakOpen tries to open a space in a copy of a server's folder with all keys that are in there.
func breakOpen(t *testing.T, dir string, space sealed.SpaceID) {
	t.Helper()
	data, keys := filepath.Join(dir, "data"), filepath.Join(dir, "keys")
	root, err := file.New(filepath.Join(keys, "root.key"), data)
	if err != nil {
		t.Fatal(err)
	}
	stolen, err := sealed.Open(t.Context(), sealed.Config{Engine: sealed.Pebble(data), KeyDir: keys,
		Protectors: []sealed.Protector{{Name: "file", Kind: "file", Source: root}}})
	if err != nil {
		t.Fatalf("the root key does not open its store: %v", err)
	}
	defer stolen.Close()
	sp := stolen.Space(space)
	for name, src := range map[string]keysource.Source{
		"no key": nil, "the root key": root, "another key": sourcetest.NewFake("another"),
	} {
		if err := stolen.Bundle(space).Load(t.Context(), src); err == nil {
			t.Errorf("%s opens the data", name)
		}
		err := sp.View(t.Context(), func(sealed.Reader) error { return nil })
		if !errors.Is(err, sealed.ErrLocked) {
			t.Errorf("with %s: %v, want a locked space", name, err)
		}
	}
}
