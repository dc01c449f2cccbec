package prove_test

import (
	"bufio"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// cryptographyTable is the page with the purpose of each use of cryptography, and whether it is approved.
const cryptographyTable = "docs/cryptography.md"

// use is a function of a cryptographic package in a room that calls it or passes it on. Methods are not listed, because
// the function that made the value determines them.
type use struct{ function, room string }

// TestCryptographyIsListed compares the table with the program: every use is in the table, every row is in use, and
// each has one of the known standings.
func TestCryptographyIsListed(t *testing.T) {
	root := filepath.Join("..", "..")
	found, listed := usesOfCryptography(t, root), listedUses(t, filepath.Join(root, cryptographyTable))
	if len(found) == 0 {
		t.Fatal("no use of cryptography found: the test reads the wrong files")
	}
	for _, u := range slices.SortedFunc(maps.Keys(found), byFunction) {
		if !listed[u] {
			t.Errorf("%s uses %s (%s), which %s does not list", u.room, u.function, found[u], cryptographyTable)
		}
	}
	for _, u := range slices.SortedFunc(maps.Keys(listed), byFunction) {
		if _, ok := found[u]; !ok {
			t.Errorf("%s lists %s in %s, which does not use it", cryptographyTable, u.function, u.room)
		}
	}
	t.Attr("uses-of-cryptography", strconv.Itoa(len(found)))
	t.Logf("%d uses of cryptography, all listed", len(found))
}

func byFunction(a, b use) int {
	return strings.Compare(a.function+" "+a.room, b.function+" "+b.room)
}

// usesOfCryptography reads the program without tests and test helpers, and returns each use with one place of it.
func usesOfCryptography(t *testing.T, root string) map[use]string {
	found := map[use]string{}
	functions := map[string]map[string]bool{} // by package path
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			name := d.Name()
			aside := name == "node_modules" || rel == "bench" || strings.HasSuffix(rel, "test") ||
				name != ".." && strings.HasPrefix(name, ".")
			if aside && rel != "." {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		names := map[string]string{} // the cryptographic packages, by their name in this file
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if !cryptographic(imported) {
				continue
			}
			unversioned := strings.TrimSuffix(imported, "/v2")
			name := unversioned[strings.LastIndex(unversioned, "/")+1:]
			if imported == jose {
				name = "jose"
			}
			if spec.Name != nil {
				name = spec.Name.Name
			}
			if name == "." || name == "_" {
				t.Errorf("%s imports %s as %q: its uses cannot be seen", rel, imported, name)
			}
			names[name] = imported
			if functions[imported] == nil {
				functions[imported] = exportedFunctions(t, imported)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := selector.X.(*ast.Ident); ok && functions[names[x.Name]][selector.Sel.Name] {
				found[use{names[x.Name] + "." + selector.Sel.Name,
					filepath.ToSlash(filepath.Dir(rel))}] = set.Position(n.Pos()).String()
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// jose is the library that signs and verifies tokens, with the standard library's RSA.
const jose = "github.com/go-jose/go-jose/v4"

// cryptographic reports whether a package offers cryptography.
func cryptographic(path string) bool {
	return path == "crypto" || strings.HasPrefix(path, "crypto/") || strings.HasPrefix(path, "golang.org/x/crypto") ||
		path == "math/rand" || path == "math/rand/v2" || path == jose
}

// exportedFunctions returns the functions that a package exports, read from its source.
func exportedFunctions(t *testing.T, path string) map[string]bool {
	where := build.Default
	if where.GOROOT == "" { // a test built with -trimpath has no GOROOT
		root, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			t.Fatal(err)
		}
		where.GOROOT = strings.TrimSpace(string(root))
	}
	p, err := where.Import(path, ".", 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, name := range p.GoFiles {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.IsExported() {
				found[f.Name.Name] = true
			}
		}
	}
	return found
}

// standings are the allowed beginnings of the table's last column.
var standings = []string{"approved", "not approved", "no algorithm"}

// listedUses reads the table: rows of a function, the rooms that use it, its purpose, and its standing.
func listedUses(t *testing.T, path string) map[use]bool {
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	listed := map[use]bool{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		cells := strings.Split(strings.Trim(lines.Text(), "| "), "|")
		function := strings.Trim(strings.TrimSpace(cells[0]), "`")
		if !strings.HasPrefix(lines.Text(), "| `") ||
			!cryptographic(function[:max(strings.LastIndex(function, "."), 0)]) {
			continue
		}
		if len(cells) != 4 {
			t.Errorf("%s: %q has %d cells, want 4", cryptographyTable, lines.Text(), len(cells))
			continue
		}
		standing := strings.TrimSpace(cells[3])
		if !slices.ContainsFunc(standings, func(s string) bool { return strings.HasPrefix(standing, s) }) {
			t.Errorf("%s: %s has the standing %q, want one of %q", cryptographyTable, function, standing, standings)
		}
		if strings.TrimSpace(cells[2]) == "" {
			t.Errorf("%s has no purpose for %s", cryptographyTable, function)
		}
		for room := range strings.FieldsSeq(strings.ReplaceAll(cells[1], ",", " ")) {
			listed[use{function, strings.Trim(room, "`")}] = true
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return listed
}
