package visage_test

import (
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the page of refusals anew")

// refusalPage is the page that lists every refusal of the product.
const refusalPage = "docs/refusals.md"

// TestRefusals reads every refusal in the source, and holds the committed page against them: each has its planes, its
// status and what to do about it, and no two say the same thing in different words.
func TestRefusals(t *testing.T) {
	found, unread := readRefusals(t)
	for _, e := range unread {
		t.Error(e)
	}
	if len(found) < 300 {
		t.Fatalf("found only %d refusals: the test reads the wrong place", len(found))
	}
	lines := map[string][]string{}
	statuses := kindStatuses(t)
	used := map[string]bool{}
	for _, r := range found {
		planes := planesOf(r)
		if planes == "" {
			t.Errorf("%s: say in planesOf where refusals of %s appear", r.at, r.room)
			continue
		}
		status := cmp.Or(codeStatuses[r.code], statuses[r.status])
		if status == 0 {
			t.Errorf("%s: no status is known for %s", r.at, r.status)
		}
		if status == 0 || r.status == "statusClientGone" {
			continue // nobody receives it
		}
		do := whatToDo(r, status, used)
		if do == "" {
			t.Errorf("%s: the sentence %q does not say what to do: say it there, or in remedies for the code %q", r.at,
				r.sentence, r.code)
		}
		code := "`" + r.code + "`"
		if r.code == "" {
			code = "(by plane)"
		}
		if r.inner != "" {
			code += " / `" + r.inner + "`"
		}
		line := fmt.Sprintf("| %d | %s | %s | %s |", status, code, cell(r.sentence), cell(do))
		if !slices.Contains(lines[planes], line) {
			lines[planes] = append(lines[planes], line)
		}
	}
	for of := range remedies {
		if !used[of] {
			t.Errorf("remedies has %q, which no refusal needs: remove it", of)
		}
	}
	checkContradictions(t, found)
	compareRefusals(t, lines)
}

// cell makes a text fit for a cell of a table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "<", `\<`, "*", `\*`, "_", `\_`, "\n", " ").Replace(text)
}

// compareRefusals compares the page with what the source says, or writes it.
func compareRefusals(t *testing.T, lines map[string][]string) {
	t.Helper()
	var page strings.Builder
	page.WriteString(refusalPreface)
	for _, planes := range planeOrder {
		if len(lines[planes]) == 0 {
			t.Errorf("planeOrder has %q, where no refusal appears", planes)
		}
		slices.Sort(lines[planes])
		fmt.Fprintf(&page, "\n## %s\n\n| status | code | message | what to do |\n| --- | --- | --- | --- |\n", planes)
		page.WriteString(strings.Join(lines[planes], "\n") + "\n")
		delete(lines, planes)
	}
	for planes := range lines {
		t.Errorf("planeOrder lacks %q", planes)
	}
	if *update {
		if err := os.WriteFile(refusalPage, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed := strings.Split(readText(t, refusalPage), "\n")
	made := strings.Split(page.String(), "\n")
	for _, line := range made {
		if !slices.Contains(committed, line) {
			t.Errorf("%s lacks: %s", refusalPage, line)
		}
	}
	for _, line := range committed {
		if !slices.Contains(made, line) {
			t.Errorf("%s has a line that the source no longer gives: %s", refusalPage, line)
		}
	}
	if t.Failed() {
		t.Log("read each difference; when all are meant: go test . -run TestRefusals -update")
	}
}

// checkContradictions wants one sentence for one thing: two sentences of a code that differ in nothing but a number, a
// value's name or small words contradict each other, or are one.
func checkContradictions(t *testing.T, found []rejection) {
	t.Helper()
	first := map[string]rejection{}
	for _, r := range found {
		words := strings.ToLower(bare.ReplaceAllString(r.sentence, " _ "))
		words = strings.Join(strings.Fields(small.ReplaceAllString(words, " ")), " ")
		key := planesOf(r) + r.code + r.inner + words
		before, ok := first[key]
		if !ok {
			first[key] = r
			continue
		}
		if bare.ReplaceAllString(before.sentence, "{}") != bare.ReplaceAllString(r.sentence, "{}") &&
			!limitsDiffer(words) {
			t.Errorf("%s and %s refuse with %s in two ways: %q and %q", before.at, r.at, r.code, before.sentence,
				r.sentence)
		}
	}
}

var small = regexp.MustCompile(`\d+|[^\w\s]|\b(the|a|an|is|are|was|it|its|there|here|at|to|of|in|must|be)\b`)

// limitsDiffer says whether a sentence is about a limit that is another one for other fields or operations, by the
// contract.
func limitsDiffer(words string) bool {
	return slices.ContainsFunc([]string{"faceids", "userdata may have", "maxnumofcandidatesreturned", "body nests",
		"api version", "letters digits hyphens underscores", "filter clause lacks"},
		func(s string) bool { return strings.Contains(words, s) })
}

// kindStatuses reads the statuses of the kinds of refusals where api maps them, and adds those of net/http that the
// planes answer with by name.
func kindStatuses(t *testing.T) map[string]int {
	t.Helper()
	all := map[string]int{}
	for status := 400; status < 600; status++ {
		if text := http.StatusText(status); text != "" {
			all["Status"+strings.NewReplacer(" ", "", "-", "", "'", "").Replace(text)] = status
		}
	}
	all["statusClientGone"] = 499
	f, err := parser.ParseFile(token.NewFileSet(), "api/problem.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	kinds := 0
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Name.Name != "statusOf" {
			continue
		}
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			c, ok := n.(*ast.CaseClause)
			if !ok {
				return true
			}
			status := c.Body[0].(*ast.ReturnStmt).Results[0].(*ast.SelectorExpr).Sel.Name
			for _, kind := range c.List {
				all[kind.(*ast.SelectorExpr).Sel.Name] = all[status]
				kinds++
			}
			return true
		})
	}
	if kinds < 10 {
		t.Fatalf("api/problem.go maps only %d kinds: the test reads the wrong place", kinds)
	}
	return all
}

// codeStatuses are the statuses that the management plane gives a code in place of its kind's.
var codeStatuses = map[string]int{
	"PreconditionFailed": http.StatusPreconditionFailed,
	"MethodNotAllowed":   http.StatusMethodNotAllowed,
}

var planeOrder = []string{everyPlane, face, faceManagement, management, vaultPlane, tokenPlane, signedIn, graphPlane,
	endpoint, console}

// The planes where refusals appear, as the page calls them.
const (
	everyPlane     = "Every plane"
	face           = "Face"
	faceManagement = "Face and management"
	management     = "Management"
	vaultPlane     = "Key vault, and vaults in management"
	tokenPlane     = "Token"
	signedIn       = "Every plane that takes bearer tokens"
	graphPlane     = "Directory (Microsoft Graph)"
	endpoint       = "Endpoint of managed identities"
	console        = "Console"
)

// planesOf says on which planes a refusal can appear.
func planesOf(r rejection) string {
	switch r.room {
	case "api", "sealed", "sealed/internal/lease", "sealed/internal/volume", "sealed/internal/postgres",
		"sealed/internal/keys", "sealed/internal/keystore", "sealed/internal/place":
		if r.code == "CrossOriginRequest" {
			return console
		}
		return everyPlane
	case "api/faceapi":
		return face
	case "face":
		if strings.HasPrefix(r.code, "LegalHold") || strings.HasPrefix(r.code, "EncryptionKey") {
			return faceManagement
		}
		return face
	case "account", "custody", "keysource/stores", "server", "server/drill", "server/registry":
		switch {
		case strings.HasPrefix(r.code, "EncryptionKey"):
			return faceManagement
		case r.code == "401", r.code == "403", r.code == "AuthenticationTypeDisabled", r.code == "PermissionDenied":
			return face
		case r.code == "InvalidAuthenticationTokenTenant":
			return signedIn
		case r.code == "InvalidForwardedHeaders", r.code == "MethodNotAllowed": // before a plane is found
			return everyPlane
		}
		return management
	case ".", "api/armapi":
		return management
	case "keyvault", "api/vaultapi":
		if strings.HasPrefix(r.code, "PrivateKey") { // ReadPrivateKey, for forms
			return console
		}
		return vaultPlane
	case "api/tokenapi":
		return tokenPlane
	case "identity":
		switch {
		case r.inner != "":
			return tokenPlane
		case slices.Contains([]string{"SessionEnded", "SessionNotFound", "OneTimeCodeSpent", "InvalidPasskey",
			"PasskeyExists", "PasskeyNotFound"}, r.code):
			return console
		case r.status == "Unauthenticated":
			return signedIn
		}
		return management
	case "console":
		return console
	case "api/graphapi":
		return graphPlane
	case "api/identityapi":
		return endpoint
	}
	return ""
}

// whatToDo is the last part of the sentence when that tells the reader to do something, else what remedies has for the
// code: with the inner code, alone, or by status.
func whatToDo(r rejection, status int, used map[string]bool) string {
	for _, at := range clause.FindAllStringSubmatchIndex(r.sentence, -1) {
		if doing[strings.ToLower(r.sentence[at[2]:at[3]])] {
			rest := r.sentence[at[2]:]
			rest = strings.ToUpper(rest[:1]) + rest[1:]
			return rest
		}
	}
	for _, of := range []string{r.sentence, r.code + "/" + r.inner, r.room + " " + r.code, r.code,
		fmt.Sprintf("%d", status)} {
		if do := remedies[of]; do != "" {
			used[of] = true
			return do
		}
	}
	return ""
}

// clause is the first word of each clause or sentence.
var clause = regexp.MustCompile(`(?:^|[.:;] |, and )([A-Za-z]+)\b`)

var doing = func() map[string]bool {
	all := map[string]bool{}
	for _, w := range strings.Fields(`add ask assign check choose complete create decode delete enable get give
		import leave make name percent purge recover release repeat request restore
		select send set specify submit switch try use wait withdraw`) {
		all[w] = true
	}
	return all
}()

const refusalPreface = `# Refusals

For developers and operators who meet an error. This page lists every refusal of the product: its HTTP status, its code
(with the inner code behind a slash, where the answer has one), its message and what to do. {Names} in braces stand for
values of the request or of the resource. The page is made from the source; a test fails when it is out of date.

"(by plane)" is a refusal that every plane spells with its own code for the status: for 400 that is ` +
	"`BadArgument` on the Face\nplane, `BadParameter` in a key vault and `InvalidRequestContent` in management." + `

Anything that is not a refusal is an error of the service: the answer is 500 with a request id, and the log of the
service has the cause under the same id.
`
