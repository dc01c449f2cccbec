package requirements_test

import (
	"strings"
	"testing"

	"github.com/visage-face/visage/server"
)

const requests = "/providers/Microsoft.CognitiveServices/accessRequests/"

const ask = `{"properties":{"service":"Face","region":"westus2","contact":"ann@example.org","reason":"a pilot"}}`

// TestTierAndApproval: requirements 18 to 21.
func TestTierAndApproval(t *testing.T) {
	w := newServer(t, server.Config{})
	t.Run("19 E0 without approval is refused, and the answer says how to ask", func(t *testing.T) {
		w := w.in(t)
		a := w.want(w.create("vip", "E0"), 403, "CustomerManagedKeyNotApproved")
		if !strings.Contains(a.text("error.message"), "accessRequests") {
			t.Errorf("the refusal does not say how to apply: %s", a.body)
		}
	})
	t.Run("19 a request can be rejected", func(t *testing.T) {
		w := w.in(t)
		if state := w.want(w.arm("PUT", requests+"first", ask), 201, "").
			text("properties.state"); state != "Submitted" {
			t.Errorf("the request is %s", state)
		}
		w.want(w.arm("POST", requests+"first/reject", `{"reason":"no"}`), 200, "")
		w.want(w.create("vip", "E0"), 403, "CustomerManagedKeyNotApproved")
	})
	t.Run("19 requests beyond the space are queued, and approved when there is some", func(t *testing.T) {
		w := w.in(t)
		w.want(
			w.arm("PUT", "/providers/Microsoft.CognitiveServices/accessCapacity/E0", `{"properties":{"capacity":1}}`),
			200, "",
		)
		for _, name := range []string{"second", "third"} {
			w.want(w.arm("PUT", requests+name, ask), 201, "")
			w.want(w.arm("POST", requests+name+"/approve", ""), 200, "")
		}
		if state := w.arm("GET", requests+"third", "").text("properties.state"); state != "Queued" {
			t.Errorf("the request beyond the space is %s", state)
		}
		w.want(w.arm("POST", requests+"second/withdraw", ""), 200, "")
		if state := w.arm("GET", requests+"third", "").text("properties.state"); state != "Approved" {
			t.Errorf("when there is space it is %s", state)
		}
	})
	t.Run("20 with approval a new resource of tier E0 is made", func(t *testing.T) {
		w := w.in(t)
		w.want(w.create("vip", "E0"), 201, "")
	})
	t.Run("20 no other resource becomes one", func(t *testing.T) {
		w := w.in(t)
		w.want(w.create("shop", "S0"), 201, "")
		if a := w.arm("PATCH", account("shop"), `{"sku":{"name":"E0"}}`); a.status != 400 && a.status != 409 {
			t.Errorf("S0 becomes E0: %d %s", a.status, a.body)
		}
		if a := w.arm("PATCH", account("vip"), `{"sku":{"name":"S0"}}`); a.status != 400 && a.status != 409 {
			t.Errorf("E0 becomes S0: %d %s", a.status, a.body)
		}
	})
	t.Run("18 other tiers cannot have a customer's key", func(t *testing.T) {
		w := w.in(t)
		w.want(w.create("small", "F0"), 201, "")
		w.want(w.makeVault("safe", "westus2", protected, ""), 201, "")
		w.makeKey("safe", "k", rsa2048)
		for _, name := range []string{"shop", "small"} {
			w.want(w.arm("PATCH", account(name), w.keySettings("safe", "k", "", `,"register":true`)), 400,
				"CustomerManagedKeyNotSupportedForSku")
		}
	})
}

// TestPreconditions: requirements 16, 22 to 27 and 31 to 40.
func TestPreconditions(t *testing.T) {
	w := newServer(t, server.Config{AutoApprove: true})
	who := w.createWithIdentity("vip")
	allowed := []string{"get", "wrapKey", "unwrapKey"}
	w.want(w.makeVault("safe", "westus2", protected, who, allowed...), 201, "")
	w.makeKey("safe", "k", rsa2048)
	refused := func(w *servedInstance, name, body, code string) {
		w.Helper()
		a := w.arm("PATCH", account(name), body)
		if a.status != 400 || a.text("error.code") != code || len(a.text("error.message")) < 20 {
			w.Errorf("got %d %s, want 400 %s with a sentence", a.status, a.body, code)
		}
		if state := w.arm("GET", account(name), "").text("properties.encryption.status.state"); state != "" &&
			state != "service-managed" {
			w.Errorf("after the refusal the resource is %s", state)
		}
	}
	key := func(w *servedInstance, vault, name string) string { return w.keySettings(vault, name, "", "") }

	t.Run("16 a key lives in a vault, and nowhere else", func(t *testing.T) {
		w := w.in(t)
		refused(
			w, "vip",
			`{"properties":{"encryption":{"keySource":"Microsoft.KeyVault","keyVaultProperties":{"keyVaultUri":"data:text/plain,secret","keyName":"k"}}}}`, "InvalidKeyVaultProperties",
		)
		refused(w, "vip", `{"properties":{"encryption":{"keySource":"Microsoft.KeyVault"}}}`,
			"InvalidKeyVaultProperties")
	})
	t.Run("22 the vault is in the same region, however it is spelled", func(t *testing.T) {
		w := w.in(t)
		w.want(w.makeVault("far", "eastus", protected, who, allowed...), 201, "")
		w.makeKey("far", "k", rsa2048)
		refused(w, "vip", key(w, "far", "k"), "KeyVaultRegionMismatch")
	})
	t.Run("23 the vault is of the same tenant", func(t *testing.T) {
		w := w.in(t)
		body := strings.ReplaceAll(
			`{"location":"westus2","properties":{"tenantId":"T","sku":{"family":"A","name":"standard"},"enablePurgeProtection":true,"accessPolicies":[]}}`,
			"T", "00000000-0000-4000-8000-000000000000")
		w.want(w.arm("PUT", vault("foreign"), body), 400, "BadRequest")
		refused(w, "vip", key(w, "foreign", "k"), "KeyVaultNotFound")
	})
	t.Run("25 a resource without an identity cannot have a customer's key", func(t *testing.T) {
		w := w.in(t)
		w.want(w.create("nobody", "E0"), 201, "")
		refused(w, "nobody", key(w, "safe", "k"), "IdentityRequired")
	})
	t.Run("26 a new resource starts under the service's keys", func(t *testing.T) {
		w := w.in(t)
		body := `{"kind":"Face","location":"westus2","sku":{"name":"E0"},"identity":{"type":"SystemAssigned"},` +
			key(w, "safe", "k")[1:]
		if a := w.arm("PUT", account("early"), body); a.status != 400 {
			t.Errorf("made under a customer's key: %d %s", a.status, a.body)
		}
		w.want(
			w.arm("PUT", account("early"), `{"kind":"Face","location":"westus2","sku":{"name":"E0"},`+serviceKeys[1:]),
			201, "",
		)
	})
	for i, missing := range allowed {
		t.Run("27 the vault must grant "+missing, func(t *testing.T) {
			w := w.in(t)
			name := "no-" + strings.ToLower(missing)
			w.want(
				w.makeVault(name, "westus2", protected, who,
					append(append([]string{}, allowed[:i]...), allowed[i+1:]...)...), 201, "",
			)
			w.makeKey(name, "k", rsa2048)
			a := w.arm("PATCH", account("vip"), key(w, name, "k"))
			if a.status != 400 && a.status != 403 ||
				!strings.Contains(strings.ToLower(a.text("error.message")), strings.ToLower(missing)) {
				t.Errorf("got %d %s, which does not name %s", a.status, a.body, missing)
			}
		})
	}
	t.Run("31 a user-assigned identity is not offered", func(t *testing.T) {
		w := w.in(t)
		refused(w, "vip", strings.Replace(key(w, "safe", "k"), `"keyName"`, `"identityClientId":"x","keyName"`, 1),
			"UserAssignedIdentityNotSupported")
	})
	t.Run("32 soft delete is on in every vault", func(t *testing.T) {
		w := w.in(t)
		if a := w.makeVault("hard", "westus2", `,"enableSoftDelete":false`, ""); a.status == 201 &&
			a.at("properties.enableSoftDelete") != true {
			t.Errorf("a vault without soft delete was made: %s", a.body)
		}
	})
	t.Run("33 34 purge protection must be on, can be switched on later, and never off", func(t *testing.T) {
		w := w.in(t)
		w.want(w.makeVault("loose", "westus2", "", who, allowed...), 201, "")
		w.makeKey("loose", "k", rsa2048)
		refused(w, "vip", key(w, "loose", "k"), "KeyVaultPurgeProtectionRequired")
		w.want(w.arm("PATCH", vault("loose"), `{"properties":{"enablePurgeProtection":true}}`), 200, "")
		if a := w.arm("PATCH", vault("loose"), `{"properties":{"enablePurgeProtection":false}}`); a.status != 400 {
			t.Errorf("switched off again: %d %s", a.status, a.body)
		}
		w.encrypt("vip", key(w, "loose", "k"))
		w.encrypt("vip", serviceKeys)
	})
	for name, body := range map[string]string{
		"RSA of 3072 bits": `{"kty":"RSA","key_size":3072}`, "RSA of 4096 bits": `{"kty":"RSA","key_size":4096}`,
		"EC": `{"kty":"EC","crv":"P-256"}`,
	} {
		t.Run("36 RSA of 2048 bits only, not "+name, func(t *testing.T) {
			w := w.in(t)
			short := strings.ToLower(strings.ReplaceAll(name, " ", "-"))
			w.makeKey("safe", short, body)
			refused(w, "vip", key(w, "safe", short), "KeyVaultKeyTypeNotSupported")
		})
	}
	t.Run("37 RSA-HSM of 2048 bits too", func(t *testing.T) {
		w := w.in(t)
		w.makeKey("safe", "hsm", `{"kty":"RSA-HSM","key_size":2048}`)
		w.encrypt("vip", key(w, "safe", "hsm"))
		w.encrypt("vip", serviceKeys)
	})
	for name, c := range map[string]struct{ attributes, code string }{
		"disabled": {`"enabled":false`, "KeyVaultKeyDisabled"}, "expired": {`"exp":1000000000`, "KeyVaultKeyExpired"},
		"not yet valid": {`"nbf":4000000000`, "KeyVaultKeyNotYetValid"},
	} {
		t.Run("38 not a key that is "+name, func(t *testing.T) {
			w := w.in(t)
			short := strings.ReplaceAll(name, " ", "-")
			w.makeKey("safe", short, `{"kty":"RSA","attributes":{`+c.attributes+`}}`)
			a := w.arm("PATCH", account("vip"), key(w, "safe", short))
			if a.status != 400 || len(a.text("error.code")) < 5 {
				t.Errorf("got %d %s", a.status, a.body)
			}
			t.Logf("refused as %s", a.text("error.code"))
		})
	}
	t.Run("39 a vault with a firewall must let the service in", func(t *testing.T) {
		w := w.in(t)
		w.want(w.makeVault("walled", "westus2", protected, who, allowed...), 201, "")
		w.makeKey("walled", "k", rsa2048)
		wall := func(acls string) {
			w.want(w.arm("PATCH", vault("walled"), `{"properties":{"networkAcls":`+acls+`}}`), 200, "")
		}
		wall(`{"defaultAction":"Deny","bypass":"None"}`)
		refused(w, "vip", key(w, "walled", "k"), "KeyVaultFirewall")
		wall(`{"defaultAction":"Deny","bypass":"AzureServices"}`)
		if a := w.keyOf("walled", "GET", "/keys/k", ""); a.status != 403 ||
			a.text("error.innererror.code") != "ForbiddenByFirewall" {
			t.Errorf("a client that no rule names: %d %s", a.status, a.body)
		}
		w.encrypt("vip", key(w, "walled", "k"))
		w.encrypt("vip", serviceKeys)
	})
	t.Run("40 access by roles does as well", func(t *testing.T) {
		w := w.in(t)
		w.want(w.makeVault("roles", "westus2", protected+`,"enableRbacAuthorization":true`, ""), 201, "")
		w.makeKey("roles", "k", rsa2048)
		if a := w.arm("PATCH", account("vip"), key(w, "roles", "k")); a.status != 400 && a.status != 403 {
			t.Errorf("without a role: %d %s", a.status, a.body)
		}
		const encryptionUser = "e147488a-f6f5-4113-8e2d-b22465e65bf6"
		w.want(
			w.arm(
				"PUT",
				vault("roles")+
					"/providers/Microsoft.Authorization/roleAssignments/11111111-2222-4333-8444-555555555555",
				`{"properties":{"roleDefinitionId":"/x/roleDefinitions/`+encryptionUser+`","principalId":"`+who+`"}}`),
			201, "")
		w.encrypt("vip", key(w, "roles", "k"))
		w.encrypt("vip", serviceKeys)
	})
	t.Run("24 a vault needs no other tie to the resource than tenant and region", func(t *testing.T) {
		w := w.in(t)
		w.encrypt("vip", key(w, "safe", "k")) // an instance has one subscription: a test with two is impossible
		w.encrypt("vip", serviceKeys)
	})
}
