package faceapi_test

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/visage-face/visage/api/apitest"
)

// specs are the official specifications by base path; empty when they are not on this machine.
type specs map[string]*openapi3.T

// officialFiles are the files of the specifications. The stable v1.2 has no file; for the operations served here,
// v1.2-preview.1 is the same.
var officialFiles = map[string]string{
	"/face/v1.0": "cognitiveservices/data-plane/Face/stable/v1.0/Face.json",
	"/face/v1.2": "ai/data-plane/Face/preview/v1.2-preview.1/Face.json",
}

var officialSpecs = sync.OnceValues(func() (specs, error) {
	openapi3.DefineStringFormatValidator("uuid",
		openapi3.NewRegexpFormatValidator(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`))
	s := specs{}
	for base, file := range officialFiles {
		data, err := os.ReadFile(apitest.Path(file))
		if err != nil {
			return nil, err
		}
		var raw map[string]any
		if err := json.Unmarshal(data, &raw); err != nil {
			return nil, err
		}
		doc, err := apitest.Convert(raw)
		if err != nil {
			return nil, err
		}
		knownDifferences(base, doc)
		s[base] = doc
	}
	return s, nil
})

// loadSpecs returns the specifications, or none.
func loadSpecs(t testing.TB) specs {
	t.Helper()
	return apitest.Load(t, officialSpecs)
}

// knownDifferences relaxes a specification where the service differs from it, with the reason.
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
			case "glasses":
				if base == "/face/v1.0" { // the live service writes its v1.0 values with a capital (contract §3.3)
					widen("NoGlasses", "ReadingGlasses", "Sunglasses", "SwimmingGoggles")
				}
			case "type":
				// the live service writes it in lower case (contract §3.3)
				if base == "/face/v1.0" && name == "Accessory" {
					widen("headwear")
				}
			case "status":
				if name == "TrainingStatus" {
					widen("notstarted") // the specification has the misprint "nonstarted" (contract §8)
				}
			}
		}
		if name == "TrainingResult" {
			// The live service omits it until a training has succeeded (contract §8).
			schema.Required = slices.DeleteFunc(schema.Required,
				func(s string) bool { return s == "lastSuccessfulTrainingDateTime" })
		}
	}
}

// find returns the operation of a request; nil when the specification has none.
func (s specs) find(method, path string) (*openapi3.T, *openapi3.Operation) {
	path = "/" + strings.Join(apitest.Segments(path), "/")
	for base, doc := range s {
		rest, ok := strings.CutPrefix(path, base+"/")
		if !ok {
			continue
		}
		for pattern, item := range doc.Paths.Map() {
			if _, ok := apitest.Matches(apitest.Segments(pattern), apitest.Segments(rest)); ok {
				return doc, item.GetOperation(method)
			}
		}
		return doc, nil
	}
	return nil, nil
}

// check compares an answer with the official specification.
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
			if strings.Contains(path, "/migration") {
				return // an extension of ours
			}
			t.Errorf("%s %s: got %d, and the specification has no such operation", method, path, a.status)
		}
		apitest.CheckBody(t, method+" "+path, errorSchema(doc), []byte(a.body))
		return
	}
	apitest.CheckAnswer(t, method+" "+path, operation, a.status, []byte(a.body))
}

// errorSchema is the schema of an error of any operation.
func errorSchema(doc *openapi3.T) *openapi3.SchemaRef {
	if ref := doc.Components.Schemas["FaceErrorResponse"]; ref != nil {
		return ref
	}
	return doc.Components.Schemas["APIError"]
}

// TestSpecsCanFail checks that the specifications refuse wrong answers: a check that accepts everything would be
// worthless.
func TestSpecsCanFail(t *testing.T) {
	s := loadSpecs(t)
	if len(s) == 0 {
		t.Skip("the official specifications are not on this machine")
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
			fits := !apitest.Fails(func(t testing.TB) {
				s.check(t, http.MethodPost, base+row.path, reply{status: row.status, body: row.body})
			})
			if fits != row.fits {
				t.Errorf("%s%s %d %s: fits %t, want %t", base, row.path, row.status, row.body, fits, row.fits)
			}
		}
	}
}
