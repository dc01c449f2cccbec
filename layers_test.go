package visage_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// layers orders the files of rooms that have many, from the bottom to the top. A file uses only what files of earlier
// lines declare, never its own line or a later one. After the colon stands what the files of a line do.
var layers = map[string]string{
	"face": `
changes                                 : the log of changes that copies in memory follow
check locks order agenda metrics fold   : checks of ids and text; parts that know nothing of faces
namebucket                              : the names of some persons in memory
names                                   : the names of all persons of a group in memory
namesearch                              : searching them
models kind patch                       : words: recognisers and models, kinds of collection, names and userData
attributes photofault                   : words: attributes of faces; why photos are refused
records                                 : what is stored
statechanges                            : the changes of a collection, with its state
find                                    : read and write single records
retention                               : retention: its rules as they are stored
hold matchlog                           : retention: legal holds; who was recognised lately
persistedface audit parts               : faces of lists and persons; the events for the audit log; searches in parts
passes                                  : readings of a collection for the parts of a process
face                                    : the Service
transaction packs claim                 : the space of a resource; the pack of a collection; work of one process
erase page galleries compare detected   : erasing, paging, searching, comparing; detected faces
partitions                              : searching in this process, or in parts by several
changed                                 : what is in memory after a change
enrol verify training                   : enrolment, 1:1 comparison, trainings
detect identify similar grouping        : detection, searches
photos                                  : comparisons and searches by photos, of which nothing is stored
facelist person migrationmissing keeping : lists, persons, faces that a migration lacks; setting retention and holds
collection migration migrateface        : whole collections
writematches                            : retention: store who was recognised
summary findperson                      : lists and groups with their counts; persons by name
expire                                  : retention: erase whose time is up
details                                 : persons and faces with what is recorded of them
sweep                                   : retention: drop what is expired or deleted
run                                     : the loop that trains, expires and sweeps
`,
	"sealed": `
doc errors event pad spaceid                 : words: errors, events, ids, sizes of records
workqueue rotationprogress                   : work that waits for the background, by space; how far a rotation is
clock                                        : the machine's clock, and that of the engine's server
store                                        : the Store
log                                          : logs
thisformat nextformat                        : the next version's format, for tests
portable reserve migrate openkeys            : values for elsewhere; free disk space; migrations; the root's keys
space                                        : a space: its lease, its transactions
tx lifecycle                                 : what rooms read and write with; create and drop spaces
claim longview                               : what one process of several may do; snapshots that last
upgrade                                      : another format of a store that is at work
table turn fold verify                       : typed tables; turns; folds; verification
bundle each maintenance                      : the keys of a space; what the background does
erase                                        : erasures
takeover                                     : what another process left undone
anchor rotation                              : rollback detection; another root key
root                                         : the root key and its protectors
database                                     : the engine over PostgreSQL, and its clock
open                                         : Open
restore move                                 : Restore; from one engine to another
movekeys checkkeys                           : epoch keys from one place to another; what a place can do
`,
	"sealed/internal/tree": `
tx                                           : reads and writes of one transaction
tree                                         : heads and key pages
drop fold rootcontainer                      : dropping containers, folding the nursery, the root container
write                                        : changed pages and heads
records turn                                 : records; another pair of keys at the top
staged walk reconcile                        : changes not sealed yet; walks; putting in order after a crash
each seal verify                             : all records; sealing a transaction; verification
verifyclosed                                 : verification without keys
`,
	"sealed/internal/commit": `
writelock stage held                         : who may write; what a transaction has written; the engine's transaction
queue                                        : transactions that wait
group                                        : transactions that share a commit
departure                                    : sealing and committing a group
member                                       : one transaction of a group
write                                        : the way in
`,
	"sealed/internal/keys": `
ring instance                                : open keys in memory; the document of the instance
instanceroot                                 : the instance root key
unwraproot                                   : asking a protector for it
learn protect                                : versions of other processes; what wraps it at a start
openroot rootstate                           : opening it; what is shown of it
protectors                                   : other protectors
bundle                                       : the documents of keys
anchors                                      : newest states
epoch slot summary                           : epoch keys; wrapped data keys; what is shown of them
create compare                               : a space's first keys; whether open keys are those of its bundle
open turn rotation recovery                  : opening a space's keys; making others current; another root key
`,
	"sealed/backup": `
read backup                                  : a backup as it is read; as it is written
restore mend                                 : restoring; mending a keyring
`,
}

// TestLayers holds the layers: a reader who takes the files of a room from the bottom up finds nothing used that is
// declared further up.
func TestLayers(t *testing.T) {
	for room, table := range layers {
		for _, problem := range misplaced(t, room, table) {
			t.Error(problem)
		}
	}
}

// TestLayersSeesViolations proves that the rule can fail.
func TestLayersSeesViolations(t *testing.T) {
	room := t.TempDir()
	for name, text := range map[string]string{
		"low.go":  "package p\n\nimport \"errors\"\n\ntype low struct{}\n\nvar errLow = errors.New(high())\n",
		"high.go": "package p\n\nfunc high() string { return low{}.name() }\nfunc (low) name() string { return `` }\n",
	} {
		if err := os.WriteFile(filepath.Join(room, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		table string
		want  int
	}{
		{"low : \n high :", 1},         // low uses high
		{"high : \n low :", 1},         // high uses low
		{"low high :", 2},              // both, side by side
		{"low : \n high : \n no :", 2}, // and a file that is not there
		{"low :", 1},                   // a file without a place
	} {
		if got := misplaced(t, room, row.table); len(got) != row.want {
			t.Errorf("%q: %q, want %d problems", row.table, got, row.want)
		}
	}
}

// misplaced returns what is wrong with the layers of a room.
func misplaced(t *testing.T, room, table string) (problems []string) {
	place := map[string]int{}
	n := 0
	for line := range strings.Lines(table) {
		names, _, _ := strings.Cut(line, ":")
		for name := range strings.FieldsSeq(names) {
			place[name+".go"] = n
		}
		n++
	}
	uses := usesByFile(t, room)
	for file, used := range uses {
		at, ok := place[file]
		if !ok {
			problems = append(problems, fmt.Sprintf("%s/%s has no place in the layers of layers_test.go", room, file))
			continue
		}
		for other, name := range used {
			if below, ok := place[other]; ok && at <= below {
				problems = append(problems, fmt.Sprintf("%s/%s uses %s of %s, which is not in a layer below it", room,
					file, name, other))
			}
		}
	}
	for file := range place {
		if uses[file] == nil {
			problems = append(problems, fmt.Sprintf("the layers of %s name %s, which does not exist", room, file))
		}
	}
	slices.Sort(problems)
	return problems
}

// usesByFile returns, for each file of a room, the other files whose declarations it uses, each with the name of one
// of them. Imports are not resolved: what is declared elsewhere does not count.
func usesByFile(t *testing.T, room string) map[string]map[string]string {
	t.Helper()
	set := token.NewFileSet()
	paths, err := filepath.Glob(filepath.Join(room, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	uses := map[string]map[string]string{}
	var files []*ast.File
	for _, p := range paths {
		if strings.HasSuffix(p, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, p, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
		uses[filepath.Base(p)] = map[string]string{}
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: noImports{}, Error: func(error) {}}
	pkg, _ := config.Check(room, set, files, info) // it always has errors: those of the imports
	for id, o := range info.Uses {
		if o.Pkg() != pkg || !o.Pos().IsValid() {
			continue
		}
		if _, imported := o.(*types.PkgName); imported {
			continue
		}
		from, to := filepath.Base(set.Position(id.Pos()).Filename), filepath.Base(set.Position(o.Pos()).Filename)
		if from != to {
			uses[from][to] = o.Name()
		}
	}
	return uses
}

// noImports is an importer that finds nothing.
type noImports struct{}

// Import implements types.Importer.
func (noImports) Import(string) (*types.Package, error) { return nil, errors.New("not resolved") }
