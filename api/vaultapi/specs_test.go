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

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/visage-face/visage/api/apitest"
)

// specs is the official specification of the keys of a vault; nil when it is not on this machine. It is that of 7.5;
// the forms are the same in all versions served.
type specs map[string]*openapi3.PathItem

var officialSpec = sync.OnceValues(func() (specs, error) {
	dir := apitest.Path("keyvault", "data-plane", "Microsoft.KeyVault", "stable", "7.5")
	var raw, common map[string]any
	for file, into := range map[string]*map[string]any{"keys.json": &raw, "common.json": &common} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		// Common definitions are merged, so that one document contains all.
		if err := json.Unmarshal(bytes.ReplaceAll(data, []byte("common.json#"), []byte("#")), into); err != nil {
			return nil, err
		}
	}
	definitions := raw["definitions"].(map[string]any)
	for name, d := range common["definitions"].(map[string]any) {
		definitions[name] = d
	}
	three, err := apitest.Convert(raw)
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

// loadSpecs returns the specification, or nil.
func loadSpecs(t testing.TB) specs {
	t.Helper()
	return apitest.Load(t, officialSpec)
}

// find returns the operation of a request.
func (s specs) find(method, path string) *openapi3.Operation {
	segments := apitest.Segments(path)
	var best *openapi3.Operation
	literals := -1
	for pattern, item := range s {
		parts := apitest.Segments(pattern)
		if parts[len(parts)-1] == "{key-version}" && len(segments) == len(parts)-1 {
			parts = parts[:len(parts)-1] // the newest version
		} else if i := slices.Index(parts, "{key-version}"); i >= 0 && len(segments) == len(parts)-1 {
			parts = slices.Delete(parts, i, i+1)
		}
		n, fits := apitest.Matches(parts, segments)
		if op := item.GetOperation(method); fits && op != nil && n > literals {
			best, literals = op, n
		}
	}
	return best
}

// check compares an answer with the specification, and leaves its body readable.
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
			t.Errorf("%s: got %d, and the specification has no such operation", what, res.StatusCode)
		}
		return
	}
	apitest.CheckAnswer(t, what, operation, res.StatusCode, body)
}

// TestSpecsCanFail checks that the specification refuses wrong answers.
func TestSpecsCanFail(t *testing.T) {
	s := loadSpecs(t)
	if s == nil {
		t.Skip("the official specification is not on this machine")
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
		fits := !apitest.Fails(func(t testing.TB) {
			s.check(t, req, &http.Response{StatusCode: row.status, Body: io.NopCloser(strings.NewReader(row.body))})
		})
		if fits != row.fits {
			t.Errorf("%s %s %d %s: fits %t, want %t", row.method, row.path, row.status, row.body, fits, row.fits)
		}
	}
}
