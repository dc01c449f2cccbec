package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/test/keystores"
)

// TestTwoStores protects a resource by a key in a HashiCorp Vault and by one in a vault of this instance. The first
// store goes silent while the data is in use, and answers again; the second key refuses, and then the first.
func TestTwoStores(t *testing.T) {
	t.Parallel() // the fail-over takes a minute
	store := transit{keystores.StartVault(t)}
	w := newStoreWalk(t, store)
	store.makeKey(t, "faces")
	store.grant(t, w.who, "faces")
	if says := w.protect(t, "vip", "faces", ""); says != "" {
		t.Fatal(says)
	}
	settled := func(s custody.Status) bool {
		return s.Condition == custody.Active && s.Operation.Progress != custody.Running
	}
	w.until(t, "the active key", settled)
	if status, body, _ := w.face(t, http.MethodPut, "/face/v1.2/persongroups/g",
		`{"name":"g"}`); status != http.StatusOK {
		t.Fatalf("make a group: %d %s", status, body)
	}
	first := visage.KeyRef{Vault: w.address, Name: "faces"}

	w.vault(t, "spare", "local", true, w.who)
	w.keys = vaultClient(t, w.Server, "spare")
	spare := w.key(t, "faces")
	change := func(action string, of visage.KeyRef) (int, string) {
		body := fmt.Sprintf(`{"keyVaultProperties":{"keyVaultUri":%q,"keyName":%q}}`, of.Vault, of.Name)
		return w.armed(t, http.MethodPost, "vip/encryption:"+action, body)
	}
	status, body := change("addStore", spare)
	var answer armwire.Account
	if err := json.Unmarshal([]byte(body), &answer); status != http.StatusOK || err != nil {
		t.Fatalf("add a store: %d %s", status, body)
	}
	if s := answer.Properties.Encryption.Status; len(s.Stores) != 2 || !s.Stores[0].Serving ||
		!strings.Contains(s.Notice, "revoke the keys of all stores") {
		t.Errorf("added: %+v", s)
	}
	if status, body := change("addStore", first); status != http.StatusConflict ||
		!strings.Contains(body, "KeyAlreadyInUse") {
		t.Errorf("the first key again: %d %s", status, body)
	}
	if status, body := w.armed(t, http.MethodPost, "vip/encryption:promoteStore", ""); status != http.StatusConflict ||
		!strings.Contains(body, "PromotionNotAllowed") {
		t.Errorf("promoted while the first answers: %d %s", status, body)
	}

	served := func(what string) {
		t.Helper()
		if status, body, _ := w.groups(t); status != http.StatusOK || !strings.Contains(body, `"g"`) {
			t.Fatalf("%s: %d %s", what, status, body)
		}
	}
	store.Seal(true)
	w.Custody().Recheck(first)
	w.within(t, 90*time.Second, 100*time.Millisecond, "the fail-over", func(s custody.Status) bool {
		served("while the first store is silent")
		return s.Serving == 1
	})
	served("by the second store")
	store.Seal(false)
	w.Custody().Recheck(first)
	w.until(t, "the return", func(s custody.Status) bool { return settled(s) && s.Serving == 0 })

	w.allow(t, spare, false)
	w.Custody().Recheck(spare)
	w.until(t, "the alarm", func(s custody.Status) bool { return s.Stores[1].Refuses() })
	served("although the second key refuses")
	store.revoke(t, "faces")
	w.allow(t, spare, true)
	w.Custody().Recheck(first)
	w.until(t, "the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
	if status, body, _ := w.groups(t); status != http.StatusForbidden ||
		!strings.Contains(body, "EncryptionKeyRevoked") {
		t.Errorf("while revoked: %d %s", status, body)
	}
	if status, body := change("removeStore", first); status != http.StatusConflict {
		t.Errorf("the revoked key is removed: %d %s", status, body)
	}
	store.grant(t, w.who, "faces")
	w.Custody().Recheck(first)
	w.until(t, "the restoration", settled)
	if status, body := change("removeStore", first); status != http.StatusAccepted {
		t.Fatalf("remove the first: %d %s", status, body)
	}
	s := w.until(t, "the second key as the only one", func(s custody.Status) bool {
		return settled(s) && s.Operation.Progress == custody.Succeeded
	})
	if len(s.Stores) != 1 || s.Key.Name != spare.Name || s.Key.Vault != spare.Vault {
		t.Errorf("removed: %+v", s)
	}
	served("by the remaining key")
}
