package requirements_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
)

// customer is a resource with a person in it, and a vault with access for its identity.
func customer(t *testing.T) (w *servedInstance, a app, who string) {
	t.Helper()
	w = newServer(t, server.Config{AutoApprove: true})
	who = w.createWithIdentity("vip")
	w.want(w.makeVault("safe", "westus2", protected, who, "get", "wrapKey", "unwrapKey"), 201, "")
	a = w.app("vip")
	a.enrol()
	return w, a, who
}

// TestLifeOfAKey: requirements 11 to 13, 15, 21, 28, 41 to 48 and 54 to 56, in the order in which customers encounter
// them.
func TestLifeOfAKey(t *testing.T) {
	w, a, _ := customer(t)
	first := w.makeKey("safe", "k", rsa2048)

	t.Run("11 21 41 a key that was made in the vault is enabled by its identifier", func(t *testing.T) {
		w, a := w.in(t), app{w.in(t), a.key}
		now := w.encrypt(
			"vip",
			`{"properties":{"encryption":{"keySource":"Microsoft.KeyVault","keyVaultProperties":{"keyVaultUri":"`+
				w.vaultURI("safe")+`keys/k/`+first+`"}}}}`,
		)
		for path, want := range map[string]string{"keySource": "Microsoft.KeyVault",
			"keyVaultProperties.keyVaultUri": w.vaultURI("safe"),
			"keyVaultProperties.keyName":     "k", "keyVaultProperties.keyVersion": first, "status.state": "active"} {
			if got := now.text("properties.encryption." + path); got != want {
				t.Errorf("%s is %q, want %q", path, got, want)
			}
		}
		a.wantOpen()
		for _, wrong := range []string{"https://elsewhere.example/keys/k", w.vaultURI("safe") + "secrets/k",
			w.vaultURI("safe") + "keys/k/../other"} {
			if got := w.arm("PATCH", account("vip"),
				`{"properties":{"encryption":{"keyVaultProperties":{"keyVaultUri":"`+wrong+`"}}}}`); got.status != 400 {
				t.Errorf("%s: %d %s", wrong, got.status, got.body)
			}
		}
	})
	t.Run("02 clients notice nothing under a customer's key", func(t *testing.T) {
		app{w.in(t), a.key}.wantOpen()
	})
	second := ""
	t.Run("45 after a rotation in the vault the resource keeps its version until it is told", func(t *testing.T) {
		w, a := w.in(t), app{w.in(t), a.key}
		kid := w.want(w.keyOf("safe", "POST", "/keys/k/rotate", ""), 200, "").text("key.kid")
		second = kid[strings.LastIndex(kid, "/")+1:]
		a.wantOpen()
		if got := w.arm("GET", account("vip"), "").text("properties.encryption.status.keyVersion"); got != first {
			t.Errorf("it uses %s, want %s", got, first)
		}
	})
	t.Run("12 43 46 a new version is set, and no record is written again", func(t *testing.T) {
		w, a := w.in(t), app{w.in(t), a.key}
		now := w.encrypt("vip", w.keySettings("safe", "k", second, ""))
		if got := now.text("properties.encryption.status.keyVersion"); got != second {
			t.Errorf("it uses %s, want %s", got, second)
		}
		w.allow("safe", "k", first, false) // the old version is no longer needed
		a.wantOpen()
	})
	t.Run("48 the version in use must be usable when it is changed", func(t *testing.T) {
		w, a := w.in(t), app{w.in(t), a.key}
		got := w.arm("PATCH", account("vip"), w.keySettings("safe", "k", first, "")) // disabled above
		if got.status != 400 {
			t.Errorf("a disabled version: %d %s", got.status, got.body)
		}
		a.wantOpen()
	})
	t.Run("13 disabling the version closes the data, enabling it opens it", func(t *testing.T) {
		w, a := w.in(t), app{w.in(t), a.key}
		w.allow("safe", "k", second, false)
		a.wantClosed()
		w.allow("safe", "k", second, true)
		a.wantOpen()
	})
	t.Run("11 17 an imported key is as good", func(t *testing.T) {
		w, a := w.in(t), app{w.in(t), a.key}
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		n := func(v *big.Int) string { return base64.RawURLEncoding.EncodeToString(v.Bytes()) }
		body := fmt.Sprintf(`{"key":{"kty":"RSA","n":%q,"e":"AQAB","d":%q,"p":%q,"q":%q,"dp":%q,"dq":%q,"qi":%q}}`,
			n(key.N), n(key.D), n(key.Primes[0]), n(key.Primes[1]),
			n(key.Precomputed.Dp), n(key.Precomputed.Dq), n(key.Precomputed.Qinv))
		w.want(w.keyOf("safe", "PUT", "/keys/imported", body), 200, "")
		w.encrypt("vip", w.keySettings("safe", "imported", "", ""))
		a.wantOpen()
	})
	t.Run("42 44 another key, by vault and name; the one before can go", func(t *testing.T) {
		w, a := w.in(t), app{w.in(t), a.key}
		w.makeKey("safe", "other", rsa2048)
		now := w.encrypt("vip", w.keySettings("safe", "other", "", ""))
		if now.text("properties.encryption.keyVaultProperties.keyName") != "other" {
			t.Errorf("switched: %s", now.body)
		}
		w.want(w.keyOf("safe", "DELETE", "/keys/imported", ""), 200, "")
		w.want(w.keyOf("safe", "DELETE", "/keys/k", ""), 200, "")
		a.wantOpen()
	})
	t.Run("56 going back needs the present key", func(t *testing.T) {
		w, a := w.in(t), app{w.in(t), a.key}
		w.allow("safe", "other", "", false)
		a.wantClosed()
		w.want(w.arm("PATCH", account("vip"), serviceKeys), 409, "EncryptionKeyRevoked")
		w.allow("safe", "other", "", true)
		a.wantOpen()
	})
	t.Run("54 55 back to the service's keys, and the customer's key can be deleted", func(t *testing.T) {
		w, a := w.in(t), app{w.in(t), a.key}
		now := w.encrypt("vip", serviceKeys)
		if now.text("properties.encryption.status.state") != "service-managed" {
			t.Errorf("back: %s", now.body)
		}
		w.want(w.keyOf("safe", "DELETE", "/keys/other", ""), 200, "")
		a.wantOpen()
	})
	t.Run("47 a key named without a version is followed", func(t *testing.T) {
		w, a := w.in(t), app{w.in(t), a.key}
		w.makeKey("safe", "followed", rsa2048)
		w.encrypt("vip", w.keySettings("safe", "followed", "", ""))
		kid := w.want(w.keyOf("safe", "POST", "/keys/followed/rotate", ""), 200, "").text("key.kid")
		newest := kid[strings.LastIndex(kid, "/")+1:]
		used, running := "", true // the version is shown before its change has ended
		for until := time.Now().Add(time.Minute); (used != newest || running) && time.Now().Before(until); {
			now := w.arm("GET", account("vip"), "")
			used = now.text("properties.encryption.status.keyVersion")
			running = now.text("properties.encryption.status.operation.progress") == "running"
		}
		if used != newest {
			t.Errorf("it uses %s, want %s", used, newest)
		}
		a.wantOpen()
		w.encrypt("vip", serviceKeys)
	})
	t.Run("28 one request switches the identity on, registers it, gives it access and enables the key",
		func(t *testing.T) {
			w := w.in(t)
			w.want(w.create("fresh", "E0"), 201, "")
			w.makeKey("safe", "third", rsa2048)
			now := w.encrypt("fresh", w.keySettings("safe", "third", "", `,"register":true`))
			id := now.text("identity.principalId")
			if id == "" || !bytes.Contains(w.arm("GET", vault("safe"), "").body, []byte(id)) {
				t.Errorf("identity %q is not in the vault's policies", id)
			}
		})
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Run("15 every use of the key is told, in the vault's words and in ours", func(t *testing.T) {
		seen := map[string]int{}
		eachEntry(t, w.dir, func(e audit.Entry) {
			seen[string(e.Kind)]++
			if e.Kind == audit.VaultOperation {
				seen[e.Details[audit.DetailOperation]]++
			}
		})
		for _, kind := range []string{"KeyWrap", "KeyUnwrap", "KeyCreate", string(audit.CustodyEnable),
			string(audit.CustodyFollow), string(audit.CustodySwitch),
			string(audit.CustodyLock), string(audit.CustodyRestore), string(audit.CustodyDisable)} {
			if seen[kind] == 0 {
				t.Errorf("the log has no entry of kind %s: %v", kind, seen)
			}
		}
	})
}

// TestRevocation: requirements 14, 29, 35 and 49 to 52: every way of revoking the key, and the data after its return.
func TestRevocation(t *testing.T) {
	w, a, who := customer(t)
	w.makeKey("safe", "k", rsa2048)
	w.encrypt("vip", w.keySettings("safe", "k", "", ""))
	a.wantOpen()
	before := a.face("GET", "v1.2/persongroups/guests/persons", nil)
	policy := func(w *servedInstance, change, id string) {
		w.Helper()
		w.want(w.arm("PUT", vault("safe")+"/accessPolicies/"+change, fmt.Sprintf(
			`{"properties":{"accessPolicies":[{"tenantId":%q,"objectId":%q,"permissions":{"keys":["get","wrapKey","unwrapKey"]}}]}}`, w.Operator().TenantID, id)), 200, "")
	}
	for _, way := range []struct {
		name         string
		take, giving func(w *servedInstance)
	}{
		{"49 the policy removed", func(w *servedInstance) { policy(w, "remove", who) },
			func(w *servedInstance) { policy(w, "add", who) }},
		{"13 49 the key disabled", func(w *servedInstance) { w.allow("safe", "k", "", false) },
			func(w *servedInstance) { w.allow("safe", "k", "", true) }},
		{"35 49 the key deleted; it cannot be purged",
			func(w *servedInstance) {
				w.want(w.keyOf("safe", "DELETE", "/keys/k", ""), 200, "")
				if got := w.keyOf("safe", "DELETE", "/deletedkeys/k", ""); got.status != 403 {
					w.Errorf("purged: %d %s", got.status, got.body)
				}
			},
			func(w *servedInstance) { w.want(w.keyOf("safe", "POST", "/deletedkeys/k/recover", ""), 200, "") }},
		{"49 the vault deleted", func(w *servedInstance) { w.want(w.arm("DELETE", vault("safe"), ""), 200, "") },
			func(w *servedInstance) {
				got := w.arm("PUT", vault("safe"),
					`{"location":"westus2","properties":{"createMode":"recover","tenantId":"`+w.Operator().
						TenantID+`","sku":{"family":"A","name":"premium"}}}`)
				if got.status != 200 && got.status != 201 {
					w.Fatalf("recover the vault: %d %s", got.status, got.body)
				}
			}},
		{"29 the identity switched off", func(w *servedInstance) {
			w.want(w.arm("PATCH", account("vip"), `{"identity":{"type":"None"}}`), 200, "")
			if bytes.Contains(w.arm("GET", vault("safe"), "").body, []byte(who)) {
				w.Error("the policy entry is still there")
			}
		}, func(w *servedInstance) {
			who = w.want(w.arm("PATCH", account("vip"), `{"identity":{"type":"SystemAssigned"}}`), 200, "").
				text("identity.principalId")
			policy(w, "add", who)
			w.encrypt("vip", w.keySettings("safe", "k", "", ""))
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			w, a := w.in(t), app{w.in(t), a.key}
			way.take(w)
			a.wantClosed()
			way.giving(w)
			a.wantOpen()
			if now := a.face("GET", "v1.2/persongroups/guests/persons", nil); !bytes.Equal(now.body, before.body) {
				t.Errorf("52 the data differs after the return of the key: %s, %s", now.body, before.body)
			}
		})
	}
	t.Run("50 nothing that is stored is answered, the rest is", func(t *testing.T) {
		w, a := w.in(t), app{w.in(t), a.key}
		w.allow("safe", "k", "", false)
		a.wantClosed()
		for _, c := range []struct{ method, path, body string }{
			{"GET", "v1.2/persongroups", ""}, {"GET", "v1.2/persongroups/guests", ""},
			{"GET", "v1.0/persongroups/guests/persons", ""},
			{"POST", "v1.2/persongroups/guests/train", ""}, {"GET", "v1.2/persongroups/guests/training", ""},
			{"DELETE", "v1.2/persongroups/guests", ""},
			{"PUT", "v1.2/facelists/new", `{"name":"x","recognitionModel":"recognition_04"}`},
			{"GET", "v1.2/largefacelists", ""},
			{"POST", "v1.2/findsimilars", `{"faceId":"00000000-0000-4000-8000-000000000000","faceListId":"x"}`},
			{
				"POST", "v1.2/verify",
				`{"faceId1":"00000000-0000-4000-8000-000000000000","faceId2":"00000000-0000-4000-8000-000000000001"}`,
			},
			{"POST", "v1.2/identify", `{"personGroupId":"guests","faceIds":["00000000-0000-4000-8000-000000000000"]}`},
		} {
			var body any
			if c.body != "" {
				body = c.body
			}
			got := a.face(c.method, c.path, body)
			if got.status != http.StatusForbidden || got.text("error.code") != "EncryptionKeyRevoked" {
				t.Errorf("%s %s: %d %s", c.method, c.path, got.status, got.body)
			}
			for _, s := range secrets {
				if bytes.Contains(got.body, []byte(s)) {
					t.Errorf("%s %s tells %q", c.method, c.path, s)
				}
			}
		}
		w.want(w.arm("GET", account("vip"), ""), 200, "")
		w.want(w.arm("POST", account("vip")+"/listKeys", ""), 200, "")
		if ok, said := (app{w, w.app("default").key}).recognises(); !ok && said.status == 403 {
			t.Errorf("another resource is locked: %s", said.body)
		}
	})
	t.Run("a resource can be deleted while it is closed", func(t *testing.T) {
		w := w.in(t)
		if got := w.arm("DELETE", account("vip"), ""); got.status != 200 && got.status != 202 && got.status != 204 {
			t.Errorf("got %d %s", got.status, got.body)
		}
	})
	t.Run("58 a deleted resource comes back closed, and opens with its key", func(t *testing.T) {
		w, a := w.in(t), app{w.in(t), a.key}
		w.want(w.arm("PUT", account("vip"), `{"kind":"Face","location":"westus2","properties":{"restore":true}}`), 201,
			"")
		a.wantClosed()
		w.allow("safe", "k", "", true)
		a.wantOpen()
	})
	t.Run("57 a deleted resource is listed, can be recovered and can be purged", func(t *testing.T) {
		w, a := w.in(t), app{w.in(t), a.key}
		const deleted = "/providers/Microsoft.CognitiveServices/"
		w.arm("DELETE", account("vip"), "")
		if got := w.want(w.arm("GET", deleted+"deletedAccounts", ""), 200, ""); !bytes.Contains(got.body,
			[]byte(`"vip"`)) {
			t.Errorf("not listed: %s", got.body)
		}
		w.want(w.arm("PUT", account("vip"), `{"kind":"Face","location":"westus2","properties":{"restore":true}}`), 201,
			"")
		a.wantOpen()
		w.arm("DELETE", account("vip"), "")
		path := deleted + "locations/westus2/resourceGroups/default/deletedAccounts/vip"
		if got := w.arm("DELETE", path, ""); got.status != 200 && got.status != 202 && got.status != 204 {
			t.Fatalf("purge: %d %s", got.status, got.body)
		}
		if got := w.arm("PUT", account("vip"),
			`{"kind":"Face","location":"westus2","properties":{"restore":true}}`); got.status < 400 {
			t.Errorf("it was recovered: %d %s", got.status, got.body)
		}
	})
}

// TestTwoLayers: requirement 9: neither the vault's key nor the disk, nor both without the root key, open the data.
func TestTwoLayers(t *testing.T) {
	w, _, _ := customer(t)
	w.makeKey("safe", "k", rsa2048)
	w.encrypt("vip", w.keySettings("safe", "k", "", ""))
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Run("09 the disk with the root key, without the vault", func(t *testing.T) {
		if found := readable(t, w.dir, secrets...); len(found) > 0 {
			t.Errorf("readable: %v", found)
		}
		withStore(t, w.dir, func(s *sealed.Store) {
			ids, err := s.Spaces().List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			closed := 0
			for _, id := range ids {
				keys, err := s.Bundle(id).Keys(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if len(keys.Slots) == 1 && keys.Slots[0].Role == sealed.Customer {
					closed++
					if err := s.Space(id).View(t.Context(), func(sealed.Reader) error { return nil }); err == nil {
						t.Error("the space under the customer's key opens without the key")
					}
				}
			}
			if closed != 1 {
				t.Errorf("%d spaces need a customer's key", closed)
			}
		})
	})
	t.Run("09 the disk without the root key", func(t *testing.T) {
		if err := os.Remove(filepath.Join(w.dir, "keys", "root.key")); err != nil {
			t.Fatal(err)
		}
		if s, err := server.OpenStore(t.Context(), server.Config{Dir: w.dir}); err == nil {
			s.Close()
			t.Error("the store opens")
		}
	})
}
