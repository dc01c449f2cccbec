package armapi_test

import (
	"net/http"
	"strings"
	"testing"
)

// TestKeysOfAVaultFromTemplates creates keys as templates do: without a policy in the vault, and without changing
// existing keys.
func TestKeysOfAVaultFromTemplates(t *testing.T) {
	m := start(t)
	m.want(201, "", http.MethodPut, m.vaults("/safe1"), m.vaultBody(""))
	key := func(more string) string { return m.vaults("/safe1/keys/k1" + more) }
	m.want(404, "KeyNotFound", http.MethodGet, key(""), "")
	made := m.want(200, "", http.MethodPut, key(""),
		`{"tags":{"a":"b"},"properties":{"kty":"RSA","keySize":3072,"keyOps":["wrapKey","unwrapKey"],"attributes":{"exp":4102444800}}}`)
	uri, _ := at(made, "properties.keyUriWithVersion").(string)
	for path, want := range map[string]any{
		"name": "k1", "type": "Microsoft.KeyVault/vaults/keys", "tags.a": "b", "properties.kty": "RSA",
		"properties.keySize":            3072.0,
		"properties.attributes.enabled": true, "properties.attributes.exp": 4102444800.0, "properties.curveName": nil,
	} {
		if got := at(made, path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	if base, _ := at(made, "properties.keyUri").(string); !strings.HasPrefix(uri, base+"/") ||
		!strings.HasSuffix(base, "/keys/k1") {
		t.Errorf("the key is at %q, its version at %q", base, uri)
	}
	again := m.want(200, "", http.MethodPut, key(""), `{"properties":{"kty":"EC","curveName":"P-256"}}`)
	if at(again, "properties.keyUriWithVersion") != uri {
		t.Errorf("applied again: %v, want the same key", again)
	}
	version := uri[strings.LastIndex(uri, "/")+1:]
	if all := m.want(200, "", http.MethodGet, key("/versions"), ""); names(all, "name") != version {
		t.Errorf("versions: %v", all)
	}
	one := m.want(200, "", http.MethodGet, key("/versions/"+version), "")
	if at(one, "name") != version || !strings.HasSuffix(at(one, "id").(string), "/keys/k1/versions/"+version) {
		t.Errorf("version: %v", one)
	}
	m.want(204, "", http.MethodHead, key(""), "")
	m.want(404, "", http.MethodHead, m.vaults("/safe1/keys/none"), "")
	m.want(404, "KeyNotFound", http.MethodGet, key("/versions/"+strings.Repeat("0", 32)), "")
	m.want(404, "KeyNotFound", http.MethodGet, m.vaults("/safe1/keys/none/versions"), "")
	m.want(404, "ResourceNotFound", http.MethodGet, m.vaults("/none/keys"), "")
	m.want(404, "ResourceNotFound", http.MethodPut, m.vaults("/none/keys/k1"), `{"properties":{}}`)
	for body, code := range map[string]string{
		`{"properties":{"kty":"oct"}}`:                                 "BadParameter",
		`{"properties":{"kty":"RSA","keySize":1024}}`:                  "BadParameter",
		`{"properties":{"rotationPolicy":{"lifetimeActions":[]}}}`:     "BadRequest",
		`{"properties":{"release_policy":{"data":"x"}}}`:               "BadRequest",
		`{"properties":{"kty":"EC","attributes":{"exportable":true}}}`: "BadRequest",
		`{"properties":{"kty":"RSA-HSM"}}`:                             "",
		`{"properties":{"kty":"EC","attributes":{"nbf":20,"exp":10}}}`: "BadParameter",
		`{"properties":{"kty":"EC","keyOps":["fly"]}}`:                 "BadParameter",
		`{`: "InvalidRequestContent",
	} {
		m.want(400, code, http.MethodPut, m.vaults("/safe1/keys/other"), body)
	}
}
