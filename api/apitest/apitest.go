// Package apitest lets the tests of the planes hold what is answered against the official OpenAPI descriptions.
//
// The descriptions lie outside of the repository, in the directory that accompanies it. Where they are missing, tests
// go by the contract's own rules alone; with CI=true that is a failure.
package apitest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
)

// Path returns where a file of the official descriptions lies: below "specs/specification" of the directory that
// VISAGE_SHARED names or, by default, of the directory "shared" beside the repository.
func Path(elements ...string) string {
	shared := os.Getenv("VISAGE_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "..", "shared") // tests run in the folder of their plane, two below the root
	}
	return filepath.Join(append([]string{shared, "specs", "specification"}, elements...)...)
}

// Load returns what read makes of the descriptions, and the zero value when they are not on this machine.
func Load[T any](t testing.TB, read func() (T, error)) T {
	t.Helper()
	loaded, err := read()
	if errors.Is(err, fs.ErrNotExist) && os.Getenv("CI") != "true" {
		t.Logf("answers are held against the contract's own rules alone: %v", err)
		var none T
		return none
	}
	if err != nil {
		t.Fatalf("read the official description: %v", err)
	}
	return loaded
}

// Convert turns an OpenAPI 2 document, as encoding/json decodes it, into one of version 3, without what describes
// requests and examples. It changes raw.
func Convert(raw map[string]any) (*openapi3.T, error) {
	for _, section := range []string{"x-ms-paths", "x-ms-parameterized-host", "parameters", "securityDefinitions",
		"security"} {
		delete(raw, section)
	}
	paths, _ := raw["paths"].(map[string]any)
	if len(paths) == 0 {
		return nil, errors.New("the description has no paths")
	}
	for _, item := range paths {
		operations, _ := item.(map[string]any)
		delete(operations, "parameters")
		for _, o := range operations {
			operation, _ := o.(map[string]any)
			for _, part := range []string{"parameters", "x-ms-examples", "security"} {
				delete(operation, part)
			}
		}
	}
	trimmed, err := json.Marshal(raw)
	if err != nil {
		return nil, fmt.Errorf("trim the description: %w", err)
	}
	var two openapi2.T
	if err := json.Unmarshal(trimmed, &two); err != nil {
		return nil, fmt.Errorf("read the description: %w", err)
	}
	return openapi2conv.ToV3(&two)
}

// Segments splits a path as the planes do: empty segments mean nothing.
func Segments(path string) []string {
	return strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
}

// Matches says whether a path is one of a pattern's, and in how many segments the pattern has no choice. Literals match
// in any case.
func Matches(pattern, path []string) (literals int, ok bool) {
	ok = slices.EqualFunc(pattern, path, func(p, s string) bool {
		if strings.HasPrefix(p, "{") {
			return true
		}
		literals++
		return strings.EqualFold(p, s)
	})
	return literals, ok
}

// CheckAnswer reports an answer that is not as the operation is described. what names it in the report.
func CheckAnswer(t testing.TB, what string, operation *openapi3.Operation, status int, body []byte) {
	t.Helper()
	response := operation.Responses.Status(status)
	if response == nil && status >= 400 {
		response = operation.Responses.Default()
	}
	if response == nil {
		t.Errorf("%s: the description has no status %d", what, status)
		return
	}
	content := response.Value.Content.Get("application/json")
	if content == nil {
		if len(body) > 0 {
			t.Errorf("%s: the description has no body for status %d: %s", what, status, body)
		}
		return
	}
	CheckBody(t, fmt.Sprintf("%s: %d", what, status), content.Schema, body)
}

// CheckBody reports a body that is not as a schema describes it.
func CheckBody(t testing.TB, what string, schema *openapi3.SchemaRef, body []byte) {
	t.Helper()
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		t.Errorf("%s has no JSON: %v", what, err)
		return
	}
	if err := schema.Value.VisitJSON(value, openapi3.VisitAsResponse(), openapi3.MultiErrors()); err != nil {
		t.Errorf("%s: %s does not fit the description: %v", what, body, err)
	}
}

// Fails says whether a check reports anything. Tests prove with it that what they go by refuses what it should.
func Fails(check func(t testing.TB)) bool {
	var seen recorder
	check(&seen)
	return seen.failed
}

// recorder is a test that only notes that it failed.
type recorder struct {
	testing.TB // nil: a check that does more than report panics
	failed     bool
}

// Helper implements testing.TB.
func (r *recorder) Helper() {}

// Errorf implements testing.TB.
func (r *recorder) Errorf(string, ...any) { r.failed = true }
