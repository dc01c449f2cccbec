package vaultapi_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
)

// specs is the official description of the keys of a vault; nil when it is not on this machine. That of 7.5 is; the
// shapes of what is served are the same in all versions.
type specs map[string]*openapi3.PathItem

var officialSpec = sync.OnceValues(func() (specs, error) {
	shared := os.Getenv("VISAGE_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "..", "shared")
	}
	dir := filepath.Join(shared, "specs", "specification", "keyvault", "data-plane", "Microsoft.KeyVault", "stable", "7.5")
	var raw, common map[string]any
	for file, into := range map[string]*map[string]any{"keys.json": &raw, "common.json": &common} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		// What is common is put beside the rest, so that one document holds all.
		if err := json.Unmarshal(bytes.ReplaceAll(data, []byte("common.json#"), []byte("#")), into); err != nil {
			return nil, err
		}
	}
	definitions := raw["definitions"].(map[string]any)
	for name, d := range common["definitions"].(map[string]any) {
		definitions[name] = d
	}
	for _, section := range []string{"x-ms-paths", "x-ms-parameterized-host", "parameters", "securityDefinitions", "security"} {
		delete(raw, section)
	}
	for _, item := range raw["paths"].(map[string]any) {
		delete(item.(map[string]any), "parameters")
		for _, operation := range item.(map[string]any) {
			for _, part := range []string{"parameters", "x-ms-examples", "security"} {
				delete(operation.(map[string]any), part)
			}
		}
	}
	trimmed, err := json.Marshal(raw)
	if err != nil {
		return nil, err
	}
	var two openapi2.T
	if err := json.Unmarshal(trimmed, &two); err != nil {
		return nil, err
	}
	three, err := openapi2conv.ToV3(&two)
	if err != nil {
		return nil, err
	}
	for _, ref := range three.Components.Schemas {
		for name, property := range ref.Value.Properties {
			if name == "nextLink" {
				property.Value.Nullable = true // null at the end of a list (contract §A4)
			}
		}
	}
	return three.Paths.Map(), nil
})

// loadSpecs returns the description. Without it the tests run all the same, and hold only the contract's own rules.
func loadSpecs(t testing.TB) specs {
	t.Helper()
	s, err := officialSpec()
	if os.IsNotExist(err) {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the official description is missing: %v", err)
		}
		t.Logf("answers are held against the contract's own rules alone: %v", err)
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// find returns the operation that a request is one of.
func (s specs) find(method, path string) *openapi3.Operation {
	segments := strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
	var best *openapi3.Operation
	literals := -1
	for pattern, item := range s {
		parts := strings.Split(strings.Trim(pattern, "/"), "/")
		if parts[len(parts)-1] == "{key-version}" && len(segments) == len(parts)-1 {
			parts = parts[:len(parts)-1] // the newest version
		} else if i := slices.Index(parts, "{key-version}"); i >= 0 && len(segments) == len(parts)-1 {
			parts = slices.Delete(parts, i, i+1)
		}
		n, fits := 0, len(parts) == len(segments)
		for i := 0; fits && i < len(parts); i++ {
			if !strings.HasPrefix(parts[i], "{") {
				fits = strings.EqualFold(parts[i], segments[i])
				n++
			}
		}
		if op := item.GetOperation(method); fits && op != nil && n > literals {
			best, literals = op, n
		}
	}
	return best
}

// check holds an answer against the description, and leaves its body to be read again.
func (s specs) check(t testing.TB, req *http.Request, res *http.Response) {
	t.Helper()
	if s == nil {
		return
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Errorf("read answer: %v", err)
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	what := req.Method + " " + req.URL.Path
	operation := s.find(req.Method, req.URL.Path)
	if operation == nil {
		if res.StatusCode < 400 {
			t.Errorf("%s: got %d, and the description has no such operation", what, res.StatusCode)
		}
		return
	}
	response := operation.Responses.Status(res.StatusCode)
	if response == nil && res.StatusCode >= 400 {
		response = operation.Responses.Default()
	}
	if response == nil {
		t.Errorf("%s: the description has no status %d", what, res.StatusCode)
		return
	}
	content := response.Value.Content.Get("application/json")
	if content == nil {
		if len(body) > 0 {
			t.Errorf("%s: the description has no body for status %d: %s", what, res.StatusCode, body)
		}
		return
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		t.Errorf("%s: %d has no JSON: %v", what, res.StatusCode, err)
		return
	}
	if err := content.Schema.Value.VisitJSON(value, openapi3.VisitAsResponse(), openapi3.MultiErrors()); err != nil {
		t.Errorf("%s: %s does not fit the description: %v", what, body, err)
	}
}

// recorder is a test that only notes that it failed.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Errorf(string, ...any) { r.failed = true }

// TestSpecsCanFail proves that the description refuses what it should.
func TestSpecsCanFail(t *testing.T) {
	s := loadSpecs(t)
	if s == nil {
		t.Skip("the official description is not on this machine")
	}
	for _, row := range []struct {
		method, path, body string
		status             int
		fits               bool
	}{
		{"POST", "/keys/k/create", `{"key":{"kid":"x"},"attributes":{"enabled":true}}`, 200, true},
		{"POST", "/keys/k/create", `{"key":{"kid":1}}`, 200, false},
		{"GET", "/keys/k/", `{"attributes":{"enabled":"yes"}}`, 200, false},
		{"GET", "/keys/k/", `{}`, 201, false},
		{"POST", "/keys/k//wrapkey", `{"value":"AA"}`, 200, true},
		{"POST", "/keys/k//wrapkey", `{"value":{}}`, 200, false},
		{"DELETE", "/deletedkeys/k", ``, 204, true},
		{"GET", "/secrets", `{}`, 200, false},
	} {
		req, err := http.NewRequestWithContext(t.Context(), row.method, "https://v.example"+row.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		var seen recorder
		s.check(&seen, req, &http.Response{StatusCode: row.status, Body: io.NopCloser(strings.NewReader(row.body))})
		if fits := !seen.failed; fits != row.fits {
			t.Errorf("%s %s %d %s: fits %t, want %t", row.method, row.path, row.status, row.body, fits, row.fits)
		}
	}
}
