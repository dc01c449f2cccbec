package visage_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"strconv"
	"strings"
	"testing"

	"github.com/visage-face/visage/audit"
)

// auditPackage is the import path of the package whose kinds and details are looked for.
const auditPackage = module + "/audit"

// recording says which packages record events: all of the product but the command line, which reads them.
func recording(dir string) bool {
	// The console reads the log, and records nothing itself.
	for _, other := range []string{"cmd/...", "bench/...", "test/...", "audit/audittest", "tools/...", "console/..."} {
		if under(dir, other) {
			return false
		}
	}
	return true
}

// TestEveryAuditEventIsEmitted holds that each kind and detail of package audit is put into an event by code that the
// server reaches, and is documented; and that rooms use no other words than those of package audit. A kind or detail
// that only a comparison or a dead function names does not count.
func TestEveryAuditEventIsEmitted(t *testing.T) {
	uses := auditUses{emits: map[string][]string{}, calls: map[string]map[string]bool{}}
	values := map[string]string{} // of the constants of package audit, by name
	for _, file := range sources(t, ".go") {
		dir := path.Dir(file)
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, readText(t, file), 0)
		if err != nil {
			t.Fatal(err)
		}
		if dir == "audit" {
			constants(parsed, values)
		}
		if recording(dir) {
			uses.add(parsed, dir == "audit")
		}
	}
	for _, problem := range uses.foreign {
		t.Errorf("%s: an event with a kind or detail that is no constant of package audit", problem)
	}
	reached := uses.reachedFrom("Run") // the server's, and what others run in the background
	text := readText(t, "docs/formats/audit.md")
	check := func(what, name, word string) {
		emitted := false
		for _, by := range uses.emits[name] {
			emitted = emitted || reached[by]
		}
		if !emitted {
			t.Errorf("no reachable code records the %s %s (%q); it is named by %v", what, name, word, uses.emits[name])
		}
		if !documented(text, word) {
			t.Errorf("docs/formats/audit.md does not describe the %s `%s`", what, word)
		}
	}
	kinds, details := 0, 0
	for name, word := range values {
		if _, isKind := audit.ParseKind(word); isKind {
			kinds++
			check("kind", name, word)
		}
		if strings.HasPrefix(name, "Detail") {
			details++
			check("detail", name, word)
			e := audit.Event{Kind: audit.StoreEvent, Outcome: audit.Done}
			if e.Set(audit.Detail(word), "x"); e.Check() != nil {
				t.Errorf("audit.%s is not in the list of details", name)
			}
		}
	}
	if all := len(audit.Kinds()); kinds != all || details == 0 {
		t.Errorf("found %d kinds and %d details in the sources, want %d kinds", kinds, details, all)
	}
}

// documented reports whether the first column of a table of text has the word in backquotes.
func documented(text, word string) bool {
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		if len(cells) > 2 && strings.Contains(cells[1], "`"+word+"`") {
			return true
		}
	}
	return false
}

// constants collects the string constants of a file.
func constants(file *ast.File, values map[string]string) {
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range spec.Names {
			if i < len(spec.Values) {
				if value, ok := spec.Values[i].(*ast.BasicLit); ok && value.Kind == token.STRING {
					values[name.Name], _ = strconv.Unquote(value.Value)
				}
			}
		}
		return true
	})
}

// auditUses is what the sources say about events.
type auditUses struct {
	emits   map[string][]string        // the declarations that put a constant of package audit into an event
	calls   map[string]map[string]bool // the names that a declaration mentions, by its name
	foreign []string                   // declarations with a kind or detail that is no such constant
}

// add reads a file; inside is true for package audit itself, which names its constants without the package.
func (u *auditUses) add(file *ast.File, inside bool) {
	name := "" // under which the file imports package audit
	for _, spec := range file.Imports {
		if p, _ := strconv.Unquote(spec.Path.Value); p == auditPackage {
			name = "audit"
		}
	}
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			u.addDecl(d.Name.Name, d, name, inside)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.ValueSpec:
					if inside {
						continue // the lists of what there is
					}
					for _, n := range s.Names {
						u.addDecl(n.Name, s, name, inside)
					}
				case *ast.TypeSpec:
					u.addDecl(s.Name.Name, s, name, inside)
				}
			}
		}
	}
}

func (u *auditUses) addDecl(decl string, node ast.Node, pkg string, inside bool) {
	if u.calls[decl] == nil {
		u.calls[decl] = map[string]bool{}
	}
	// constant returns the name of a constant of package audit.
	constant := func(e ast.Expr) string {
		switch x := e.(type) {
		case *ast.SelectorExpr:
			if id, ok := x.X.(*ast.Ident); ok && id.Name == pkg {
				return x.Sel.Name
			}
		case *ast.Ident:
			if inside {
				return x.Name
			}
		}
		return ""
	}
	emit := func(e ast.Expr) {
		if c := constant(e); c != "" {
			u.emits[c] = append(u.emits[c], decl)
		}
	}
	ast.Inspect(node, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.Ident:
			u.calls[decl][x.Name] = true
		case *ast.KeyValueExpr: // Kind: audit.X, audit.DetailX: value
			emit(x.Key)
			emit(x.Value)
			if key, ok := x.Key.(*ast.Ident); ok && key.Name == "Kind" && pkg != "" {
				u.literal(decl, x.Value)
			}
		case *ast.CompositeLit: // {audit.X, "operation"}
			for _, e := range x.Elts {
				emit(e)
			}
			if detailMap(x.Type, pkg) {
				for _, e := range x.Elts {
					if pair, ok := e.(*ast.KeyValueExpr); ok {
						u.literal(decl, pair.Key)
					}
				}
			}
		case *ast.CallExpr: // e.Set(audit.DetailX, value), s.record(ctx, audit.X)
			for _, e := range x.Args {
				emit(e)
			}
			if f := constant(x.Fun); !inside && (f == "Kind" || f == "Detail") {
				u.foreign = append(u.foreign, decl)
			}
			if f, ok := x.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "Set" && pkg != "" && len(x.Args) == 2 {
				if _, variable := f.X.(*ast.Ident); variable { // not a header, as in w.Header().Set
					u.literal(decl, x.Args[0])
				}
			}
		case *ast.AssignStmt: // e.Kind = audit.X, details[audit.DetailX] = value
			for _, e := range x.Rhs {
				emit(e)
			}
			for _, e := range x.Lhs {
				if at, ok := e.(*ast.IndexExpr); ok {
					emit(at.Index)
				}
			}
		case *ast.ReturnStmt:
			for _, e := range x.Results {
				emit(e)
			}
		}
		return true
	})
}

// literal notes a string where a constant of package audit has to be.
func (u *auditUses) literal(decl string, e ast.Expr) {
	if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
		u.foreign = append(u.foreign, decl)
	}
}

func detailMap(t ast.Expr, pkg string) bool {
	m, ok := t.(*ast.MapType)
	if !ok {
		return false
	}
	key, ok := m.Key.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	id, ok := key.X.(*ast.Ident)
	return ok && id.Name == pkg && key.Sel.Name == "Detail"
}

// reachedFrom returns the declarations that those called name mention, directly or through others. A mention is a name
// alone, so too much is reached rather than too little; a function that nobody mentions is not.
func (u *auditUses) reachedFrom(name string) map[string]bool {
	reached, next := map[string]bool{name: true}, []string{name}
	for len(next) > 0 {
		from := next[0]
		next = next[1:]
		for to := range u.calls[from] {
			if _, declared := u.calls[to]; declared && !reached[to] {
				reached[to] = true
				next = append(next, to)
			}
		}
	}
	return reached
}

// TestAuditUsesSeesViolations proves that the rule can fail.
func TestAuditUsesSeesViolations(t *testing.T) {
	const source = `package p
import "github.com/visage-face/visage/audit"
func Run() { live() }
func live() {
	use(audit.Event{Kind: audit.KeyWrap, Details: map[audit.Detail]string{audit.DetailStep: "x"}})
	if e.Kind == audit.KeyLoad { return }
}
func dead() { e.Set(audit.DetailState, "x") }
func foreign() { use(audit.Event{Kind: "key.turn"}) }
func foreignDetail() { e.Set("word", "x") }
func converted() { use(audit.Kind("key.turn")) }
`
	file, err := parser.ParseFile(token.NewFileSet(), "p.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	u := auditUses{emits: map[string][]string{}, calls: map[string]map[string]bool{}}
	u.add(file, false)
	reached := u.reachedFrom("Run")
	for name, want := range map[string]bool{
		"KeyWrap": true, "DetailStep": true, "KeyLoad": false, "DetailState": false, "KeyWipe": false,
	} {
		got := false
		for _, by := range u.emits[name] {
			got = got || reached[by]
		}
		if got != want {
			t.Errorf("%s is recorded by reachable code: %t, want %t", name, got, want)
		}
	}
	if got := strings.Join(u.foreign, " "); got != "foreign foreignDetail converted" {
		t.Errorf("foreign words in %q", got)
	}
}
