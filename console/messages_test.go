package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"html/template"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/template/parse"
	"unicode"
)

// families are the messages whose keys are put together at run time: the beginning, and what may follow it. A family
// with an empty list is checked by a test of its own.
var families = map[string][]string{
	"condition.":      {"service-managed", "active", "degraded", "revoked", "unavailable", "locked"},
	"tryit.way.":      tries,
	"replicas.state.": {"serving", "starting", "stopping", "ended"},
	"stores.answer.":  {"ok", "denied", "wrong", "unknown", "expired"},
	"stores.step.":    {"reachable", "certificate", "login", "key"},
	"stores.kind.":    {"https", "hashivault", "awskms", "gcpkms", "kmip", "pkcs11"},
	"stores.method.": {"federated", "jwt", "approle", "token", "web-identity", "static", "workload-identity",
		"service-account", "certificate", "pin"},
	"stores.field.": nil, // a field without a message has its own name; TestStorePages looks at some
	"tryit.": {"detect", "compare", "identify", "similar", "detect.what", "compare.what", "identify.what",
		"similar.what", "in.identify", "in.identify.hint", "in.similar", "in.similar.hint"},
	"faces.fault.": {"not-a-picture", "broken", "too-few-bytes", "too-many-bytes", "too-many-pixels", "no-face",
		"several-faces", "low-quality"},
	"faces.kind.":          {"persongroups", "largepersongroups", "facelists", "largefacelists"},
	"faces.one.":           {"persongroups", "largepersongroups", "facelists", "largefacelists"},
	"faces.new.kind.":      {"persongroups", "largepersongroups", "facelists", "largefacelists"},
	"faces.quality.":       {"ungraded", "low", "medium", "high"},
	"faces.training.":      {"current", "unneeded", "running", "failed", "never", "outdated"},
	"faces.erased.":        {"person", "face", "collection"},
	"faces.receipt.what.":  {"person.delete", "face.delete", "group.delete"},
	"faces.receipt.grade.": {"D0", "D1W", "D1", "D2"},

	"time.month.":   {"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"},
	"create.tier.":  {"f0", "s0", "e0"},
	"resource.tab.": nil,
	"refusal.":      nil,
	"audit.":        nil, // held by refusals_french_test.go

	"encryption.check.": {"tier-allows", "access-approved", "identity-on", "key-named", "vault-known", "soft-delete",
		"purge-protection", "same-region", "same-tenant", "no-other-change", "present-key-answers",
		"identity-registered", "firewall-admits", "may-get", "key-exists", "key-type", "key-enabled", "key-valid",
		"key-operations", "may-wrap", "may-unwrap", "round-trip"},
	"kind.":                   {"person", "application", "systemassigned", "userassigned"},
	"sessions.method.":        {"one-time-address", "passkey", "openid"},
	"role.":                   nil, // held by TestRolesAreExplained
	"auditlog.topic.":         nil,
	"metrics.picture.":        {"requests", "latency", "gallery", "checks", "disk"},
	"metrics.span.":           {"1h", "24h", "7d"},
	"operations.holds.":       {"data", "epoch-keys", "anchors"},
	"operations.certificate.": {"file", "authority", "issuer-ca", "issuer"},
	"operations.alert.":       {"revoked", "locked", "unavailable", "degraded"},
	"encryption.mend.":        remedies,
	"encryption.mended.":      remedies,
	"encryption.rehearse.step.": {"backup", "keyring", "restore", "start", "revoke", "inspect", "give-back",
		"remove"},
	"encryption.rehearse.check.": {"refused", "reason", "keys", "listed", "others", "opened", "answers"},
	"encryption.cause.": {"permission", "disabled", "missing", "firewall", "not-yet-valid", "expired", "identity",
		"denied", "wrong", "unknown"},
	"encryption.verdict.": {"service-managed", "active", "degraded", "revoked", "unavailable", "locked"},
	"encryption.kind.": {"enable", "switch", "update", "follow", "disable", "add-store", "remove-store",
		"promote-store"},
	"encryption.store.": {"remove", "remove.key", "remove.answers", "remove.revoke", "remove.submit", "remove.done",
		"promote", "promote.key", "promote.answers", "promote.revoke", "promote.submit", "promote.done"},
	"encryption.step.": {"wrapped", "intended", "pending", "acked", "turned", "destroyed", "rewrapped", "done"},
}

// remedies are the operations that mend a precondition of a customer's key, without those that saving the key does.
var remedies = []string{"request-access", "approve-access", "unlock-resource", "recover-vault",
	"switch-purge-protection-on", "allow-trusted-services", "create-key", "recover-key", "enable-key",
	"change-key-dates", "allow-key-operations"}

// TestFrenchUnits holds that a line does not end between a number and what it counts.
func TestFrenchUnits(t *testing.T) {
	fr, err := readCatalogue("fr")
	if err != nil {
		t.Fatal(err)
	}
	parted := regexp.MustCompile(`%(\[\d\])?d (jour|heure|minute|seconde|octet|personne|visage|photo)s?\b`)
	for key, m := range fr {
		if found := parted.FindString(m.text + " | " + m.other); found != "" {
			t.Errorf("%s: write %q with a no-break space", key, found)
		}
	}
}

// TestMessages holds that both languages have every message that pages and code use, with the same arguments, and no
// others.
func TestMessages(t *testing.T) {
	en, err := readCatalogue("en")
	if err != nil {
		t.Fatal(err)
	}
	fr, err := readCatalogue("fr")
	if err != nil {
		t.Fatal(err)
	}
	used := usedKeys(t)
	for prefix, ends := range families {
		for _, end := range ends {
			used[prefix+end] = "families"
		}
	}
	inFamily := func(key string) bool {
		for prefix, ends := range families {
			if ends == nil && strings.HasPrefix(key, prefix) {
				return true
			}
		}
		return false
	}
	for _, key := range slices.Sorted(maps.Keys(en)) {
		if used[key] == "" && !inFamily(key) {
			t.Errorf("message %q is used nowhere: remove it, or add its family", key)
		}
		if _, found := fr[key]; !found && !strings.HasPrefix(key, "refusal.") {
			t.Errorf("message %q has no French text", key)
		}
		if a, b := placeholders(en[key]), placeholders(fr[key]); !slices.Equal(a, b) {
			t.Errorf("message %q takes %v in English and %v in French", key, a, b)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(fr)) {
		if _, found := en[key]; !found && !strings.HasPrefix(key, "refusal.") {
			t.Errorf("message %q has no English text", key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(used)) {
		if _, found := en[key]; !found {
			t.Errorf("%s uses message %q, which is not there", used[key], key)
		}
	}
}

// TestMessagesAreThereOnce: of two messages with one key in a file, the decoder silently takes the last.
func TestMessagesAreThereOnce(t *testing.T) {
	names, err := fs.Glob(files, "messages/*/*.json")
	if err != nil || len(names) == 0 {
		t.Fatalf("no messages (%v)", err)
	}
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		d, depth, isKey, seen := json.NewDecoder(bytes.NewReader(text)), 0, true, map[string]bool{}
		for {
			token, err := d.Token()
			if err != nil {
				break // the end; what cannot be read fails elsewhere
			}
			switch token := token.(type) {
			case json.Delim:
				if depth++; token == '}' {
					depth -= 2
				}
				isKey = depth == 1
			case string:
				if depth == 1 && isKey && seen[token] {
					t.Errorf("%s has %q twice", name, token)
				}
				if depth == 1 && isKey {
					seen[token] = true
				}
				if depth == 1 {
					isKey = !isKey
				}
			}
		}
	}
}

var placeholder = regexp.MustCompile(`%(\[\d+\])?[-+# 0]*[\d.]*[a-zA-Z%]`)

// placeholders are the verbs of a message, in the order of their arguments, each once.
func placeholders(m catalogued) []string {
	seen, next := map[string]bool{}, 1
	for _, verb := range placeholder.FindAllString(m.text+m.other, -1) {
		if strings.HasSuffix(verb, "%") {
			continue
		}
		at := strings.Index(verb, "]")
		if at < 0 {
			if m.other == "" {
				verb = fmt.Sprintf("%%[%d]%s", next, verb[1:])
			}
			next++
		}
		seen[verb] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// usedKeys finds the keys in templates and code, with where each is used.
func usedKeys(t *testing.T) map[string]string {
	t.Helper()
	used := map[string]string{}
	for name, tree := range templates(t) {
		walk(tree.Root, func(n parse.Node) {
			c, ok := n.(*parse.CommandNode)
			if !ok || len(c.Args) < 2 {
				return
			}
			f, isFunc := c.Args[0].(*parse.IdentifierNode)
			key, isText := c.Args[1].(*parse.StringNode)
			if isFunc && isText && f.Ident == "t" {
				used[key.Text] = name
			}
		})
	}
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`^[a-z][a-z0-9]*(\.[a-z0-9-]+)+$`)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		catalogue, err := readCatalogue("en")
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			// The key of a message is an argument of text or done, or a constant that looks like a key and is one.
			if call, ok := n.(*ast.CallExpr); ok {
				if f, ok := call.Fun.(*ast.SelectorExpr); ok && (f.Sel.Name == "text" || f.Sel.Name == "done") {
					for _, arg := range call.Args[:min(len(call.Args), 2)] {
						if text, ok := literal(arg); ok && key.MatchString(text) {
							used[text] = name
						}
					}
				}
			}
			if text, ok := literal(n); ok && key.MatchString(text) {
				if _, found := catalogue[text]; found {
					used[text] = name
				}
			}
			return true
		})
	}
	return used
}

func literal(n ast.Node) (string, bool) {
	l, ok := n.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(l.Value)
	return text, err == nil
}

// templates parses all templates, by file and name.
func templates(t *testing.T) map[string]*parse.Tree {
	t.Helper()
	l := &language{code: "en", log: slog.New(slog.DiscardHandler)}
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil || len(names) == 0 {
		t.Fatalf("no templates (%v)", err)
	}
	all := map[string]*parse.Tree{}
	for _, name := range names {
		set, err := template.New("").Funcs(l.functions()).ParseFS(files, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range set.Templates() {
			if one.Tree != nil {
				all[name+" "+one.Name()] = one.Tree
			}
		}
	}
	return all
}

// walk visits the nodes of a template.
func walk(n parse.Node, visit func(parse.Node)) {
	visit(n)
	branch := func(b *parse.BranchNode) {
		walk(b.Pipe, visit)
		walk(b.List, visit)
		if b.ElseList != nil {
			walk(b.ElseList, visit)
		}
	}
	switch n := n.(type) {
	case *parse.ListNode:
		for _, inner := range n.Nodes {
			walk(inner, visit)
		}
	case *parse.ActionNode:
		walk(n.Pipe, visit)
	case *parse.PipeNode:
		for _, c := range n.Cmds {
			walk(c, visit)
		}
	case *parse.CommandNode:
		for _, arg := range n.Args {
			walk(arg, visit)
		}
	case *parse.IfNode:
		branch(&n.BranchNode)
	case *parse.RangeNode:
		branch(&n.BranchNode)
	case *parse.WithNode:
		branch(&n.BranchNode)
	case *parse.TemplateNode:
		if n.Pipe != nil {
			walk(n.Pipe, visit)
		}
	}
}

// TestTemplatesHaveNoText holds that all text of pages comes from the catalogues.
func TestTemplatesHaveNoText(t *testing.T) {
	tags := regexp.MustCompile(`(?s)<[^>]*>|<[^>]*$|^[^<]*>|&[a-z]+;`)
	spoken := regexp.MustCompile(`(?i)\b(title|alt|placeholder|aria-label|value|content)="([^"]*[a-z]{3,}[^"]*)"`)
	code := regexp.MustCompile(`(?s)<(code|pre|style|script)[^>]*>.*?</(code|pre|style|script)>`)
	for name, tree := range templates(t) {
		if strings.HasSuffix(name, " attributes") || strings.HasSuffix(name, " described") {
			continue // what stands inside a tag
		}
		whole := &strings.Builder{} // with actions as "\x00", so that tags which hold them are whole
		walk(tree.Root, func(n parse.Node) {
			switch n := n.(type) {
			case *parse.TextNode:
				whole.Write(n.Text)
			case *parse.ActionNode, *parse.TemplateNode:
				whole.WriteByte(0)
			}
		})
		text := whole.String()
		rest := tags.ReplaceAllString(code.ReplaceAllString(text, ""), " ")
		if strings.ContainsFunc(rest, unicode.IsLetter) {
			t.Errorf("%s has text of its own: %q", name, strings.Join(strings.Fields(rest), " "))
		}
		for _, m := range spoken.FindAllStringSubmatch(text, -1) {
			if m[1] != "content" && m[1] != "value" {
				t.Errorf("%s has an attribute with text of its own: %s", name, m[0])
			}
		}
		if strings.Contains(text, " style=") || regexp.MustCompile(`\son[a-z]+=`).MatchString(text) {
			t.Errorf("%s has a style or script inline", name)
		}
	}
}

// TestTypography holds what French and English readers expect: spaces that do not break before high punctuation, and
// curled apostrophes.
func TestTypography(t *testing.T) {
	for code, wrong := range map[string]*regexp.Regexp{
		"fr": regexp.MustCompile(`[a-zé»)] [:;!?»]|« |'|[a-zé](\s)?[!?;](\s|$)`),
		"en": regexp.MustCompile(`[a-z]'[a-z]| - `),
	} {
		all, err := readCatalogue(code)
		if err != nil {
			t.Fatal(err)
		}
		for key, m := range all {
			if found := wrong.FindString(m.text + " " + m.other); found != "" && !strings.Contains(found, " ") {
				t.Errorf("%s: message %q has %q", code, key, found)
			}
		}
	}
}
