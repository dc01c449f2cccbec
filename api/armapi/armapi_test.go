package armapi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// manager sends requests to the management plane of a real server as its operator.
type manager struct {
	*servertest.Server
	t *testing.T
}

func start(t *testing.T) manager {
	return manager{servertest.Start(t, server.Config{}), t}
}

// accounts is the path of the accounts, followed by more and a version.
func (m manager) accounts(more string) string {
	return "/subscriptions/" + m.Operator().SubscriptionID +
		"/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts" + more + "?api-version=2025-09-01"
}

// do makes a request as the operator and returns the answer, decoded if it is JSON.
func (m manager) do(method, path, body string) (status int, header http.Header, answer map[string]any) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), method, m.URL+path, strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+m.Token(m.t, "https://management.azure.com"))
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	res, err := m.Client.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer res.Body.Close()
	b := m.readAll(res, method, path)
	if len(b) > 0 {
		if err := json.Unmarshal(b, &answer); err != nil {
			m.t.Fatalf("%s %s: %d %s is not JSON: %v", method, path, res.StatusCode, b, err)
		}
	}
	return res.StatusCode, res.Header, answer
}

// at returns the value in an answer at a path of names with dots between.
func at(answer map[string]any, path string) any {
	var v any = answer
	for name := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

func TestLifeOfAnAccount(t *testing.T) {
	m := start(t)
	// Property names in any case and unknown ones are accepted, as the contract says.
	status, header, made := m.do(http.MethodPut, m.accounts("/Face1"),
		`{"Kind":"Face","LOCATION":"West US 2","sku":{"NAME":"S0"},"tags":{"team":"a"},"properties":{"x":1}}`)
	if status != http.StatusCreated {
		t.Fatalf("create: %d %v", status, made)
	}
	for path, want := range map[string]any{
		"name": "Face1", "type": "Microsoft.CognitiveServices/accounts", "location": "West US 2", "kind": "Face",
		"sku.name": "S0", "sku.tier": "Standard", "tags.team": "a", "properties.provisioningState": "Succeeded",
		"properties.customSubDomainName": "face1", "properties.encryption": nil, "etag": header.Get("Etag"),
	} {
		if got := at(made, path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	if e, _ := at(made, "properties.endpoint").(string); !strings.HasPrefix(e, "https://face1.localhost:") ||
		!strings.HasSuffix(e, "/") {
		t.Errorf("endpoint is %q", e)
	}
	if header.Get("x-ms-request-id") == "" {
		t.Error("no request id")
	}

	// The same path in another spelling is the same account.
	other := strings.NewReplacer("resourceGroups", "resourcegroups", "Microsoft.CognitiveServices",
		"microsoft.cognitiveservices").
		Replace(m.accounts("/FACE1"))
	if status, _, got := m.do(http.MethodGet, other, ""); status != http.StatusOK || at(got, "id") != at(made, "id") {
		t.Errorf("get: %d %v", status, got)
	}

	status, after, patched := m.do(http.MethodPatch, m.accounts("/face1"), `{"sku":{"name":"F0"},"location":"westus2"}`)
	if status != http.StatusOK || at(patched, "sku.name") != "F0" || at(patched, "tags.team") != "a" ||
		after.Get("Etag") == header.Get("Etag") {
		t.Errorf("patch: %d %v", status, patched)
	}
	if status, _, put := m.do(http.MethodPut, m.accounts("/face1"), `{"kind":"face"}`); status != http.StatusOK ||
		at(put, "tags.team") != nil || at(put, "sku.name") != "F0" {
		t.Errorf("put of an existing account: %d %v, want the tags gone and the tier kept", status, put)
	}

	status, _, keys := m.do(http.MethodPost, m.accounts("/face1/listKeys"), "")
	if status != http.StatusOK || len(at(keys, "key1").(string)) != 32 {
		t.Fatalf("keys: %d %v", status, keys)
	}
	status, _, turned := m.do(http.MethodPost, m.accounts("/face1/regenerateKey"), `{"keyName":"key1"}`)
	if status != http.StatusOK || at(turned, "key1") == at(keys, "key1") || at(turned, "key2") != at(keys, "key2") {
		t.Errorf("regenerate: %d %v, was %v", status, turned, keys)
	}

	if status, _, all := m.do(http.MethodGet, m.accounts(""), ""); status != http.StatusOK || len(at(all,
		"value").([]any)) != 2 {
		t.Errorf("list: %d %v", status, all)
	}
	if status, _, _ := m.do(http.MethodDelete, m.accounts("/face1"), ""); status != http.StatusOK {
		t.Errorf("delete: %d", status)
	}
	if status, _, _ := m.do(http.MethodDelete, m.accounts("/face1"), ""); status != http.StatusNoContent {
		t.Errorf("delete of a deleted account: %d", status)
	}
}

func TestRefusals(t *testing.T) {
	m := start(t)
	version := "?api-version=2025-09-01"
	face := `{"kind":"Face","location":"local","sku":{"name":"S0"}}`
	subscription := "/subscriptions/" + m.Operator().SubscriptionID
	provider := "/providers/Microsoft.CognitiveServices/accounts"
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"no version", "GET", subscription + provider, "", 400, "MissingApiVersionParameter"},
		{"another subscription", "GET", "/subscriptions/1" + provider + version, "", 404, "SubscriptionNotFound"},
		{"another group", "GET", subscription + "/resourceGroups/x" + provider + version, "", 404,
			"ResourceGroupNotFound"},
		{"unknown account", "GET", m.accounts("/nobody"), "", 404, "ResourceNotFound"},
		{"keys of an unknown account", "POST", m.accounts("/nobody/listKeys"), "", 404, "ResourceNotFound"},
		{"change of an unknown account", "PATCH", m.accounts("/nobody"), "{}", 404, "ResourceNotFound"},
		{"name with a blank", "PUT", m.accounts("/a%20b"), face, 400, "InvalidResourceName"},
		{"E0 without approval", "PUT", m.accounts("/vip"), strings.Replace(face, "S0", "E0", 1), 403,
			"CustomerManagedKeyNotApproved"},
		{"nothing to recover", "PUT", m.accounts("/lost"), `{"location":"local","properties":{"restore":true}}`, 404,
			"ResourceNotFound"},
		{"no address", "PATCH", m.accounts("/default"),
			`{"properties":{"networkAcls":{"defaultAction":"Deny","ipRules":[{"value":"1.2.3"}]}}}`, 400, "BadRequest"},
		{"virtual network", "PATCH", m.accounts("/default"),
			`{"properties":{"networkAcls":{"virtualNetworkRules":[{"id":"/x"}]}}}`, 400, "BadRequest"},
		{"no origin", "PATCH", m.accounts("/default"),
			`{"properties":{"cors":{"allowedOrigins":["https://App.example.org/x"]}}}`, 400, "InvalidCorsOrigin"},
		{"another kind", "PUT", m.accounts("/speech"), `{"kind":"Speech"}`, 400, "InvalidKind"},
		{"no tier", "PUT", m.accounts("/face"), `{"kind":"Face","location":"local"}`, 400, "InvalidSkuId"},
		{"no location", "PUT", m.accounts("/face"), `{"kind":"Face","sku":{"name":"S0"}}`, 400, "LocationRequired"},
		{"unknown tier", "PUT", m.accounts("/face"), strings.Replace(face, "S0", "S7", 1), 400, "InvalidSkuId"},
		{"no JSON", "PUT", m.accounts("/face"), "{", 400, "InvalidRequestContent"},
		{"a field twice", "PUT", m.accounts("/face"), strings.Replace(face, "{", `{"location":"mars",`, 1), 400,
			"InvalidRequestContent"},
		{"a field twice in two cases", "PATCH", m.accounts("/default"), `{"tags":{"a":"1"},"Tags":{"b":"2"}}`, 400,
			"InvalidRequestContent"},
		{"a tag twice", "PATCH", m.accounts("/default"), `{"tags":{"a":"1","a":"2"}}`, 400, "InvalidRequestContent"},
		{"long tag", "PATCH", m.accounts("/default"), `{"tags":{"a":"` + strings.Repeat("x", 257) + `"}}`, 400,
			"InvalidTagValueLength"},
		{"odd tag", "PUT", m.accounts("/face"), strings.Replace(face, "{", `{"tags":{"a/b":""},`, 1), 400,
			"InvalidTagNameCharacters"},
		{"wrong type", "PUT", m.accounts("/face"), `{"kind":7}`, 400, "InvalidRequestContent"},
		{"long body", "PUT", m.accounts("/face"), `{"kind":"` + strings.Repeat("x", 65<<10) + `"}`, 413,
			"InvalidRequestContent"},
		{"another location", "PATCH", m.accounts("/default"), `{"location":"mars"}`, 409, "InvalidResourceLocation"},
		{"to E0", "PATCH", m.accounts("/default"), `{"sku":{"name":"E0"}}`, 400, "InvalidSkuId"},
		{"third key", "POST", m.accounts("/default/regenerateKey"), `{"keyName":"Key3"}`, 400, "InvalidRequestContent"},
		{"wrong method", "POST", m.accounts("/default"), face, 405, "HttpMethodNotAllowed"},
		{"unknown path", "GET", m.accounts("/default/skus/what"), "", 404, "InvalidResourceType"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, _, answer := manager{m.Server, t}.do(c.method, c.path, c.body)
			if status != c.status || at(answer, "error.code") != c.code || at(answer, "error.message") == "" {
				t.Errorf("got %d %v, want %d %s", status, answer, c.status, c.code)
			}
		})
	}
	if status, _, all := m.do(http.MethodGet, m.accounts(""), ""); status != http.StatusOK || len(at(all,
		"value").([]any)) != 1 {
		t.Errorf("after the refusals: %d %v, want the default account alone", status, all)
	}
}
