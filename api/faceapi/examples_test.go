package faceapi_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/apitest"
)

// TestOfficialExamplesAreUnderstood sends the request of every example in the official specifications: none may be
// refused for its form. The objects that the examples name do not exist here, and the answers say so.
func TestOfficialExamplesAreUnderstood(t *testing.T) {
	if len(loadSpecs(t)) == 0 {
		t.Skip("the official specifications are not on this machine")
	}
	r := newFaceServer(t)
	for base, file := range officialFiles {
		file = apitest.Path(file)
		var doc map[string]map[string]map[string]struct {
			Examples map[string]struct {
				Ref string `json:"$ref"`
			} `json:"x-ms-examples"`
			Parameters []struct{ Name, In string }
		}
		readPaths(t, file, &doc)
		sent := 0
		for _, section := range doc {
			for pattern, item := range section {
				pattern, _, _ = strings.Cut(pattern, "?")
				for method, operation := range item {
					method = strings.ToUpper(method)
					if !slices.ContainsFunc(r.plane.Routes,
						func(route api.Route) bool { return route.Label() == method+" "+base+pattern }) {
						continue
					}
					inQuery := map[string]bool{}
					for _, p := range operation.Parameters {
						inQuery[p.Name] = p.In == "query"
					}
					for name, example := range operation.Examples {
						c := exampleCall(t, filepath.Join(filepath.Dir(file), example.Ref), pattern, inQuery)
						c.method, c.path = method, base+c.path
						sent++
						a := r.do(t, c)
						switch code := a.header.Get("x-ms-error-code"); code {
						case "BadArgument", "UnsupportedMediaType", "404", "405", "413":
							t.Errorf("%s %s (%s): got %d %s", c.method, c.path, name, a.status, a.body)
						}
					}
				}
			}
		}
		t.Logf("%s: %d examples sent", base, sent)
		if sent < 45 {
			t.Errorf("%s: only %d examples were found", base, sent)
		}
	}
}

// readPaths reads the two sections of paths, without custom fields.
func readPaths(t *testing.T, file string, into any) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		t.Fatal(err)
	}
	paths := fmt.Sprintf(`{"paths":%s,"x-ms-paths":%s}`, whole["paths"], whole["x-ms-paths"])
	if err := json.Unmarshal([]byte(paths), into); err != nil {
		t.Fatal(err)
	}
}

// exampleCall makes the call of an example: objects are bodies, other values belong to the path or the query.
func exampleCall(t *testing.T, file, pattern string, inQuery map[string]bool) call {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var example struct{ Parameters map[string]any }
	if err := json.Unmarshal(data, &example); err != nil {
		t.Fatal(err)
	}
	var c call
	query := url.Values{}
	for name, value := range example.Parameters {
		switch v := value.(type) {
		case map[string]any:
			if v["url"] != nil {
				v["url"] = "mailto:nobody" // the example's own would be fetched
			}
			c.json = v
		default:
			text := fmt.Sprint(v)
			if list, ok := v.([]any); ok {
				text = strings.Trim(strings.ReplaceAll(fmt.Sprint(list), " ", ","), "[]")
			}
			pattern = strings.ReplaceAll(pattern, "{"+name+"}", text)
			if inQuery[name] {
				query.Set(name, text)
			}
			if strings.EqualFold(name, "image") || strings.EqualFold(name, "imageContent") {
				c.image = "ann"
			}
		}
	}
	c.path = pattern + "?" + query.Encode()
	return c
}
