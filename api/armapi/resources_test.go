package armapi_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// names lists the values at a path of a list's items.
func names(answer map[string]any, path string) string {
	var all []string
	values, _ := at(answer, "value").([]any)
	for _, v := range values {
		name, _ := at(v.(map[string]any), path).(string)
		all = append(all, name)
	}
	return strings.Join(all, " ")
}

func (m manager) subscription(more string) string {
	return "/subscriptions/" + m.Operator().SubscriptionID + more
}

func TestResourcesByFilter(t *testing.T) {
	m := start(t)
	m.want(201, "", http.MethodPut, m.accounts("/front"), `{"kind":"Face","location":"West US 2","sku":{"name":"S0"},"tags":{"team":"a","env":"prod"},
		"identity":{"type":"SystemAssigned"}}`)
	m.want(201, "", http.MethodPut, m.accounts("/back"),
		`{"kind":"Face","location":"local","sku":{"name":"F0"},"tags":{"team":"b","o'clock":"it's"}}`)
	m.vault("safe1", "westus2", "", "", "")
	m.want(200, "", http.MethodPatch, m.vaults("/safe1"), `{"tags":{"team":"prod"}}`)
	for filter, want := range map[string]string{
		"":   "back default front safe1",
		"  ": "back default front safe1",
		"resourceType eq 'Microsoft.KeyVault/vaults'":         "safe1",
		"resourcetype EQ 'microsoft.keyvault/VAULTS'":         "safe1",
		"resourceType ne 'Microsoft.KeyVault/vaults'":         "back default front",
		"resourceType eq 'Microsoft.Compute/virtualMachines'": "",
		"name eq 'front'":                    "front",
		"name eq 'FRONT' or name eq 'safe1'": "front safe1",
		"name eq 'front' and resourceType eq 'Microsoft.KeyVault/vaults'": "",
		"location eq 'westus2'":                 "front safe1",
		"location eq 'West US 2'":               "front",
		"resourceGroup eq 'default'":            "back default front safe1",
		"resourceGroup eq 'other'":              "",
		"tagName eq 'team'":                     "back front safe1",
		"tagname eq 'team' and tagvalue eq 'a'": "front",
		// and not front, whose env is prod
		"tagName eq 'team' and tagValue eq 'prod'":                              "safe1",
		"startswith(tagName, 'te')":                                             "back front safe1",
		"tagName eq 'o''clock' and tagValue eq 'it''s'":                         "back",
		"substringof('on', name)":                                               "front",
		"substringof('a', name) and substringof('def', resourceGroup)":          "back default safe1",
		"startswith(name,'f') or endswith(name,'1')":                            "front safe1",
		"contains(name, 'ac')":                                                  "back",
		"not (name eq 'back') and (location eq 'local' or name eq 'safe1')":     "default safe1",
		"name eq 'back' or name eq 'front' and location eq 'local'":             "back",
		"(name eq 'back' or name eq 'front') and location eq 'local'":           "back",
		"identity eq 'SystemAssigned'":                                          "front",
		"identity/principalId eq '11111111-1111-4111-8111-111111111111'":        "",
		"plan/publisher eq 'Contoso'":                                           "",
		"kind eq 'Face' and sku/name eq 'F0'":                                   "back",
		"resourceType eq 'Microsoft.CognitiveServices/accounts' and name ne ''": "back default front",
	} {
		query := url.Values{"api-version": {"2021-04-01"}, "$filter": {filter}}.Encode()
		for _, path := range []string{m.subscription("/resources"),
			m.subscription("/resourcegroups/DEFAULT/resources")} {
			answer := m.want(200, "", http.MethodGet, path+"?"+query, "")
			got := strings.Fields(names(answer, "name"))
			slices.Sort(got)
			if strings.Join(got, " ") != want {
				t.Errorf("%q: %v, want %s", filter, got, want)
			}
		}
	}
	for _, filter := range []string{
		"colour eq 'red'", "name eq", "name", "eq 'x'", "name = 'x'", "name eq 'x", "name eq 'x' and",
		"name eq 'x' name eq 'y'", "(name eq 'x'", "startswith(name)",
		"startswith('x', name)", "substringof(name, 'x')", "atScope()", "name eq 'x')", "'name' eq 'x'", "name eq (",
		strings.Repeat("(", 4000) + "name eq 'x'",
		strings.Repeat("not ", 900) + "name eq 'x'", "name eq '" + strings.Repeat("x", 5000) + "'",
	} {
		query := url.Values{"api-version": {"2021-04-01"}, "$filter": {filter}}.Encode()
		m.want(400, "InvalidFilterInQueryString", http.MethodGet, m.subscription("/resources?")+query, "")
	}
	first := func(query string) map[string]any {
		t.Helper()
		answer := m.want(200, "", http.MethodGet,
			m.subscription("/resources?api-version=2021-04-01&$filter=name+eq+'front'"+query), "")
		return at(answer, "value").([]any)[0].(map[string]any)
	}
	if item := first(""); item["createdTime"] != nil || item["changedTime"] != nil ||
		item["provisioningState"] != nil || at(item, "sku.name") != "S0" {
		t.Errorf("not requested: %v", item)
	}
	if item := first("&$expand=createdTime,%20changedTime,provisioningState"); item["createdTime"] == nil ||
		item["changedTime"] == nil ||
		item["provisioningState"] != "Succeeded" {
		t.Errorf("asked for: %v", item)
	}
	m.want(400, "InvalidExpandInQueryString", http.MethodGet,
		m.subscription("/resources?api-version=2021-04-01&$expand=secrets"), "")
}

// TestPages reads every list that has pages by its links, which must begin with the public address.
func TestPages(t *testing.T) {
	m := start(t)
	for _, name := range []string{"a1", "b1", "c1"} {
		m.want(201, "", http.MethodPut, m.accounts("/"+name),
			`{"kind":"Face","location":"local","sku":{"name":"S0"},"tags":{"x":"y"}}`)
		m.vault("safe-"+name, "local", "", "", "")
		m.want(200, "", http.MethodPut, m.vaults("/safe-a1/keys/"+name), `{"properties":{"kty":"EC"}}`)
	}
	for path, want := range map[string]string{
		m.subscription(
			"/resources?api-version=2021-04-01&$filter=tagName%20eq%20'x'&$expand=createdTime",
		): "a1 b1 c1",
		m.subscription(
			"/resourceGroups/default/resources?api-version=2021-04-01&$filter=name+ne+'default'+and+kind+eq+'Face'",
		): "a1 b1 c1",
		m.accounts(""):               "a1 b1 c1 default",
		m.vaults(""):                 "safe-a1 safe-b1 safe-c1",
		m.provider("/vaults"):        "safe-a1 safe-b1 safe-c1",
		m.vaults("/safe-a1/keys"):    "a1 b1 c1",
		m.vaults("/safe-a1/secrets"): "",
		m.subscription(
			"/providers?api-version=2021-04-01",
		): "Microsoft.Authorization Microsoft.CognitiveServices Microsoft.KeyVault Microsoft.Resources " +
			"Visage.Identity Visage.Operations",
	} {
		var got []string
		answers := 0
		for next := m.URL + path + "&$top=2"; next != ""; answers++ {
			if !strings.HasPrefix(next, m.URL+"/") || answers > 9 {
				t.Fatalf("%s leads to %s", path, next)
			}
			answer := m.want(200, "", http.MethodGet, strings.TrimPrefix(next, m.URL), "")
			if n := len(at(answer, "value").([]any)); n > 2 {
				t.Errorf("%s: %d items in a page of 2", path, n)
			}
			got = append(
				got, strings.Fields(strings.TrimSpace(names(answer, "name")+" "+names(answer, "namespace")))...,
			)
			next, _ = at(answer, "nextLink").(string)
		}
		if strings.Join(got, " ") != want || want != "" && answers < 2 {
			t.Errorf("%s in %d pages: %v, want %s", path, answers, got, want)
		}
	}
	for query, code := range map[string]string{"&$top=0": "InvalidTopInQueryString",
		"&$top=x": "InvalidTopInQueryString", "&$skiptoken=!": "InvalidSkipTokenInQueryString"} {
		m.want(400, code, http.MethodGet, m.accounts("")+query, "")
	}
}

func TestGroups(t *testing.T) {
	m := start(t)
	version := "?api-version=2021-04-01"
	group := func(name string) string { return m.subscription("/resourcegroups/" + name + version) }
	m.want(200, "", http.MethodGet, group("DEFAULT"), "")
	m.want(204, "", http.MethodHead, group("default"), "")
	m.want(404, "", http.MethodHead, group("g2"), "")
	m.want(404, "ResourceGroupNotFound", http.MethodGet, group("g2"), "")
	refused := m.want(409, "ResourceGroupQuotaExceeded", http.MethodPut, group("g2"), `{"location":"westus2"}`)
	if said, _ := at(refused, "error.message").(string); !strings.Contains(said, "default") {
		t.Errorf("creating a group: %q does not name the group to use", said)
	}
	m.want(200, "", http.MethodPut, group("default"), `{"location":"westus2"}`)
	m.want(400, "FeatureNotSupported", http.MethodPut, group("default"), `{"location":"westus2","tags":{"a":"b"}}`)
	m.want(400, "FeatureNotSupported", http.MethodPatch, group("default"), `{"tags":{"a":"b"}}`)
	m.want(409, "CannotDeleteResourceGroup", http.MethodDelete, group("default"), "")
	for filter, want := range map[string]string{"name eq 'default'": "default",
		"tagName eq 'a' and tagValue eq 'b'": "", "tagname eq 'a'": ""} {
		query := url.Values{"api-version": {"2021-04-01"}, "$filter": {filter}}.Encode()
		if answer := m.want(200, "", http.MethodGet, m.subscription("/resourcegroups?")+query, ""); names(answer,
			"name") != want {
			t.Errorf("%q: %v", filter, answer)
		}
	}
	for path, status := range map[string]int{m.accounts("/default"): 204, m.accounts("/nobody"): 404,
		m.vaults("/nobody"): 404} {
		m.want(status, "", http.MethodHead, path, "")
	}
}

func TestProviders(t *testing.T) {
	m := start(t)
	m.want(201, "", http.MethodPut, m.accounts("/front"), `{"kind":"Face","location":"West US 2","sku":{"name":"S0"}}`)
	version := "?api-version=2021-04-01"
	for _, path := range []string{m.subscription("/providers/microsoft.cognitiveservices" + version),
		"/providers/Microsoft.CognitiveServices" + version} {
		p := m.want(200, "", http.MethodGet, path, "")
		if at(p, "namespace") != "Microsoft.CognitiveServices" || at(p, "registrationState") != "Registered" {
			t.Errorf("%s: %v", path, p)
		}
		types := map[string]map[string]any{}
		for _, of := range at(p, "resourceTypes").([]any) {
			types[at(of.(map[string]any), "resourceType").(string)] = of.(map[string]any)
		}
		for _, name := range []string{"accounts", "deletedAccounts", "operations",
			"locations/resourceGroups/deletedAccounts", "locations/usages",
			"checkDomainAvailability", "accounts/deployments", "locations/checkSkuAvailability"} {
			if types[name] == nil {
				t.Errorf("%s lacks the type %s", path, name)
			}
		}
		if types["accounts/listKeys"] != nil {
			t.Errorf("%s lists an action as a type", path)
		}
		accounts := types["accounts"]
		if !slices.Contains(accounts["locations"].([]any), any("West US 2")) ||
			!slices.Contains(accounts["apiVersions"].([]any), any("2023-05-01")) ||
			!strings.Contains(accounts["capabilities"].(string), "SystemAssignedResourceIdentity") {
			t.Errorf("%s: accounts are %v", path, accounts)
		}
	}
	m.want(200, "", http.MethodPost, m.subscription("/providers/Microsoft.KeyVault/register"+version), "")
	m.want(409, "CannotUnregisterProvider", http.MethodPost,
		m.subscription("/providers/Microsoft.KeyVault/unregister"+version), "")
	m.want(404, "InvalidResourceNamespace", http.MethodGet, m.subscription("/providers/Microsoft.Storage"+version), "")
	m.want(404, "InvalidResourceNamespace", http.MethodPost,
		m.subscription("/providers/Microsoft.Storage/register"+version), "")
	if l := m.want(200, "", http.MethodGet, m.subscription("/locations"+version), ""); names(l,
		"name") != "local westus2" {
		t.Errorf("locations: %v", l)
	}
	operations := names(m.want(200, "", http.MethodGet, "/providers/Microsoft.KeyVault/operations"+version, ""), "name")
	for _, want := range []string{"Microsoft.KeyVault/vaults/write", "Microsoft.KeyVault/vaults/keys/read",
		"Microsoft.KeyVault/locations/deletedVaults/purge/action"} {
		if !strings.Contains(operations+" ", want+" ") {
			t.Errorf("operations lack %s: %s", want, operations)
		}
	}
}
