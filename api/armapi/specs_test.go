package armapi_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/visage-face/visage/api/apitest"
)

// specs is the official description of Face resources; nil when it is not on this machine.
type specs map[string]*openapi3.PathItem

var officialSpec = sync.OnceValues(func() (specs, error) {
	root := apitest.Path()
	common := filepath.Join(root, "common-types", "resource-management", "v2")
	var raw, types, links map[string]any
	for file, into := range map[string]*map[string]any{
		filepath.Join(root, "cognitiveservices", "resource-manager", "Microsoft.CognitiveServices", "stable", "2023-05-01",
			"cognitiveservices.json"): &raw,
		filepath.Join(common, "types.json"):        &types,
		filepath.Join(common, "privatelinks.json"): &links,
	} {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		// What is common is put beside the rest, so that one document holds all.
		for _, elsewhere := range []string{"../../../../../common-types/resource-management/v2/", "./"} {
			for _, name := range []string{"types.json#", "privatelinks.json#"} {
				data = bytes.ReplaceAll(data, []byte(`"`+elsewhere+name), []byte(`"#`))
			}
		}
		if err := json.Unmarshal(data, into); err != nil {
			return nil, err
		}
	}
	definitions := raw["definitions"].(map[string]any)
	for _, more := range []map[string]any{types, links} {
		for name, d := range more["definitions"].(map[string]any) {
			definitions[name] = d
		}
	}
	// Later descriptions have one tier more, which E0 is of (contract §3).
	tier := definitions["Sku"].(map[string]any)["properties"].(map[string]any)["tier"].(map[string]any)
	if ref, ok := tier["$ref"].(string); ok {
		tier = definitions[strings.TrimPrefix(ref, "#/definitions/")].(map[string]any)
	}
	tier["enum"] = append(tier["enum"].([]any), "Enterprise")
	three, err := apitest.Convert(raw)
	if err != nil {
		return nil, err
	}
	return three.Paths.Map(), nil
})

// loadSpecs returns the description, or none.
func loadSpecs(t testing.TB) specs {
	t.Helper()
	return apitest.Load(t, officialSpec)
}

// find returns the operation that a request is one of.
func (s specs) find(method, path string) *openapi3.Operation {
	for pattern, item := range s {
		_, fits := apitest.Matches(apitest.Segments(pattern), apitest.Segments(path))
		if op := item.GetOperation(method); fits && op != nil {
			return op
		}
	}
	return nil
}

// ourOwn are parts of the paths that elsewhere do not exist, or lead to a status document.
var ourOwn = []string{"/accessRequests", "/accessCapacity", "/encryption:", "/operationResults/"}

// check holds an answer against the description, if it is one that is described.
func (s specs) check(t testing.TB, method, path string, status int, body []byte) {
	t.Helper()
	path, _, _ = strings.Cut(path, "?")
	if s == nil || !strings.Contains(strings.ToLower(path), "/providers/microsoft.cognitiveservices/") {
		return
	}
	what := method + " " + path
	operation := s.find(method, path)
	if operation == nil {
		for _, own := range ourOwn {
			if strings.Contains(path, own) {
				return
			}
		}
		if status < 400 {
			t.Errorf("%s: got %d, and the description has no such operation", what, status)
		}
		return
	}
	apitest.CheckAnswer(t, what, operation, status, body)
}

// TestSpecsCanFail proves that the description refuses what it should.
func TestSpecsCanFail(t *testing.T) {
	s := loadSpecs(t)
	if s == nil {
		t.Skip("the official description is not on this machine")
	}
	one := "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a"
	for _, row := range []struct {
		method, path, body string
		status             int
		fits               bool
	}{
		{"GET", one, `{"name":"a","properties":{"provisioningState":"Succeeded"}}`, 200, true},
		{"GET", one, `{"name":7}`, 200, false},
		{"GET", one, `{"properties":{"encryption":{"keySource":"Mine"}}}`, 200, false},
		{"GET", one, `{"identity":{"type":"Somebody"}}`, 200, false},
		{"GET", one, `{}`, 201, false},
		{"GET", one, `{"error":{"code":"c","message":"m"}}`, 404, true},
		{"DELETE", one, ``, 204, true},
		{"DELETE", one, `{}`, 200, false},
		{"GET", one + "/secrets", `{}`, 200, false},
	} {
		fits := !apitest.Fails(func(t testing.TB) {
			s.check(t, row.method, row.path+"?api-version=1", row.status, []byte(row.body))
		})
		if fits != row.fits {
			t.Errorf("%s %s %d %s: fits %t, want %t", row.method, row.path, row.status, row.body, fits, row.fits)
		}
	}
}

// TestOffers walks what tells what can be had, and what is asked by clients that look around.
func TestOffers(t *testing.T) {
	m := start(t)
	subscription := "/subscriptions/" + m.Operator().SubscriptionID
	version := "?api-version=2025-09-01"
	cognitive := subscription + "/providers/Microsoft.CognitiveServices"
	m.want(201, "", http.MethodPut, m.accounts("/Taken"), `{"kind":"Face","location":"West US 2","sku":{"name":"F0"}}`)
	names := func(answer map[string]any, path string) string {
		var all []string
		values, _ := at(answer, "value").([]any)
		for _, v := range values {
			name, _ := at(v.(map[string]any), path).(string)
			all = append(all, name)
		}
		return strings.Join(all, " ")
	}
	for _, c := range []struct{ path, at, want string }{
		{m.accounts("/taken/skus"), "sku.name", "F0 S0"},
		{cognitive + "/skus" + version, "name", "F0 S0 E0"},
		{m.accounts("/taken/usages"), "", ""},
		{cognitive + "/locations/westus2/usages" + version, "", ""},
		{m.accounts("/taken/privateEndpointConnections"), "", ""},
		{m.accounts("/taken/privateLinkResources"), "", ""},
		{"/tenants" + version, "tenantId", m.Operator().TenantID},
		{"/subscriptions" + version, "subscriptionId", m.Operator().SubscriptionID},
		{subscription + "/resourcegroups" + version, "name", "default"},
	} {
		if answer := m.want(200, "", http.MethodGet, c.path, ""); names(answer, c.at) != c.want {
			t.Errorf("%s: %v, want %s", c.path, answer, c.want)
		}
	}
	all := names(m.want(200, "", http.MethodGet, "/providers/Microsoft.CognitiveServices/operations"+version, ""), "name")
	for _, want := range []string{
		"Microsoft.CognitiveServices/accounts/write", "Microsoft.CognitiveServices/accounts/listKeys/action",
		"Microsoft.CognitiveServices/locations/resourceGroups/deletedAccounts/delete",
	} {
		if !strings.Contains(all+" ", want+" ") {
			t.Errorf("operations lack %s: %s", want, all)
		}
	}
	m.want(200, "", http.MethodGet, subscription+version, "")
	m.want(200, "", http.MethodGet, subscription+"/resourceGroups/Default"+version, "")
	if p := m.want(200, "", http.MethodGet, cognitive+version, ""); at(p, "registrationState") != "Registered" {
		t.Errorf("provider: %v", p)
	}
	skus := m.want(200, "", http.MethodPost, cognitive+"/locations/westus2/checkSkuAvailability"+version,
		`{"skus":["E0","S9"],"kind":"Face","type":"Microsoft.CognitiveServices/accounts"}`)
	first, second := at(skus, "value").([]any)[0].(map[string]any), at(skus, "value").([]any)[1].(map[string]any)
	if first["skuAvailable"] != true || second["skuAvailable"] != false {
		t.Errorf("tiers: %v", skus)
	}
	for label, free := range map[string]bool{"taken": false, "other": true, "not a label": false} {
		answer := m.want(200, "", http.MethodPost, cognitive+"/checkDomainAvailability"+version,
			`{"subdomainName":"`+label+`","type":"Microsoft.CognitiveServices/accounts"}`)
		if at(answer, "isSubdomainAvailable") != free {
			t.Errorf("subdomain %q: %v, want %t", label, answer, free)
		}
	}
}

// readAll reads an answer and holds it against the description.
func (m manager) readAll(res *http.Response, method, path string) []byte {
	m.t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	loadSpecs(m.t).check(m.t, method, path, res.StatusCode, b)
	return b
}
