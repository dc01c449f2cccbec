package faceapi_test

import (
	"bytes"
	"encoding/json"
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

// specs are the official descriptions by base path; empty when they are not on this machine.
type specs map[string]*openapi3.T

// officialFiles are where the descriptions lie. That of the stable v1.2 is not to be had as a file; for what is served
// here, v1.2-preview.1 says the same.
var officialFiles = map[string]string{
	"/face/v1.0": "cognitiveservices/data-plane/Face/stable/v1.0/Face.json",
	"/face/v1.2": "ai/data-plane/Face/preview/v1.2-preview.1/Face.json",
}

// sharedDir returns the directory that accompanies the repository, if it is there.
func sharedDir() string {
	if dir := os.Getenv("VISAGE_SHARED"); dir != "" {
		return dir
	}
	return filepath.Join("..", "..", "..", "shared")
}

var officialSpecs = sync.OnceValues(func() (specs, error) {
	openapi3.DefineStringFormatValidator("uuid", openapi3.NewRegexpFormatValidator(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`))
	s := specs{}
	for base, file := range officialFiles {
		data, err := os.ReadFile(filepath.Join(sharedDir(), "specs", "specification", file))
		if err != nil {
			return nil, err
		}
		doc, err := convert(data)
		if err != nil {
			return nil, err
		}
		knownDifferences(base, doc)
		s[base] = doc
	}
	return s, nil
})

// loadSpecs returns the descriptions. Without them the tests run all the same, and hold only the contract's own rules.
func loadSpecs(t testing.TB) specs {
	t.Helper()
	s, err := officialSpecs()
	if os.IsNotExist(err) {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the official descriptions are missing: %v", err)
		}
		t.Logf("answers are held against the contract's own rules alone: %v", err)
		return specs{}
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// convert turns an OpenAPI 2 file into a document of version 3, without what describes requests and examples.
func convert(data []byte) (*openapi3.T, error) {
	var raw map[string]any
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, err
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
	return openapi2conv.ToV3(&two)
}

// knownDifferences loosens a description where what is served differs from it, and why.
func knownDifferences(base string, doc *openapi3.T) {
	for name, ref := range doc.Components.Schemas {
		schema := ref.Value
		for property, value := range schema.Properties {
			widen := func(values ...any) {
				if value.Value.Enum != nil {
					value.Value.Enum = append(value.Value.Enum, values...)
				}
			}
			switch property {
			case "userData":
				value.Value.Nullable = true // null when it was never set, which the clients' types allow (contract §7)
			case "blurLevel", "noiseLevel", "exposureLevel", "qualityForRecognition":
				if base == "/face/v1.0" { // the live service writes its v1.0 values in lower case (contract §3.3)
					widen("low", "medium", "high", "underExposure", "goodExposure", "overExposure")
				}
			case "status":
				if name == "TrainingStatus" {
					widen("notstarted") // the description has the misprint "nonstarted" (contract §8)
				}
			}
		}
		if name == "TrainingResult" {
			// The live service leaves it out until a training has succeeded (contract §8).
			schema.Required = slices.DeleteFunc(schema.Required, func(s string) bool { return s == "lastSuccessfulTrainingDateTime" })
		}
	}
}

// find returns the operation a request is one of; nil when the description has none.
func (s specs) find(method, path string) (*openapi3.T, *openapi3.Operation) {
	path = "/" + strings.Join(strings.FieldsFunc(path, func(c rune) bool { return c == '/' }), "/")
	for base, doc := range s {
		rest, ok := strings.CutPrefix(path, base)
		if !ok {
			continue
		}
		segments := strings.Split(rest, "/")
		for pattern, item := range doc.Paths.Map() {
			if matches(strings.Split(pattern, "/"), segments) {
				return doc, item.GetOperation(method)
			}
		}
		return doc, nil
	}
	return nil, nil
}

func matches(pattern, segments []string) bool {
	return slices.EqualFunc(pattern, segments, func(p, s string) bool {
		return strings.HasPrefix(p, "{") || strings.EqualFold(p, s)
	})
}

// check holds an answer against the official description.
func (s specs) check(t testing.TB, method, path string, a reply) {
	t.Helper()
	if len(s) == 0 {
		return
	}
	doc, operation := s.find(method, path)
	if doc == nil {
		return
	}
	if operation == nil {
		if a.status < 400 {
			t.Errorf("%s %s: got %d, and the description has no such operation", method, path, a.status)
		}
		checkSchema(t, method+" "+path, errorSchema(doc), a)
		return
	}
	response := operation.Responses.Status(a.status)
	if response == nil && a.status >= 400 {
		response = operation.Responses.Default()
	}
	if response == nil {
		t.Errorf("%s %s: the description has no status %d", method, path, a.status)
		return
	}
	content := response.Value.Content.Get("application/json")
	if content == nil {
		if a.body != "" {
			t.Errorf("%s %s: the description has no body for status %d: %s", method, path, a.status, a.body)
		}
		return
	}
	checkSchema(t, method+" "+path, content.Schema, a)
}

// errorSchema is what an error of any operation looks like.
func errorSchema(doc *openapi3.T) *openapi3.SchemaRef {
	if ref := doc.Components.Schemas["FaceErrorResponse"]; ref != nil {
		return ref
	}
	return doc.Components.Schemas["APIError"]
}

func checkSchema(t testing.TB, what string, schema *openapi3.SchemaRef, a reply) {
	t.Helper()
	var value any
	d := json.NewDecoder(bytes.NewReader([]byte(a.body)))
	if err := d.Decode(&value); err != nil {
		t.Errorf("%s: the description wants a body for %d: %v", what, a.status, err)
		return
	}
	if err := schema.Value.VisitJSON(value, openapi3.VisitAsResponse(), openapi3.MultiErrors()); err != nil {
		t.Errorf("%s: %s does not fit the description: %v", what, a.body, err)
	}
}

// TestSpecsCanFail proves that the descriptions refuse what they should: a check that accepts everything would be
// worthless.
func TestSpecsCanFail(t *testing.T) {
	s := loadSpecs(t)
	if len(s) == 0 {
		t.Skip("the official descriptions are not on this machine")
	}
	for _, row := range []struct {
		path, body string
		status     int
		fits       bool
	}{
		{"/detect", `[]`, 200, true},
		{"/detect", `[{"faceRectangle":{"top":1,"left":1,"width":1,"height":1}}]`, 200, true},
		{"/detect", `[{"faceId":"c5c24a82-6845-4031-9d5d-978df9175426"}]`, 200, false},
		{"/detect", `{}`, 200, false},
		{"/verify", `{"isIdentical":true,"confidence":2}`, 200, false},
		{"/verify", `{"isIdentical":"yes","confidence":0.5}`, 200, false},
		{"/group", `{"groups":[["x"]],"messyGroup":[]}`, 200, false},
		{"/group", `{"groups":[],"messyGroup":[]}`, 201, false},
	} {
		for base := range officialFiles {
			var seen recorder
			s.check(&seen, http.MethodPost, base+row.path, reply{status: row.status, body: row.body})
			if fits := !seen.failed; fits != row.fits {
				t.Errorf("%s%s %d %s: fits %t, want %t", base, row.path, row.status, row.body, fits, row.fits)
			}
		}
	}
}

// recorder is a test that only notes that it failed.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Errorf(string, ...any) { r.failed = true }
