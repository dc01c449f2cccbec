package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/registry"
	"github.com/visage-face/visage/server/servertest"
	"github.com/visage-face/visage/test/keystores"
)

// TestStoreChangesWhileItIsUsed rotates the AppRole that resources log in with, by its id and its secret: the data
// stays open when the former one is deleted, and over a restart.
func TestStoreChangesWhileItIsUsed(t *testing.T) {
	vault := keystores.StartVault(t)
	vault.Post("transit/keys/faces", map[string]any{"type": "aes256-gcm96"})
	vault.Permit("visage", map[string][]string{"transit/keys/*": {"read"}, "transit/encrypt/*": {"update"},
		"transit/decrypt/*": {"update"}})
	w := &storeWalk{officer: &officer{Server: servertest.Start(t, server.Config{Rate: 1000, AutoApprove: true})}}
	w.resource(t, "vip")
	w.know(t)
	folder := filepath.Join(w.Dir(), "keystores")
	role := func(name string) (id, secretFile string) {
		at := "auth/approle/role/" + name
		vault.Post(at, map[string]any{"token_policies": "visage"})
		id, _ = vault.Do(http.MethodGet, at+"/role-id", nil)["role_id"].(string)
		secret, _ := vault.Post(at+"/secret-id", nil)["secret_id"].(string)
		secretFile = filepath.Join(folder, name)
		if err := os.WriteFile(secretFile, []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
		return id, secretFile
	}
	about := oneToken(t, vault, folder, stores.Everybody)
	about.Login = stores.Login{Method: "approle"}
	about.Login.RoleID, about.Login.SecretFile = role("first")
	by := visage.Caller{Principal: visage.Principal{Method: "operator", ObjectID: w.Operator().ClientID}}
	e, err := w.KeyStores().Add(t.Context(), by, about)
	if err != nil {
		t.Fatal(err)
	}
	w.address = about.Address
	if says := w.protect(t, "vip", "faces", ""); says != "" {
		t.Fatal(says)
	}
	w.until(t, "the active key", active)

	r := realm{w.Server, t}
	manage, path := r.Token(t, managementPlane), "/providers/Visage.Operations/keyStores/"+e.ID
	for name, body := range map[string]string{
		"nothing": `{}`, "no field": `{"login":{"pin":"1"}}`, "a field of another method": `{"login":{"tenant":"x"}}`,
		"a file elsewhere": `{"caFile":"/etc/passwd"}`, "no resources": `{"resources":[]}`,
		"a file that is missing": fmt.Sprintf(`{"caFile":%q}`, filepath.Join(folder, "none")),
		"a helper":               `{"helper":{"module":"/lib/x.so"}}`, "an address": `{"address":"hashivault://other/transit"}`,
	} {
		if got := r.status(manage, "PATCH", path, body); got != http.StatusBadRequest {
			t.Errorf("%s: %d, want 400", name, got)
		}
	}
	next := about.Login
	next.RoleID, next.SecretFile = role("second")
	login, err := json.Marshal(map[string]string{"roleId": next.RoleID, "secretFile": next.SecretFile})
	if err != nil {
		t.Fatal(err)
	}
	r.call(http.StatusOK, "", manage, "PATCH", path, fmt.Sprintf(`{"login":%s}`, login))
	vault.Do(http.MethodDelete, "auth/approle/role/first", nil)
	open := func(what string) {
		t.Helper()
		trial, err := w.KeyStores().Try(t.Context(), by, e.ID, registry.Trial{Resource: "vip", Key: "faces"})
		if err != nil || !trial.Passed() {
			t.Errorf("%s: %+v, %v", what, trial, err)
		}
		before := time.Now()
		w.Custody().Recheck(visage.KeyRef{Vault: about.Address, Name: "faces"})
		w.until(t, what, func(s custody.Status) bool { return active(s) && s.LastSuccess.After(before) })
		if status, body, _ := w.groups(t); status != http.StatusOK {
			t.Errorf("%s: %d %s", what, status, body)
		}
	}
	open("after the former role was deleted")
	dir := w.Dir()
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	recorded := map[audit.Outcome]int{}
	for _, e := range entries(t, dir) {
		if e.Details[audit.DetailOperation] == "key-store-update" {
			recorded[e.Outcome]++
		}
	}
	if recorded[audit.Done] != 1 || recorded[audit.Refused] < 5 {
		t.Errorf("recorded: %v", recorded)
	}
	w.Server = servertest.Start(t, server.Config{Dir: dir, Rate: 1000, AutoApprove: true})
	w.know(t)
	open("after a start")
}
