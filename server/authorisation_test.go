package server_test

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/server"
)

var update = flag.Bool("update", false, "rewrite the table of authorisations")

// authorisationTable is the page with the answer of every route to every kind of caller.
const authorisationTable = "docs/authorisation.md"

// TestAuthorisation sends every kind of caller to every route of every plane, and compares the answers with rules,
// which say what must never happen, and with the committed table, which has all answers. The routes come from the
// specification that the server generates from its route tables: a new route fails here until its line in the table has
// been reviewed.
func TestAuthorisation(t *testing.T) {
	if testing.Short() {
		t.Skip("makes thousands of requests")
	}
	w := newPopulatedServer(t)
	var page strings.Builder
	page.WriteString(authorisationPreface)
	routes := w.routes(t)
	asked := 0
	for _, plane := range []string{"face", "management", "vault", "token", "graph"} {
		kinds := w.callers(plane)
		fmt.Fprintf(&page, "\n## Plane `%s`\n\n", plane)
		for i, k := range kinds {
			fmt.Fprintf(&page, "%d. %s\n", i+1, k.name)
		}
		page.WriteString("\n| route |")
		for i := range kinds {
			fmt.Fprintf(&page, " %d |", i+1)
		}
		page.WriteString("\n| --- |" + strings.Repeat(" --- |", len(kinds)) + "\n")
		of := routes[plane]
		if len(of) == 0 {
			t.Fatalf("plane %s has no routes", plane)
		}
		delete(routes, plane)
		for _, r := range of {
			fmt.Fprintf(&page, "| `%s %s` |", r.method, r.pattern)
			for _, k := range kinds {
				got := w.ask(t, r, k)
				asked++
				if want := k.rule(r); want != "" && got != want {
					t.Errorf("%s %s as %s: %s, but the rule says %s", r.method, r.pattern, k.name, got, want)
				}
				fmt.Fprintf(&page, " %s |", got)
			}
			page.WriteString("\n")
		}
	}
	asked += w.console(t, &page)
	for plane := range routes {
		t.Errorf("this test has no callers for the plane %s", plane)
	}
	t.Attr("questions", fmt.Sprint(asked))
	compareTable(t, page.String())
}

func compareTable(t *testing.T, got string) {
	t.Helper()
	path := filepath.Join("..", authorisationTable)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wanted, have := strings.Split(string(want), "\n"), strings.Split(got, "\n")
	for _, line := range have {
		if !slices.Contains(wanted, line) {
			t.Errorf("%s lacks: %s", authorisationTable, line)
		}
	}
	for _, line := range wanted {
		if !slices.Contains(have, line) {
			t.Errorf("%s has a wrong line: %s", authorisationTable, line)
		}
	}
	if t.Failed() {
		t.Log("review each difference; if all are intended: go test ./server -run TestAuthorisation -update")
	}
}

const authorisationPreface = `# Who may do what: every route, every kind of caller

For the security officer. The table is made from the route tables of the running server: each route was asked as each kind of caller. A test asks again and
fails when an answer changes, or when there is a route without a line here.

"in" means that the caller was let in to the operation (which may then have refused the request for what it asks: the test asks for things that do not exist).
"401" means that nobody, or the wrong one, was proved; "403" that the caller is known and may not. Pages for machines, at ` +
	"`/healthz`, `/readyz`, `/metrics` and `/openapi.json`" + `, are for everybody who
reaches the port; they hold no names of customers.

Two things are on purpose. A bearer token that opens nothing on the Face plane is answered with 401 even where the identity is known, so that nobody learns which
resources there are. And "a policy with all" does not reach purging, rotation and rotation policies: these have to be named, as in Azure.
`

// route is one operation of one plane.
type route struct{ plane, method, pattern, body string }

// routes reads the server's specification of itself, sorted, by plane.
func (w *populatedServer) routes(t *testing.T) map[string][]route {
	t.Helper()
	res, err := w.Client.Get(w.URL + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var doc struct {
		Paths map[string]map[string]struct {
			Tags        []string
			RequestBody struct {
				Content map[string]struct {
					Schema struct {
						Ref string `json:"$ref"`
					}
				}
			}
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	all := map[string][]route{}
	for pattern, methods := range doc.Paths {
		for method, op := range methods {
			ref := op.RequestBody.Content["application/json"].Schema.Ref
			r := route{op.Tags[0], strings.ToUpper(method), pattern, ref[strings.LastIndex(ref, "/")+1:]}
			all[r.plane] = append(all[r.plane], r)
		}
	}
	for _, routes := range all {
		slices.SortFunc(routes, func(a, b route) int {
			return cmp.Or(strings.Compare(a.pattern, b.pattern), strings.Compare(a.method, b.method))
		})
	}
	return all
}

// bodies are the bodies for the operations of vaults, by the name of their type: a vault reads the body before it looks
// up the key. All other planes decide on the caller first, and get invalid JSON.
var bodies = map[string]string{
	"vault.blobBody":    `{"value":"AAAA"}`,
	"vault.createBody":  `{"kty":"EC","crv":"P-256"}`,
	"vault.importBody":  `{"key":{"kty":"EC","crv":"P-256","x":"AA","y":"AA","d":"AA"}}`,
	"vault.updateBody":  `{}`,
	"vault.policyBody":  `{}`,
	"vault.releaseBody": `{"target":"a.b.c"}`,
	"vault.useBody":     `{"alg":"RSA-OAEP-256","value":"AAAA","digest":"AAAA","signature":"AAAA"}`,
}

// ask makes a request and classifies the answer in a word.
func (w *populatedServer) ask(t *testing.T, r route, k kind) string {
	t.Helper()
	op := w.Operator()
	segments := strings.Split(r.pattern, "/")
	for i, s := range segments {
		switch s {
		case "{subscription}":
			segments[i] = op.SubscriptionID
		case "{group}":
			segments[i] = op.ResourceGroup
		case "{tenant}":
			segments[i] = op.TenantID
		default:
			if strings.HasPrefix(s, "{") {
				segments[i] = nobody
			}
		}
	}
	address, body := w.URL+strings.Join(segments, "/"), "{"
	switch r.plane {
	case "management":
		address += "?api-version=2025-09-01"
	case "vault":
		address += "?api-version=7.4"
		if b, found := bodies[r.body]; found {
			body = b
		} else if r.body != "" {
			t.Fatalf("%s %s: this test has no body of type %s", r.method, r.pattern, r.body)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), r.method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if k.key != "" {
		req.Header.Set("Ocp-Apim-Subscription-Key", k.key)
	}
	if k.token != "" {
		req.Header.Set("Authorization", "Bearer "+k.token)
	}
	if k.host != "" {
		_, port, _ := strings.Cut(strings.TrimPrefix(w.URL, "https://"), ":")
		req.Host = k.host + ".localhost:" + port
	}
	res, err := w.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusForbidden &&
		!isOfTheThing(r.plane, said):
		return fmt.Sprint(res.StatusCode)
	case res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests ||
		strings.Contains(string(said), "no such path"):
		t.Errorf("%s %s as %s: %d %s", r.method, r.pattern, k.name, res.StatusCode, said)
	}
	return "in"
}

// isOfTheThing reports whether a 403 is about the object and not the caller: an unsupported feature, or a key that does
// not permit an operation.
func isOfTheThing(plane string, body []byte) bool {
	var said struct {
		Error struct{ InnerError struct{ Code string } }
	}
	if json.Unmarshal(body, &said) != nil {
		return false
	}
	code := said.Error.InnerError.Code
	return plane == "face" && code == "UnsupportedFeature" ||
		plane == "vault" && code != "AccessDenied" && code != "ForbiddenByRbac"
}

// nobody is used where a path needs a name or an id: no object has it.
const nobody = "11111111-1111-1111-1111-111111111111"

// TestPagesForMachines checks that these pages, and only these, need no credential.
func TestPagesForMachines(t *testing.T) {
	w := newOfficer(t, server.Config{})
	for _, page := range []string{"/healthz", "/readyz", "/metrics", "/openapi.json"} {
		if text := w.page(t, page); strings.Contains(text, w.Key) {
			t.Errorf("%s tells a key", page)
		}
		res, err := w.Client.Post(w.URL+page, "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", page, res.StatusCode)
		}
	}
}
