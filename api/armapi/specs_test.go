package armapi_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/visage-face/visage/api/apitest"
)

// specs are the official specifications of Face resources and key vaults; nil when they are not on this machine.
type specs map[string]*openapi3.PathItem

var officialSpec = sync.OnceValues(func() (specs, error) {
	all := specs{}
	for _, file := range []string{
		"cognitiveservices/resource-manager/Microsoft.CognitiveServices/stable/2023-05-01/cognitiveservices.json",
		vaultSpecs + "keyvault.json", vaultSpecs + "keys.json", vaultSpecs + "managedHsm.json",
		vaultSpecs + "providers.json", vaultSpecs + "secrets.json",
	} {
		raw, err := readSpec(file, map[string]map[string]any{})
		if err != nil {
			return nil, err
		}
		widen(raw["definitions"].(map[string]any))
		three, err := apitest.Convert(raw)
		if err != nil {
			return nil, err
		}
		for pattern, item := range three.Paths.Map() {
			all[pattern] = item
		}
	}
	return all, nil
})

const vaultSpecs = "keyvault/resource-manager/Microsoft.KeyVault/stable/2023-07-01/"

// readSpec reads a specification with all that it refers to into one document: definitions are named by file and name.
func readSpec(file string, read map[string]map[string]any) (map[string]any, error) {
	data, err := os.ReadFile(apitest.Path(filepath.FromSlash(file)))
	if err != nil {
		return nil, err
	}
	var raw map[string]any
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, err
	}
	delete(raw, "parameters")
	read[file] = raw
	var others []string
	label := func(file, name string) string {
		return strings.NewReplacer("/", ".", "-", ".").Replace(file) + "." + name
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, item := range v {
				walk(item)
			}
		case map[string]any:
			delete(v, "x-ms-examples")
			delete(v, "parameters")
			for _, item := range v {
				walk(item)
			}
			if ref, ok := v["$ref"].(string); ok {
				where, name, _ := strings.Cut(ref, "#/definitions/")
				if where = path.Join(path.Dir(file), where); where == path.Dir(file) {
					where = file
				}
				others = append(others, where)
				v["$ref"] = "#/definitions/" + label(where, name)
			}
		}
	}
	walk(raw)
	definitions := map[string]any{}
	own, _ := raw["definitions"].(map[string]any)
	for name, d := range own {
		definitions[label(file, name)] = d
	}
	raw["definitions"] = definitions
	for _, other := range others {
		if read[other] == nil {
			if _, err := readSpec(other, read); err != nil {
				return nil, err
			}
		}
	}
	for _, other := range read {
		for name, d := range other["definitions"].(map[string]any) {
			definitions[name] = d
		}
	}
	return raw, nil
}

// widen adds parts of later specifications: the tier of E0 (contract §3), and recovery levels of vaults with a
// retention of their own.
func widen(definitions map[string]any) {
	for name, d := range definitions {
		if strings.HasSuffix(name, ".SkuTier") {
			d := d.(map[string]any)
			d["enum"] = append(d["enum"].([]any), "Enterprise")
		}
		if strings.HasSuffix(name, ".KeyAttributes") {
			level := d.(map[string]any)["properties"].(map[string]any)["recoveryLevel"].(map[string]any)
			level["enum"] = append(level["enum"].([]any), "CustomizedRecoverable", "CustomizedRecoverable+Purgeable")
		}
	}
}

// loadSpecs returns the specifications, or nil.
func loadSpecs(t testing.TB) specs {
	t.Helper()
	return apitest.Load(t, officialSpec)
}

// find returns the operation of a request.
func (s specs) find(method, path string) *openapi3.Operation {
	for pattern, item := range s {
		_, fits := apitest.Matches(apitest.Segments(pattern), apitest.Segments(path))
		if op := item.GetOperation(method); fits && op != nil {
			return op
		}
	}
	return nil
}

// ourOwn are parts of paths that do not exist in Azure, or lead to a status document.
var ourOwn = []string{"/accessRequests", "/accessCapacity", "/encryption:", "/operationResults/", "/auditEvents",
	"/retention", "/register", "/resourceTypes"}

// check compares an answer with the specification, if that has the path.
func (s specs) check(t testing.TB, method, path string, status int, body []byte) {
	t.Helper()
	path, _, _ = strings.Cut(path, "?")
	_, provider, found := strings.Cut(strings.ToLower(path), "/providers/microsoft.")
	if s == nil || !found || strings.Contains(provider, "/providers/") || // such as the roles on a resource
		!strings.HasPrefix(provider, "cognitiveservices/") && !strings.HasPrefix(provider, "keyvault/") ||
		method == http.MethodHead {
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
			t.Errorf("%s: got %d, and the specification has no such operation", what, status)
		}
		return
	}
	apitest.CheckAnswer(t, what, operation, status, body)
}

// TestSpecsCanFail checks that the specification refuses wrong answers.
func TestSpecsCanFail(t *testing.T) {
	s := loadSpecs(t)
	if s == nil {
		t.Skip("the official specification is not on this machine")
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

// TestOffers requests the lists of what is available, as clients do at their start.
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
	all := names(m.want(200, "", http.MethodGet, "/providers/Microsoft.CognitiveServices/operations"+version, ""),
		"name")
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

// readAll reads an answer and compares it with the specification.
func (m manager) readAll(res *http.Response, method, path string) []byte {
	m.t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	loadSpecs(m.t).check(m.t, method, path, res.StatusCode, b)
	return b
}
