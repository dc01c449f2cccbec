package armapi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// startApproved starts a server whose operator approves every request, without rate limits for clients that poll.
func startApproved(t *testing.T) manager {
	return manager{servertest.Start(t, server.Config{AutoApprove: true, Rate: 100_000}), t}
}

// as makes a request with a token.
func (m manager) as(token, method, address, body string) (status int, answer map[string]any) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := m.Client.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil && res.ContentLength > 0 {
		m.t.Fatal(err)
	}
	return res.StatusCode, answer
}

// vault creates a vault in which the operator has all permissions, and who has the given permissions on keys.
func (m manager) vault(name, region, more, who, permissions string) {
	m.t.Helper()
	policy := func(id, keys string) string {
		return `{"tenantId":"` + m.Operator().TenantID + `","objectId":"` + id + `","permissions":{"keys":[` + keys +
			`]}}`
	}
	policies := policy(m.Operator().ClientID, `"all","purge"`)
	if who != "" {
		policies += "," + policy(who, permissions)
	}
	m.want(201, "", http.MethodPut, m.vaults("/"+name), `{"location":"`+region+`","properties":{"tenantId":"`+
		m.Operator().TenantID+
		`","sku":{"family":"A","name":"premium"},"accessPolicies":[`+policies+`]`+more+`}}`)
}

// inVault makes a request of a vault without a DNS lookup of its host.
func (m manager) inVault(vault, method, path, body string) map[string]any {
	m.t.Helper()
	host := vault + ".vault." + strings.TrimPrefix(m.URL, "https://")
	req, err := http.NewRequestWithContext(m.t.Context(), method, m.URL+path+"?api-version=7.5",
		strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	req.Host = host
	req.Header.Set("Authorization", "Bearer "+m.Token(m.t, "https://vault."+strings.TrimPrefix(m.URL, "https://")))
	req.Header.Set("Content-Type", "application/json")
	res, err := m.Client.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer res.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || res.StatusCode != http.StatusOK {
		m.t.Fatalf("%s %s in vault %s: %d %v, %v", method, path, vault, res.StatusCode, answer, err)
	}
	return answer
}

// makeKey makes a key in a vault and returns its version.
func (m manager) makeKey(vault, name, body string) string {
	m.t.Helper()
	kid := at(m.inVault(vault, http.MethodPost, "/keys/"+name+"/create", body), "key.kid").(string)
	return kid[strings.LastIndexByte(kid, '/')+1:]
}

// vaultURI is the address of a vault in its resource.
func (m manager) vaultURI(vault string) string {
	return "https://" + vault + ".vault." + strings.TrimPrefix(m.URL, "https://") + "/"
}

// encryptWith is the body of a PATCH that encrypts a resource with a key.
func (m manager) encryptWith(vault, key, version, more string) string {
	return `{"properties":{"encryption":{"keySource":"Microsoft.KeyVault","keyVaultProperties":{"keyVaultUri":"` +
		m.vaultURI(vault) +
		`","keyName":"` + key + `","keyVersion":"` + version + `"}` + more + `}}}`
}

// finish makes a change of a resource, follows its operation to the end, and returns the resource.
func (m manager) finish(path, body string) map[string]any {
	m.t.Helper()
	status, header, answer := m.do(http.MethodPatch, path, body)
	if status != http.StatusOK && status != http.StatusAccepted {
		m.t.Fatalf("PATCH %s: %d %v", path, status, answer)
	}
	if status == http.StatusAccepted {
		if at(answer, "properties.provisioningState") != "Accepted" || header.Get("Retry-After") == "" {
			m.t.Errorf("accepted: %v %v", header, answer)
		}
		m.poll(header.Get("Azure-AsyncOperation"))
	}
	answer = m.want(200, "", http.MethodGet, path, "")
	if at(answer, "properties.provisioningState") != "Succeeded" {
		m.t.Errorf("after the operation: %v", answer)
	}
	return answer
}

// poll polls an operation until it has succeeded.
func (m manager) poll(address string) {
	m.t.Helper()
	for until := time.Now().Add(time.Minute); ; {
		status, answer := m.as(m.Token(m.t, "https://management.azure.com"), http.MethodGet, address, "")
		switch {
		case status != http.StatusOK || at(answer, "status") == "Failed" || time.Now().After(until):
			m.t.Fatalf("operation %s: %d %v", address, status, answer)
		case at(answer, "status") == "Succeeded":
			return
		}
	}
}

// faces reads stored data of a resource on the data plane.
func (m manager) faces(name string) (status int, code any) {
	m.t.Helper()
	keys := m.want(200, "", http.MethodPost, m.accounts("/"+name+"/listKeys"), "")
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, m.URL+"/face/v1.2/persongroups", nil)
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("Ocp-Apim-Subscription-Key", at(keys, "key1").(string))
	res, err := m.Client.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer res.Body.Close()
	var answer any
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		m.t.Fatal(err)
	}
	said, _ := answer.(map[string]any)
	return res.StatusCode, at(said, "error.code")
}

// wantFaces waits until the data plane answers with a status: a change of the key takes a moment to have effect.
func (m manager) wantFaces(name string, want int, code any) {
	m.t.Helper()
	for until := time.Now().Add(time.Minute); ; {
		status, said := m.faces(name)
		if status == want && said == code {
			return
		}
		if time.Now().After(until) {
			m.t.Fatalf("the data plane answers %d %v, want %d %v", status, said, want, code)
		}
	}
}

// TestLifeOfACustomersKey covers what an owner does with a key: enable, rotate, revoke, restore, switch, disable.
func TestLifeOfACustomersKey(t *testing.T) {
	m := startApproved(t)
	path := m.accounts("/vip")
	made := m.want(201, "", http.MethodPut, path,
		`{"kind":"Face","location":"West US 2","sku":{"name":"E0"},"identity":{"type":"SystemAssigned"}}`)
	who := at(made, "identity.principalId").(string)
	if at(made, "properties.encryption") != nil || at(made, "identity.tenantId") != m.Operator().TenantID {
		t.Errorf("made: %v", made)
	}
	m.vault("safe", "westus2", `,"enablePurgeProtection":true`, who, `"get","wrapKey","unwrapKey"`)
	first := m.makeKey("safe", "k", `{"kty":"RSA"}`)

	enabled := m.finish(path, m.encryptWith("safe", "k", first, ""))
	for at1, want := range map[string]any{
		"keySource": "Microsoft.KeyVault", "keyVaultProperties.keyName": "k", "keyVaultProperties.keyVersion": first,
		"keyVaultProperties.keyVaultUri": m.vaultURI("safe"), "status.state": "active", "status.keyVersion": first,
		"status.principalId": who, "status.keyIdentifier": m.vaultURI("safe") + "keys/k/" + first,
	} {
		if got := at(enabled, "properties.encryption."+at1); got != want {
			t.Errorf("encryption.%s is %v, want %v", at1, got, want)
		}
	}
	m.wantFaces("vip", 200, nil)

	// After the new version is set, the old one is not needed.
	second := m.makeKey("safe", "k", `{"kty":"RSA"}`)
	rotated := m.finish(path, m.encryptWith("safe", "k", second, ""))
	if at(rotated, "properties.encryption.status.keyVersion") != second {
		t.Errorf("rotated: %v", at(rotated, "properties.encryption"))
	}
	m.inVault("safe", http.MethodPatch, "/keys/k/"+first, `{"attributes":{"enabled":false}}`)
	m.wantFaces("vip", 200, nil)

	// When the key is revoked, the data is refused but the resource is not.
	m.inVault("safe", http.MethodPatch, "/keys/k/"+second, `{"attributes":{"enabled":false}}`)
	m.wantFaces("vip", 403, "EncryptionKeyRevoked")
	revoked := m.want(200, "", http.MethodGet, path, "")
	for _, name := range []string{"state", "since", "code", "reason"} {
		if at(revoked, "properties.encryption.status."+name) == nil {
			t.Errorf("nothing says %s: %v", name, at(revoked, "properties.encryption"))
		}
	}
	if at(revoked, "properties.provisioningState") != "Succeeded" ||
		at(revoked, "properties.encryption.status.state") != "revoked" {
		t.Errorf("revoked: %v", revoked)
	}
	m.want(409, "EncryptionKeyRevoked", http.MethodPatch, path,
		`{"properties":{"encryption":{"keySource":"Microsoft.CognitiveServices"}}}`)
	m.want(200, "", http.MethodPatch, path, `{"tags":{"a":"b"}}`)
	m.inVault("safe", http.MethodPatch, "/keys/k/"+second, `{"attributes":{"enabled":true}}`)
	m.wantFaces("vip", 200, nil)

	// The owner's own lock has effect at once, and so has unlocking.
	if locked := m.want(200, "", http.MethodPost, m.accounts("/vip/encryption:lock"), ""); at(locked,
		"properties.encryption.status.state") != "locked" {
		t.Errorf("locked: %v", locked)
	}
	if status, code := m.faces("vip"); status != 403 || code != "EncryptionKeyRevoked" {
		t.Errorf("locked: %d %v", status, code)
	}
	m.want(200, "", http.MethodPost, m.accounts("/vip/encryption:unlock"), "")
	m.wantFaces("vip", 200, nil)

	// Another key by its identifier, whose new versions are followed.
	m.makeKey("safe", "other", `{"kty":"RSA-HSM"}`)
	switched := m.finish(path, `{"properties":{"encryption":{"keyVaultProperties":{"keyVaultUri":"`+m.vaultURI("safe")+
		`keys/other"}}}}`)
	if at(switched, "properties.encryption.keyVaultProperties.keyVersion") != nil ||
		at(switched, "properties.encryption.status.keyVersion") == nil ||
		at(switched, "properties.encryption.keyVaultProperties.keyName") != "other" {
		t.Errorf("switched: %v", at(switched, "properties.encryption"))
	}

	back := m.finish(path, `{"properties":{"encryption":{"keySource":"Microsoft.CognitiveServices"}}}`)
	if at(back, "properties.encryption.keySource") != "Microsoft.CognitiveServices" ||
		at(back, "properties.encryption.keyVaultProperties") != nil ||
		at(back, "properties.encryption.status.state") != "service-managed" || at(back, "tags.a") != "b" {
		t.Errorf("back: %v", back)
	}
	m.inVault("safe", http.MethodDelete, "/keys/other", "")
	m.wantFaces("vip", 200, nil)
}

// TestRegisterDoesItAll checks that one request assigns the identity, grants it access and enables the key.
func TestRegisterDoesItAll(t *testing.T) {
	for _, more := range []string{`,"enablePurgeProtection":true`,
		`,"enablePurgeProtection":true,"enableRbacAuthorization":true`} {
		m := startApproved(t)
		m.want(201, "", http.MethodPut, m.accounts("/vip"), `{"kind":"Face","location":"local","sku":{"name":"E0"}}`)
		m.vault("safe", "local", more, "", "")
		m.makeKey("safe", "k", `{"kty":"RSA"}`)
		m.want(400, "IdentityRequired", http.MethodPatch, m.accounts("/vip"), m.encryptWith("safe", "k", "", ""))
		enabled := m.finish(m.accounts("/vip"), m.encryptWith("safe", "k", "", `,"register":true`))
		if at(enabled, "identity.type") != "SystemAssigned" ||
			at(enabled, "properties.encryption.status.state") != "active" {
			t.Errorf("enabled: %v", enabled)
		}

		// Without its identity the data is locked, and the vault has no policy for it; with a new identity it opens
		// again.
		off := m.want(200, "", http.MethodPatch, m.accounts("/vip"), `{"identity":{"type":"None"}}`)
		if at(off, "identity") != nil {
			t.Errorf("identity off: %v", off)
		}
		m.wantFaces("vip", 403, "EncryptionKeyRevoked")
		safe := m.want(200, "", http.MethodGet, m.vaults("/safe"), "")
		if policies := at(safe, "properties.accessPolicies").([]any); len(policies) != 1 {
			t.Errorf("the vault still has its policy: %v", policies)
		}
		again := m.finish(m.accounts("/vip"), m.encryptWith("safe", "k", "", `,"register":true`))
		if at(again, "identity.principalId") == at(enabled, "identity.principalId") {
			t.Error("the old identity was assigned again")
		}
		m.wantFaces("vip", 200, nil)
	}
}

// TestCustomersKeyRefusals checks the table of the contract, §5.2: each mistake has its own code, and changes nothing.
func TestCustomersKeyRefusals(t *testing.T) {
	m := startApproved(t)
	made := m.want(201, "", http.MethodPut, m.accounts("/vip"),
		`{"kind":"Face","location":"local","sku":{"name":"E0"},"identity":{"type":"SystemAssigned"}}`)
	who := at(made, "identity.principalId").(string)
	m.want(201, "", http.MethodPut, m.accounts("/plain"), `{"kind":"Face","location":"local","sku":{"name":"S0"}}`)
	m.want(201, "", http.MethodPut, m.accounts("/free"), `{"kind":"Face","location":"local","sku":{"name":"F0"}}`)
	m.want(201, "", http.MethodPut, m.accounts("/nobody"), `{"kind":"Face","location":"local","sku":{"name":"E0"}}`)
	protected := `,"enablePurgeProtection":true`
	allowed := `"get","wrapKey","unwrapKey"`
	m.vault("safe", "local", protected, who, allowed)
	m.vault("loose", "local", "", who, allowed)
	m.vault("far", "eastus", protected, who, allowed)
	m.want(201, "", http.MethodPut, m.accounts("/west"),
		`{"kind":"Face","location":"westus2","sku":{"name":"E0"},"identity":{"type":"SystemAssigned"}}`)
	for _, vault := range []string{"loose", "far"} {
		m.makeKey(vault, "k", `{"kty":"RSA"}`)
	}
	good := m.makeKey("safe", "k", `{"kty":"RSA"}`)
	m.makeKey("safe", "long", `{"kty":"RSA","key_size":3072}`)
	m.makeKey("safe", "curve", `{"kty":"EC","crv":"P-256"}`)
	m.makeKey("safe", "off", `{"kty":"RSA","attributes":{"enabled":false}}`)
	m.makeKey("safe", "old", `{"kty":"RSA","attributes":{"exp":1000000000}}`)
	m.makeKey("safe", "young", `{"kty":"RSA","attributes":{"nbf":4000000000}}`)
	m.makeKey("safe", "sign", `{"kty":"RSA","key_ops":["sign"]}`)
	for _, missing := range []string{"get", "wrapKey", "unwrapKey"} {
		rest := strings.Trim(strings.ReplaceAll(strings.ReplaceAll(","+allowed+",", `,"`+missing+`",`, ","), ",,", ","),
			",")
		m.vault("no-"+strings.ToLower(missing), "local", protected, who, rest)
		m.makeKey("no-"+strings.ToLower(missing), "k", `{"kty":"RSA"}`)
	}
	key := func(vault, name string) string { return m.encryptWith(vault, name, "", "") }
	for _, c := range []struct {
		name, account, body, code, says string
	}{
		{"S0", "plain", key("safe", "k"), "CustomerManagedKeyNotSupportedForSku", "S0"},
		{"F0", "free", key("safe", "k"), "CustomerManagedKeyNotSupportedForSku", "F0"},
		{"no identity", "nobody", key("safe", "k"), "IdentityRequired", "system-assigned"},
		{"identity off in the same request", "vip", `{"identity":{"type":"None"},` + key("safe", "k")[1:],
			"IdentityRequired", ""},
		{"user-assigned identity", "vip", `{"properties":{"encryption":{"keyVaultProperties":{"keyVaultUri":"` +
			m.vaultURI("safe") +
			`","keyName":"k","identityClientId":"x"}}}}`, "UserAssignedIdentityNotSupported", ""},
		{"no key", "vip", `{"properties":{"encryption":{"keySource":"Microsoft.KeyVault"}}}`,
			"InvalidKeyVaultProperties", ""},
		{
			"a key inline", "vip",
			`{"properties":{"encryption":{"keyVaultProperties":{"keyVaultUri":"data:,","keyName":"k"}}}}`,
			"InvalidKeyVaultProperties", ""},
		{
			"plain http", "vip",
			`{"properties":{"encryption":{"keyVaultProperties":{"keyVaultUri":"http://x/","keyName":"k"}}}}`,
			"InvalidKeyVaultProperties", "https"},
		{"path tricks", "vip", key("safe", "k/../x"), "InvalidKeyVaultProperties", ""},
		{"another source", "vip", `{"properties":{"encryption":{"keySource":"Mine"}}}`, "InvalidRequestContent",
			"Mine"},
		{"service's key with a key", "vip",
			`{"properties":{"encryption":{"keySource":"Microsoft.CognitiveServices","keyVaultProperties":{"keyName":"k"}}}}`,
			"InvalidKeyVaultProperties", ""},
		{"unknown vault", "vip", key("none", "k"), "KeyVaultNotFound", "none"},
		{"no purge protection", "vip", key("loose", "k"), "KeyVaultPurgeProtectionRequired", "loose"},
		{"another region", "vip", key("far", "k"), "KeyVaultRegionMismatch", "eastus"},
		{"unknown key", "vip", key("safe", "nokey"), "KeyVaultKeyNotFound", "nokey"},
		{"unknown version", "vip", m.encryptWith("safe", "k", strings.Repeat("0", 32), ""), "KeyVaultKeyNotFound", ""},
		{"3072 bits", "vip", key("safe", "long"), "KeyVaultKeyTypeNotSupported", "3072"},
		{"elliptic curve", "vip", key("safe", "curve"), "KeyVaultKeyTypeNotSupported", "EC"},
		{"disabled", "vip", key("safe", "off"), "KeyVaultKeyDisabled", "enable it"},
		{"expired", "vip", key("safe", "old"), "KeyVaultKeyExpired", "2001-09-09"},
		{"not yet valid", "vip", key("safe", "young"), "KeyVaultKeyNotYetValid", "2096"},
		{"key that may not wrap", "vip", key("safe", "sign"), "KeyVaultAccessDenied", "wrapKey"},
		{"no get", "vip", key("no-get", "k"), "KeyVaultAccessDenied", "get"},
		{"no wrapKey", "vip", key("no-wrapkey", "k"), "KeyVaultAccessDenied", "wrapKey"},
		{"no unwrapKey", "vip", key("no-unwrapkey", "k"), "KeyVaultAccessDenied", "unwrapKey"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := manager{m.Server, t}
			before := m.want(200, "", http.MethodGet, m.accounts("/"+c.account), "")
			refused := m.want(400, c.code, http.MethodPatch, m.accounts("/"+c.account), c.body)
			if said, _ := at(refused, "error.message").(string); !strings.Contains(said, c.says) {
				t.Errorf("the message %q does not contain %s", said, c.says)
			}
			after := m.want(200, "", http.MethodGet, m.accounts("/"+c.account), "")
			if at(before, "etag") != at(after, "etag") || at(after, "properties.encryption") != nil {
				t.Errorf("something changed: %v", after)
			}
		})
	}
	for tier, code := range map[string]string{
		"E0": "CustomerManagedKeyNotSupportedAtCreation", "S0": "CustomerManagedKeyNotSupportedForSku",
	} {
		m.want(400, code, http.MethodPut, m.accounts("/new"),
			`{"kind":"Face","location":"local","sku":{"name":"`+tier+`"},`+m.encryptWith("safe", "k", good, "")[1:])
	}
	m.want(404, "ResourceNotFound", http.MethodGet, m.accounts("/new"), "")
	said := m.want(201, "", http.MethodPut, m.accounts("/new"), `{"kind":"Face","location":"local","sku":{"name":"S0"},
		"properties":{"encryption":{"keySource":"Microsoft.CognitiveServices"}}}`)
	if at(said, "properties.encryption.keySource") != "Microsoft.CognitiveServices" {
		t.Errorf("service-managed, named explicitly: %v", said)
	}
	// Register leaves no identity behind when the key is refused.
	m.want(400, "KeyVaultKeyDisabled", http.MethodPatch, m.accounts("/nobody"),
		m.encryptWith("safe", "off", "", `,"register":true`))
	if one := m.want(200, "", http.MethodGet, m.accounts("/nobody"), ""); at(one, "identity") != nil {
		t.Errorf("the identity remains: %v", one)
	}
}
