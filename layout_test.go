package visage_test

import (
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

const module = "github.com/visage-face/visage"

// lattice says which rooms of ours a room may import. Traffic goes one way, down; a new edge is a decision, and a new
// room needs a line here. The root is ".", "x/..." is x and all below it, "*" is every room. A "?" after a room's name
// marks one that the plan has and that need not be there yet.
//
// What two rooms that may not know each other both need is a word and lives in the root; what one needs done by another
// it asks for through an interface of its own, which server fills.
const lattice = `
.                         :
internal/arena            :
internal/durable          :
internal/keywrap          :
internal/owned            :
internal/secretfile       :
internal/weakkey          :
keysource                 :
keysource/internal/local  : keysource internal/arena
keysource/file            : keysource keysource/internal/local internal/arena
keysource/internal/answer :
keysource/azure           : . keysource keysource/internal/answer internal/weakkey internal/secretfile
keysource/hashivault      : . keysource keysource/internal/answer internal/secretfile
keysource/awskms          : . keysource keysource/internal/answer internal/secretfile
keysource/helper          : keysource
keysource/kmip            : . keysource
keysource/pkcs11          : . keysource internal/weakkey
keysource/gcpkms          : . keysource keysource/internal/answer
keysource/stores          : . keysource keysource/azure keysource/hashivault keysource/awskms keysource/gcpkms keysource/helper keysource/internal/answer keysource/kmip keysource/pkcs11
keysource/env             : keysource keysource/internal/local internal/arena
keysource/passphrase      : keysource keysource/internal/local internal/arena
keysource/recovery        : keysource keysource/internal/local
keysource/tpm             : keysource keysource/internal/local
keysource/sourcetest      : keysource
sealed/...                : keysource sealed/... internal/...
sealed/internal/format    : internal/arena
sealed/internal/engine/...: sealed/internal/format sealed/internal/engine/...
sealed/internal/event     : sealed/internal/format
sealed/internal/rowkey    : sealed/internal/format sealed/internal/engine sealed/internal/event
sealed/internal/keystore  : keysource internal/durable internal/owned sealed/internal/format
sealed/internal/keystore/keystoretest : sealed/internal/format sealed/internal/keystore
sealed/internal/keys      : keysource internal/arena internal/durable internal/owned sealed/internal/format sealed/internal/engine sealed/internal/keystore sealed/internal/event sealed/internal/rowkey
sealed/backup             : internal/arena sealed/internal/format sealed/internal/engine sealed/internal/event sealed/internal/rowkey sealed/internal/keystore sealed/internal/keys sealed/internal/stream
sealed/internal/tree      : internal/arena sealed/internal/format sealed/internal/engine sealed/internal/event sealed/internal/rowkey sealed/internal/keys
sealed/internal/commit    : sealed/internal/format sealed/internal/engine sealed/internal/keys sealed/internal/volume sealed/internal/tree
sealed/internal/place     : sealed/internal/format sealed/internal/event sealed/internal/keystore sealed/internal/keys sealed/internal/moment
sealed/internal/lease     : sealed/internal/format sealed/internal/engine sealed/internal/event sealed/internal/rowkey sealed/internal/keys
sealed/internal/memory    : sealed/internal/format sealed/internal/engine sealed/internal/keystore
sealed/internal/volume    : internal/durable sealed/internal/format sealed/internal/engine sealed/internal/event sealed/internal/pebble
vision/...                : vision/...
gallery                   : internal/arena gallery/internal/kernel
gallery/internal/kernel   :
gallery/measure           : internal/arena gallery gallery/internal/kernel
cluster/placement         :
cluster/peer              :
cluster/sizing            : cluster/placement
cluster/scatter           : cluster/placement cluster/peer gallery/remote
gallery/remote            : gallery cluster/placement cluster/peer
gallery/remote/overhead   : gallery gallery/remote cluster/placement cluster/peer

account                   : . sealed sealed/follow custody audit
audit                     : . sealed
audit/audittest           : audit
keyvault                  : . sealed audit internal/weakkey internal/keywrap
identity                  : . sealed sealed/follow audit internal/weakkey
custody                   : . sealed sealed/follow keysource audit
metrics                   : . sealed
face/...                  : . internal/arena sealed vision gallery cluster/placement audit face/...

api                       : .
api/apitest               :
api/faceapi               : . api face
api/armapi                : . api api/armapi/armwire account keyvault identity
api/armapi/armwire        :
api/vaultapi              : . api keyvault
api/tokenapi              : . api identity
api/identityapi           : . api identity
api/graphapi              : . api identity
console                   : . api api/faceapi account custody keyvault identity audit face metrics console/...
console/assets            :
console/internal/chart    :
console/internal/openid   :
console/internal/passkey  :

server/...                : *
cmd/...                   : *
bench/...                 : *
test/... ?                : *
`

// carriers says who alone may import what could carry plaintext away, or seal with a key of its own. A name ending in
// "/..." means that package and all below it. Test files are free here: they have to look at disks and speak to
// servers.
const carriers = `
os/...                    : server cmd vision keysource sealed internal bench test api/apitest
syscall                   : server cmd vision keysource sealed internal bench test
golang.org/x/sys/unix     : server cmd vision keysource sealed internal bench test
golang.org/x/sys/windows  : server cmd vision keysource sealed internal bench test
io/ioutil                 :
plugin                    :
database/sql/...          :
crypto/aes                : sealed keysource internal/keywrap test/keystores
crypto/cipher             : sealed keysource test/keystores
crypto/rsa                : keyvault keysource identity server/servertest cmd
crypto/des                :
crypto/rc4                :
crypto/md5                :
crypto/sha1               : keyvault
net                       : api console server cmd keysource vision/pack gallery/remote cluster/scatter bench test sealed/internal/postgres
net/http/...              : api console server cmd keysource vision/pack gallery/remote bench test
net/rpc/...               :
net/smtp                  :
log/syslog                :
`

// modules says who may import each module that is not ours; see docs/decisions/dependencies.md for why it is here at
// all. A "+" before the name means that any test may import it too; a module used by tests alone has no rooms.
const modules = `
github.com/aws/aws-sdk-go-v2        : keysource/awskms
+ github.com/cockroachdb/pebble/v2  : sealed/internal/pebble bench
github.com/fxamacker/cbor/v2        : sealed
+ github.com/coreos/go-oidc/v3      : console/internal/openid
github.com/go-jose/go-jose/v4       : identity
github.com/go-webauthn/webauthn     : console/internal/passkey
github.com/goccy/go-yaml            : server cmd
+ github.com/google/go-tpm          : keysource/tpm
github.com/google/flatbuffers       : vision/internal/tflite
github.com/landlock-lsm/go-landlock : keysource/helper
+ github.com/miekg/pkcs11           : keysource/pkcs11 test/keystores
+ github.com/ovh/kmip-go            : keysource/kmip test/keystores
github.com/prometheus/client_golang : api server face gallery cluster/scatter sealed vision account audit custody metrics bench
+ github.com/jackc/pgx/v5           : sealed/internal/postgres
github.com/tidwall/btree            : sealed/internal/memory sealed/internal/postgres
github.com/tetratelabs/wazero       : vision/internal/sandbox
github.com/viterin/vek              : gallery bench
github.com/yalue/onnxruntime_go     : vision/internal/ort
github.com/spf13/cobra              : cmd
github.com/spf13/pflag              : cmd
kernel.org/pub/linux/libs/security/libcap/psx : keysource/helper
golang.org/x/image                  : vision cmd bench
golang.org/x/mod                    : audit
golang.org/x/oauth2                 : console/internal/openid
golang.org/x/net/idna               : .
golang.org/x/text                   : console face
golang.org/x/sync                   : api server face gallery sealed vision account cmd
golang.org/x/sys                    : server cmd vision keysource sealed internal bench test gallery/internal/kernel
golang.org/x/time                   : api
google.golang.org/protobuf          : vision
+ github.com/anishathalye/porcupine :
+ github.com/Azure/azure-sdk-for-go : keysource/azure cmd
+ github.com/getkin/kin-openapi     : api
+ github.com/google/go-cmp          :
+ github.com/rogpeppe/go-internal   :
`

// wirers are the rooms that may start a server.
var wirers = []string{"server/...", "cmd/...", "bench/...", "test/..."}

// columns is how long a line of Go may be, with a tab as wide as four characters.
const columns = 120

// pkg is what the test knows of one directory with Go files.
type pkg struct {
	dir         string              // slash-separated, relative to the module root; "." for the root
	imports     map[string][]string // import path to the files that have it
	testImports map[string][]string
	docs        []string // files whose package clause has a comment, among those that count
}

// TestLayout holds the lattice. It parses the files itself: a test that asks the go command is answered from the test
// cache after the rule was broken, because the cache does not see what a child process reads.
func TestLayout(t *testing.T) {
	pkgs := readPackages(t)
	rooms := parseRules(t, lattice)
	used := make([]bool, len(rooms))
	for _, p := range pkgs {
		i := lineFor(rooms, p.dir)
		if i < 0 {
			t.Errorf("room %s has no line in the lattice of layout_test.go: add one, with the rooms it may import",
				p.dir)
			continue
		}
		used[i] = true
		for imp, files := range p.imports {
			room, ours := roomOf(imp)
			if !ours || room == p.dir {
				continue
			}
			if !slices.ContainsFunc(rooms[i].allowed, func(pat string) bool { return pat == "*" || under(room, pat) }) {
				t.Errorf("%s imports %s (in %s), which the lattice does not allow", p.dir, room,
					strings.Join(files, ", "))
			}
			wires := slices.ContainsFunc(wirers, func(w string) bool { return under(p.dir, w) })
			if under(room, "cmd/...") && !under(p.dir, "cmd/...") || under(room, "server/...") && !wires {
				t.Errorf("%s imports %s (in %s): nobody imports what puts the rooms together", p.dir, room,
					strings.Join(files,
						", "))
			}
		}
	}
	for i, r := range rooms {
		if !used[i] && !r.mark {
			t.Errorf("line %q of the lattice has no room: remove it", r.name)
		}
	}
}

// TestCarriers holds the list of who may reach disks, networks and ciphers.
func TestCarriers(t *testing.T) {
	rules := parseRules(t, carriers)
	for _, p := range readPackages(t) {
		for imp, files := range p.imports {
			for _, r := range rules {
				if under(imp, r.name) && !allows(r, p.dir) {
					t.Errorf("%s imports %q (in %s); only these may: %v", p.dir, imp, strings.Join(files, ", "),
						r.allowed)
				}
			}
		}
	}
}

// TestModules holds the list of who may import which module: a dependency is a decision.
func TestModules(t *testing.T) {
	rules := parseRules(t, modules)
	used := make([]bool, len(rules))
	check := func(p pkg, imp string, files []string, test bool) {
		first, _, _ := strings.Cut(imp, "/")
		if _, ours := roomOf(imp); ours || imp == "C" || !strings.Contains(first, ".") {
			return
		}
		i := slices.IndexFunc(rules, func(r rule) bool { return under(imp, r.name+"/...") })
		if i < 0 {
			t.Errorf("%s imports %q (in %s), a module without a line in layout_test.go", p.dir, imp,
				strings.Join(files, ", "))
			return
		}
		used[i] = true
		if !allows(rules[i], p.dir) && !(test && rules[i].mark) {
			t.Errorf("%s imports %q (in %s); only these may: %v", p.dir, imp, strings.Join(files, ", "),
				rules[i].allowed)
		}
	}
	for _, p := range readPackages(t) {
		for imp, files := range p.imports {
			check(p, imp, files, false)
		}
		for imp, files := range p.testImports {
			check(p, imp, files, true)
		}
	}
	for i, r := range rules {
		if !used[i] {
			t.Errorf("nobody imports module %q: remove its line here, and in docs/decisions/dependencies.md", r.name)
		}
	}
}

// TestPackageComments wants one package comment a package: none leaves the reader without the room's reason, two
// disagree in time.
func TestPackageComments(t *testing.T) {
	for _, p := range readPackages(t) {
		if len(p.docs) != 1 {
			t.Errorf("package %s has %d package comments %v, want one", p.dir, len(p.docs), p.docs)
		}
	}
}

// TestLines holds the length of lines. Those with a literal that cannot be broken may be longer: a raw string, and one
// without spaces.
func TestLines(t *testing.T) {
	for _, file := range sources(t, ".go") {
		text := readText(t, file)
		free := unbreakable(text)
		n := 0
		for line := range strings.Lines(text) {
			n++
			line = strings.ReplaceAll(strings.TrimRight(line, "\n"), "\t", "    ")
			if length := utf8.RuneCountInString(line); length > columns && !free[n] {
				t.Errorf("%s:%d: %d columns, want at most %d", file, n, length, columns)
			}
		}
	}
}

// unbreakable returns the lines of a Go file that hold a raw string, or at least half a line of a string without
// spaces.
func unbreakable(text string) map[int]bool {
	lines := map[int]bool{}
	set := token.NewFileSet()
	file := set.AddFile("", -1, len(text))
	var s scanner.Scanner
	s.Init(file, []byte(text), nil, 0)
	for {
		pos, kind, literal := s.Scan()
		switch {
		case kind == token.EOF:
			return lines
		case kind != token.STRING:
		case literal[0] == '`', len(literal) > columns/2 && !strings.Contains(literal, " "):
			for i := range strings.Count(literal, "\n") + 1 {
				lines[file.Line(pos)+i] = true
			}
		}
	}
}

// TestLinesSeesLongOnes proves that the rule can fail.
func TestLinesSeesLongOnes(t *testing.T) {
	long := strings.Repeat("x", columns)
	free := unbreakable("package p\n\nvar a = \"" + long + "\"\n\n// " + long + "\nvar b = `\n" + long + "`\n")
	if !free[3] || free[5] || !free[6] || !free[7] {
		t.Errorf("lines %v may be long, want 3, 6 and 7", free)
	}
}

// TestLayoutSeesViolations proves that the rules can fail: the test would be worthless if a pattern matched everything.
func TestLayoutSeesViolations(t *testing.T) {
	rooms := parseRules(t, lattice)
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"sealed", "keysource", true},
		{"sealed/internal/pebble", "sealed/internal/format", true},
		{"sealed", "vision", false},
		{"vision", "sealed", false},
		{"keysource", "sealed", false},
		{"keysource/file", "internal/arena", true},
		{"gallery", "vision", false},
	} {
		i := lineFor(rooms, c.from)
		if i < 0 {
			t.Fatalf("no line for %s", c.from)
		}
		got := slices.ContainsFunc(rooms[i].allowed, func(pat string) bool { return pat == "*" || under(c.to, pat) })
		if got != c.want {
			t.Errorf("%s -> %s: allowed %t, want %t", c.from, c.to, got, c.want)
		}
	}
	if i := lineFor(rooms, "util"); i >= 0 {
		t.Errorf("a room called util has the line %q", rooms[i].name)
	}
	os := parseRules(t, carriers)[0]
	if allows(os, "face") || !allows(os, "sealed/internal/pebble") {
		t.Errorf("rule %q does not tell face from sealed", os.name)
	}
}

// rule is one line of a table: a name, and who or what goes with it.
type rule struct {
	name    string
	mark    bool // "?" or "+" was there
	allowed []string
}

func parseRules(t *testing.T, table string) []rule {
	t.Helper()
	var rules []rule
	for line := range strings.Lines(table) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		left, right, found := strings.Cut(line, ":")
		if !found {
			t.Fatalf("line %q has no colon", line)
		}
		r := rule{allowed: strings.Fields(right)}
		for _, f := range strings.Fields(left) {
			if f == "?" || f == "+" {
				r.mark = true
				continue
			}
			r.name = f
		}
		rules = append(rules, r)
	}
	return rules
}

// lineFor returns the index of the most exact line for a room, or -1.
func lineFor(rules []rule, dir string) int {
	best := -1
	for i, r := range rules {
		if under(dir, r.name) && (best < 0 || len(r.name) > len(rules[best].name)) {
			best = i
		}
	}
	return best
}

// allows reports whether a room, or one above it, is named in the rule.
func allows(r rule, dir string) bool {
	return slices.ContainsFunc(r.allowed, func(a string) bool { return under(dir, a+"/...") })
}

// under reports whether name matches a pattern of the tables.
func under(name, pattern string) bool {
	if prefix, found := strings.CutSuffix(pattern, "/..."); found {
		return name == prefix || strings.HasPrefix(name, prefix+"/")
	}
	return name == pattern
}

// roomOf turns an import path of ours into a room's name.
func roomOf(imp string) (room string, ours bool) {
	if imp == module {
		return ".", true
	}
	return strings.CutPrefix(imp, module+"/")
}

// readPackages parses the imports of every Go file of the module, whatever its build tags say.
func readPackages(t *testing.T) []pkg {
	t.Helper()
	found := map[string]*pkg{}
	onlyTests := map[string][]string{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			if name != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" ||
				base == "node_modules") {
				return filepath.SkipDir
			}
			if name != "." {
				if nested, _ := filepath.Glob(filepath.Join(name, "go.mod")); nested != nil {
					return filepath.SkipDir // a module of its own, such as the pinned tools
				}
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
			return nil
		}
		dir := path.Dir(filepath.ToSlash(name))
		p := found[dir]
		if p == nil {
			p = &pkg{dir: dir, imports: map[string][]string{}, testImports: map[string][]string{}}
			found[dir] = p
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		isTest := strings.HasSuffix(base, "_test.go")
		switch {
		case f.Doc == nil || !saysSomething(f.Doc):
		case isTest:
			onlyTests[dir] = append(onlyTests[dir], base)
		default:
			p.docs = append(p.docs, base)
		}
		for _, spec := range f.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			into := p.imports
			if isTest {
				into = p.testImports
			}
			into[imp] = append(into[imp], base)
		}
		if !isTest {
			p.imports[""] = nil
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var pkgs []pkg
	for dir, p := range found {
		if _, code := p.imports[""]; !code {
			p.docs = onlyTests[dir] // a folder of tests alone says its reason in one of them
		}
		delete(p.imports, "")
		pkgs = append(pkgs, *p)
	}
	slices.SortFunc(pkgs, func(a, b pkg) int { return strings.Compare(a.dir, b.dir) })
	if len(pkgs) < 5 {
		t.Fatalf("found only %d packages: the test runs in the wrong place", len(pkgs))
	}
	return pkgs
}

// saysSomething tells a comment from a block of directives such as go:build.
func saysSomething(c *ast.CommentGroup) bool { return strings.TrimSpace(c.Text()) != "" }
