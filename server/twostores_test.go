package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/ovh/kmip-go"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/test/keystores"
)

// TestTwoStores protects a resource by a key in a store of each kind and by one in a vault of this instance.
func TestTwoStores(t *testing.T) {
	t.Run("transit", func(t *testing.T) {
		store := transit{keystores.StartVault(t)}
		walkTwoStores(t, store, store.Seal)
	})
	t.Run("AWS", func(t *testing.T) {
		store := newAWSStore(t)
		walkTwoStores(t, store, store.Down)
	})
	t.Run("Google", func(t *testing.T) {
		store := google{keystores.StartCloudKMS(t)}
		walkTwoStores(t, store, func(silent bool) {
			if silent {
				store.Fail("cloudkms", http.StatusServiceUnavailable, "UNAVAILABLE", "Try again.", "")
			} else {
				store.Fail("cloudkms", 0, "", "", "")
			}
		})
	})
	t.Run("KMIP", func(t *testing.T) {
		store := keyManager{keystores.StartKMIP(t)}
		walkTwoStores(t, store, func(silent bool) {
			if silent {
				store.Refuse(kmip.ResultReasonGeneralFailure)
			} else {
				store.Refuse(0)
			}
		})
	})
	t.Run("HSM", func(t *testing.T) { walkTwoStores(t, &hsm{HSM: keystores.StartSoftHSM(t)}, nil) })
	t.Run("Azure", func(t *testing.T) { walkTwoStores(t, newFederated(t), nil) })
}

// walkTwoStores has the first store of two go silent while the data is in use, and answer again before another one may
// serve; then the second key refuses, and then the first. TestFailoverInRealTime waits for the fail-over. A nil silence
// is that of a store whose tests have none.
func walkTwoStores(t *testing.T, store customerStore, silence func(silent bool)) {
	w := newStoreWalk(t, store)
	key := store.makeKey(t, "faces")
	store.grant(t, w.who, key)
	if says := w.protect(t, "vip", key, ""); says != "" {
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
	first := visage.KeyRef{Vault: w.address, Name: key}

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
	if silence != nil {
		silence(true)
		w.Custody().Recheck(first)
		w.until(t, "the silence", func(s custody.Status) bool { return s.Stores[0].Silent() })
		served("while the first store is silent")
		if s := w.stores(t); s[0].Serving || s[1].Serving {
			t.Errorf("in the first minute of the silence: %+v", s)
		}
		silence(false)
		w.Custody().Recheck(first)
		w.until(t, "the return", func(s custody.Status) bool { return settled(s) && s.Serves(0) })
	}

	w.allow(t, spare, false)
	w.Custody().Recheck(spare)
	w.until(t, "the alarm", func(s custody.Status) bool { return s.Stores[1].Refuses() })
	served("although the second key refuses")
	store.revoke(t, key)
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
	store.grant(t, w.who, key)
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

// stores returns what the management plane says of the stores of the resource "vip".
func (w *storeWalk) stores(t *testing.T) []armwire.StoreKey {
	t.Helper()
	status, body := w.armed(t, http.MethodGet, "vip", "")
	var answer armwire.Account
	if err := json.Unmarshal([]byte(body), &answer); status != http.StatusOK || err != nil {
		t.Fatalf("get the resource: %d %s", status, body)
	}
	return answer.Properties.Encryption.Status.Stores
}
