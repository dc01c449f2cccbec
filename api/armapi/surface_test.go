package armapi_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/api/apitest"
)

// surfaceFile lists the answer to each operation of the official specifications.
const surfaceFile = "testdata/surface.txt"

// surface is a line of that file: an operation, and its answer when it is not served.
type surface struct {
	method, path string // {} stands for each wildcard
	served       bool
	status       int
	code         string // "[]" for an empty list, "-" for no body
}

func readSurface(t *testing.T) map[string]surface {
	t.Helper()
	file, err := os.Open(surfaceFile)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	all := map[string]surface{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		s := surface{method: words[0], path: words[1]}
		switch s.served = words[2] == "served"; {
		case s.served:
		case len(words) < 5: // status, code, and a reason for people
			t.Fatalf("%s: %q has neither the word served nor status, code and reason", surfaceFile, lines.Text())
		default:
			if _, err := fmt.Sscan(words[2], &s.status); err != nil {
				t.Fatalf("%s: %q: %v", surfaceFile, lines.Text(), err)
			}
			s.code = words[3]
		}
		key := s.method + " " + s.path
		if _, twice := all[key]; twice {
			t.Fatalf("%s: %s is there twice", surfaceFile, key)
		}
		all[key] = s
	}
	return all
}

// describedOperations are the operations of all official specifications of this plane's providers, with {} for each
// wildcard.
func describedOperations(t *testing.T) []string {
	t.Helper()
	return apitest.Load(t, func() ([]string, error) {
		var all []string
		for _, provider := range []string{"cognitiveservices", "keyvault"} {
			err := filepath.WalkDir(apitest.Path(provider, "resource-manager"),
				func(path string, d fs.DirEntry, err error) error {
					if err != nil || d.IsDir() || filepath.Ext(path) != ".json" ||
						strings.Contains(path, "/examples/") {
						return err
					}
					data, err := os.ReadFile(path)
					if err != nil {
						return err
					}
					var described struct {
						Paths map[string]map[string]json.RawMessage
					}
					if err := json.Unmarshal(data, &described); err != nil {
						return err
					}
					for pattern, operations := range described.Paths {
						for method := range operations {
							if m := strings.ToUpper(method); m != "PARAMETERS" {
								all = append(all, m+" "+wildcards.ReplaceAllString(pattern, "{}"))
							}
						}
					}
					return nil
				})
			if err != nil {
				return nil, err
			}
		}
		slices.Sort(all)
		return slices.Compact(all), nil
	})
}

var wildcards = regexp.MustCompile(`\{[^}]*\}`)

// TestProviderSurface compares every operation of the official specifications with the routes of the plane: each is
// served, or gives the answer of the table, and none is missing from the table. Operations of providers without a
// specification here are in the table too.
func TestProviderSurface(t *testing.T) {
	table := readSurface(t)
	if described := describedOperations(t); described != nil {
		for _, operation := range described {
			if _, known := table[operation]; !known {
				t.Errorf("%s lacks %s: serve it, or say what it answers and why", surfaceFile, operation)
			}
		}
	}
	m := start(t)
	m.vault("safe1", "local", "", "", "")
	for _, s := range table {
		t.Run(s.method+" "+s.path, func(t *testing.T) { manager{m.Server, t}.holdSurface(s) })
	}
}

// holdSurface makes a request for an operation and compares the answer with the table.
func (m manager) holdSurface(s surface) {
	m.t.Helper()
	path := "/" + strings.TrimPrefix(s.path, "/")
	for word, value := range map[string]string{
		"subscriptions/{}": m.Operator().SubscriptionID, "providers/{}": "Microsoft.KeyVault",
		// Deletions use another resource, so that the others remain for all rows.
		"accounts/{}/": "default", "Microsoft.KeyVault/vaults/{}/": "safe1",
	} {
		path = strings.Replace(path, "/"+word, "/"+strings.Replace(word, "{}", value, 1), 1)
	}
	for _, word := range []string{"/resourceGroups/{}", "/resourcegroups/{}"} {
		path = strings.Replace(path, word, strings.TrimSuffix(word, "{}")+m.Operator().ResourceGroup, 1)
	}
	path = strings.ReplaceAll(path, "{}", "11111111-1111-4111-8111-111111111111")
	status, header, answer := m.do(s.method, path+"?api-version=2023-05-01", "{}")
	said, _ := at(answer, "error.message").(string)
	if status == http.StatusMethodNotAllowed && header.Get("Allow") != "" || strings.Contains(said, "no such path") ||
		status >= http.StatusInternalServerError {
		m.t.Fatalf("no route: %d %v", status, answer)
	}
	if s.served {
		return
	}
	code, _ := at(answer, "error.code").(string)
	if value, isList := at(answer, "value").([]any); isList && len(value) == 0 {
		code = "[]"
	}
	if answer == nil {
		code = "-"
	}
	if status != s.status || code != s.code {
		m.t.Errorf("got %d %s %v, want %d %s", status, code, answer, s.status, s.code)
	}
}
