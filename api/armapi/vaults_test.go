package armapi_test

import (
	"net/http"
	"strings"
	"testing"
)

// vaults is the path of the key vaults, followed by more and a version.
func (m manager) vaults(more string) string {
	return "/subscriptions/" + m.Operator().SubscriptionID +
		"/resourceGroups/default/providers/Microsoft.KeyVault/vaults" + more + "?api-version=2024-11-01"
}

// provider is a path of Microsoft.KeyVault in the subscription.
func (m manager) provider(more string) string {
	return "/subscriptions/" + m.Operator().SubscriptionID + "/providers/Microsoft.KeyVault" + more +
		"?api-version=2024-11-01"
}

// vaultBody is the body of a PUT, with more properties.
func (m manager) vaultBody(more string) string {
	return `{"location":"West US 2","properties":{"tenantId":"` + m.Operator().TenantID +
		`","sku":{"family":"A","name":"standard"},"accessPolicies":[]` + more + `}}`
}

// want makes a request and compares the answer's status, and the code of an error.
func (m manager) want(status int, code, method, path, body string) map[string]any {
	m.t.Helper()
	got, _, answer := m.do(method, path, body)
	if got != status || code != "" && at(answer, "error.code") != code {
		m.t.Errorf("%s %s: %d %v, want %d %s", method, path, got, answer, status, code)
	}
	return answer
}

func TestLifeOfAVault(t *testing.T) {
	m := start(t)
	made := m.want(201, "", http.MethodPut, m.vaults("/Safe1"), m.vaultBody(`,"softDeleteRetentionInDays":7`))
	for path, want := range map[string]any{
		"name": "Safe1", "type": "Microsoft.KeyVault/vaults", "location": "West US 2", "properties.sku.family": "A",
		"properties.sku.name": "standard", "properties.enableSoftDelete": true,
		"properties.softDeleteRetentionInDays": 7.0,
		"properties.enablePurgeProtection":     nil, "properties.enableRbacAuthorization": false,
		"properties.provisioningState": "Succeeded", "properties.tenantId": m.Operator().TenantID,
	} {
		if got := at(made, path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	if uri, ok := at(made, "properties.vaultUri").(string); !ok ||
		!strings.HasPrefix(uri, "https://safe1.vault.localhost:") ||
		!strings.HasSuffix(uri, "/") {
		t.Errorf("vaultUri is %v", at(made, "properties.vaultUri"))
	}
	m.want(200, "", http.MethodGet, m.vaults("/safe1"), "")
	if all := m.want(200, "", http.MethodGet, m.vaults(""), ""); len(at(all, "value").([]any)) != 1 {
		t.Errorf("list: %v", all)
	}
	m.want(200, "", http.MethodGet, m.provider("/vaults"), "")
	m.want(400, "InvalidFilterInQueryString", http.MethodGet,
		"/subscriptions/"+m.Operator().SubscriptionID+"/resources?api-version=2015-11-01&$filter=colour+eq+'red'", "")
	m.want(409, "InvalidResourceLocation", http.MethodPatch, m.vaults("/safe1"), `{"location":"eastus"}`)
	changed := m.want(200, "", http.MethodPatch, m.vaults("/safe1"),
		`{"tags":{"a":"b"},"properties":{"enablePurgeProtection":true}}`)
	if at(changed, "tags.a") != "b" || at(changed, "properties.enablePurgeProtection") != true {
		t.Errorf("changed: %v", changed)
	}
	m.want(400, "BadRequest", http.MethodPatch, m.vaults("/safe1"), `{"properties":{"enablePurgeProtection":false}}`)
	if after := m.want(200, "", http.MethodPut, m.vaults("/safe1"), m.vaultBody("")); at(after,
		"properties.enablePurgeProtection") != true {
		t.Errorf("a PUT without purge protection turned it off: %v", after)
	}
	m.want(200, "", http.MethodDelete, m.vaults("/safe1"), "")
	m.want(204, "", http.MethodDelete, m.vaults("/safe1"), "")
	m.want(404, "ResourceNotFound", http.MethodGet, m.vaults("/safe1"), "")
	m.want(409, "VaultAlreadyExists", http.MethodPut, m.vaults("/safe1"), m.vaultBody(""))
	if all := m.want(200, "", http.MethodGet, m.provider("/deletedVaults"), ""); len(at(all, "value").([]any)) != 1 {
		t.Errorf("deleted vaults: %v", all)
	}
	gone := m.want(200, "", http.MethodGet, m.provider("/locations/westus2/deletedVaults/safe1"), "")
	if at(gone, "properties.purgeProtectionEnabled") != true || at(gone, "properties.vaultId") != at(made, "id") {
		t.Errorf("deleted: %v", gone)
	}
	m.want(404, "VaultNotFound", http.MethodGet, m.provider("/locations/eastus/deletedVaults/safe1"), "")
	m.want(405, "MethodNotAllowed", http.MethodPost, m.provider("/locations/westus2/deletedVaults/safe1/purge"), "")
	m.want(200, "", http.MethodPut, m.vaults("/safe1"), `{"location":"westus2","properties":{"createMode":"recover"}}`)
	m.want(200, "", http.MethodGet, m.vaults("/safe1"), "")
}

func TestPurgedVaultFreesItsName(t *testing.T) {
	m := start(t)
	free := func() any {
		return at(m.want(200, "", http.MethodPost, m.provider("/checkNameAvailability"),
			`{"name":"safe1","type":"Microsoft.KeyVault/vaults"}`), "nameAvailable")
	}
	if free() != true {
		t.Error("an unused name is not free")
	}
	m.want(201, "", http.MethodPut, m.vaults("/safe1"), m.vaultBody(""))
	m.want(200, "", http.MethodDelete, m.vaults("/safe1"), "")
	if free() != false {
		t.Error("the name of a deleted vault is free")
	}
	m.want(200, "", http.MethodPost, m.provider("/locations/westus2/deletedVaults/safe1/purge"), "")
	if free() != true {
		t.Error("the name of a purged vault is not free")
	}
}

func TestVaultRefusals(t *testing.T) {
	m := start(t)
	tenant := m.Operator().TenantID
	for name, c := range map[string]struct{ code, vault, body string }{
		"purge protection off": {"BadRequest", "safe1", m.vaultBody(`,"enablePurgeProtection":false`)},
		"soft delete off":      {"BadRequest", "safe1", m.vaultBody(`,"enableSoftDelete":false`)},
		"retention":            {"BadRequest", "safe1", m.vaultBody(`,"softDeleteRetentionInDays":6`)},
		"default action":       {"BadRequest", "safe1", m.vaultBody(`,"networkAcls":{"defaultAction":"Perhaps"}`)},
		"bypass":               {"BadRequest", "safe1", m.vaultBody(`,"networkAcls":{"bypass":"Friends"}`)},
		"no address": {"BadRequest", "safe1",
			m.vaultBody(`,"networkAcls":{"defaultAction":"Deny","ipRules":[{"value":"example.org"}]}`)},
		"virtual network": {"BadRequest", "safe1",
			m.vaultBody(`,"networkAcls":{"virtualNetworkRules":[{"id":"/subscriptions/x"}]}`)},
		"public access": {"BadRequest", "safe1", m.vaultBody(`,"publicNetworkAccess":"Sometimes"`)},
		"name":          {"VaultNameNotValid", "1safe", m.vaultBody("")},
		"no policies": {"BadRequest", "safe1",
			`{"location":"x","properties":{"tenantId":"` + tenant + `","sku":{"family":"A","name":"standard"}}}`},
		"sku": {"SkuNotSupported", "safe1",
			`{"location":"x","properties":{"tenantId":"` + tenant +
				`","accessPolicies":[],"sku":{"family":"A","name":"gold"}}}`},
		"another tenant's policy": {"BadRequest", "safe1", `{"location":"x","properties":{"tenantId":"` + tenant + `",
			"sku":{"name":"standard"},"accessPolicies":[{"tenantId":"u","objectId":"o","permissions":{"keys":["get"]}}]}}`},
		"unknown permission": {"BadRequest", "safe1", `{"location":"x","properties":{"tenantId":"` + tenant + `",
			"sku":{"name":"standard"},"accessPolicies":[{"tenantId":"` + tenant + `","objectId":"o","permissions":{"keys":["fly"]}}]}}`},
		"another tenant": {"BadRequest", "safe1",
			strings.Replace(m.vaultBody(""), tenant, "00000000-0000-4000-8000-000000000000", 1)},
		"an invalid tenant": {"BadRequest", "safe1", strings.Replace(m.vaultBody(""), tenant, "elsewhere", 1)},
		"odd tag": {"InvalidTagNameCharacters", "safe1",
			strings.Replace(m.vaultBody(""), "{", `{"tags":{"a%b":""},`, 1)},
		"a field twice": {"InvalidRequestContent", "safe1",
			m.vaultBody(`,"enablePurgeProtection":true,"enablePurgeProtection":null`)},
		"no JSON": {"InvalidRequestContent", "safe1", `{`},
	} {
		t.Run(name, func(t *testing.T) {
			m := manager{m.Server, t}
			m.want(400, c.code, http.MethodPut, m.vaults("/"+c.vault), c.body)
			m.want(404, "ResourceNotFound", http.MethodGet, m.vaults("/"+c.vault), "")
		})
	}
}

func TestAccessPoliciesChange(t *testing.T) {
	m := start(t)
	m.want(201, "", http.MethodPut, m.vaults("/safe1"), m.vaultBody(""))
	for _, c := range []struct{ change, keys, want string }{
		{"add", `"get","wrapKey"`, "get wrapKey"},
		{"add", `"UNWRAPKEY","get"`, "get wrapKey unwrapKey"},
		{"remove", `"wrapKey"`, "get unwrapKey"},
		{"replace", `"list"`, "list"},
		{"remove", `"list"`, "none"},
	} {
		body := `{"properties":{"accessPolicies":[{"tenantId":"` + m.Operator().
			TenantID + `","objectId":"O1","permissions":{"keys":[` +
			c.keys + `]}}]}}`
		answer := m.want(200, "", http.MethodPut, m.vaults("/safe1/accessPolicies/"+c.change), body)
		policies, _ := at(answer, "properties.accessPolicies").([]any)
		got := "none"
		if len(policies) == 1 {
			var names []string
			for _, k := range at(policies[0].(map[string]any), "permissions.keys").([]any) {
				names = append(names, k.(string))
			}
			got = strings.Join(names, " ")
		}
		if got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.change, c.keys, got, c.want)
		}
	}
	m.want(400, "BadRequest", http.MethodPut, m.vaults("/safe1/accessPolicies/forget"), `{}`)
	m.want(404, "ResourceNotFound", http.MethodPut, m.vaults("/other/accessPolicies/add"), `{}`)
}

// TestNewVaultsHaveRolesFromTheirVersionOn checks the one difference between versions (key vault contract, part B).
func TestNewVaultsHaveRolesFromTheirVersionOn(t *testing.T) {
	m := start(t)
	path := strings.Replace(m.vaults("/safe1"), "2024-11-01", "2026-02-01", 1)
	made := m.want(201, "", http.MethodPut, path, m.vaultBody(""))
	if at(made, "properties.enableRbacAuthorization") != true {
		t.Errorf("a new vault: %v", made)
	}
	off := m.want(200, "", http.MethodPatch, path, `{"properties":{"enableRbacAuthorization":false}}`)
	if at(off, "properties.enableRbacAuthorization") != false {
		t.Errorf("turned off: %v", off)
	}
}
