package visage_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// block is a fenced block of a document.
type block struct {
	line           int // of its first fence
	language, text string
}

// checkers are the checks of a block by its language. Other tests do more: test/sdk runs the blocks of README.md,
// test/clients those of docs/clients.md, and cmd/visage looks up the commands and flags of the program.
var checkers = map[string]func(*testing.T, string) error{
	"go": goProgram, "js": javaScript, "python": python, "json": jsonText,
	"sh": shell, "bash": shell, "console": func(t *testing.T, text string) error { return shell(t, typed(text)) },
}

// unchecked are the languages of blocks that are not checked, with the reason.
var unchecked = map[string]string{
	"text":   "drawings, and what programs print",
	"http":   "requests, which the tests of the planes make",
	"nginx":  "test/sdk starts nginx with it, where nginx is installed",
	"ini":    "a unit of systemd",
	"yaml":   "settings of Prometheus, which does not run here; a test of server reads the rules that they name",
	"hcl":    "Terraform does not run here; test/clients runs the library that it uses",
	"java":   "needs a Java toolchain; the lines that matter are the client's options",
	"sql":    "sealed/internal/postgres runs it, where PostgreSQL is installed",
	"csharp": "needs a .NET toolchain; likewise",
}

// TestCodeInDocuments wants every block of code in the documents to name its language, and to be right as far as that
// shows without running it.
func TestCodeInDocuments(t *testing.T) {
	checked := map[string]int{}
	for _, file := range sources(t, ".md") {
		for _, b := range blocksOf(readText(t, file)) {
			check := checkers[b.language]
			if check == nil && unchecked[b.language] == "" {
				t.Errorf("%s:%d: a block of %q; its language must be one that this test knows", file, b.line,
					b.language)
			}
			if check == nil {
				continue
			}
			checked[b.language]++
			t.Run(fmt.Sprintf("%s:%d", file, b.line), func(t *testing.T) {
				if err := check(t, b.text); err != nil {
					t.Errorf("%s:%d: %v", file, b.line, err)
				}
			})
		}
	}
	for language := range checkers {
		if checked[language] == 0 {
			t.Errorf("no document has a block of %s: they are not read", language)
		}
	}
}

// TestCommandsInDocuments wants the targets of make, the packages and the tests that the documents name within their
// text.
func TestCommandsInDocuments(t *testing.T) {
	seen := 0
	for _, file := range sources(t, ".md") {
		if file == "CHANGELOG.md" { // it tells of older versions as well
			continue
		}
		for _, span := range code.FindAllString(readText(t, file), -1) {
			line := strings.Trim(span, "`")
			isCommand := strings.HasPrefix(line, "make ") || strings.Contains(line, "go test ")
			if !isCommand || strings.HasPrefix(span, "```") {
				continue
			}
			seen++
			if err := commands(t, line); err != nil {
				t.Errorf("%s: %s: %v", file, span, err)
			}
		}
	}
	if seen < 30 {
		t.Errorf("found only %d commands: they are not read", seen)
	}
}

// TestCodeInDocumentsSeesFaults proves that each check can fail.
func TestCodeInDocumentsSeesFaults(t *testing.T) {
	for _, c := range []struct{ language, right, wrong string }{
		{"go", "package main\n\nfunc main() { println(1) }\n", "package main\n\nfunc main() { printn(1) }\n"},
		{"go", "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Printf(\"%d\", 1) }\n",
			"package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Printf(\"%d\", \"1\") }\n"},
		{"js", "const a = await b();\n", "const a = await;\n"},
		{"python", "if a:\n    b()\n", "if a:\nb()\n"},
		{"json", `{"a": [1]}`, `{"a": [1}`},
		{"sh", "for a in b; do echo $a; done\n", "for a in b; do echo $a\n"},
		{"sh", "make test # everything\n", "make tests\n"},
		{"sh", "make prove-crash && make lint\n", "make lint && make prove-crush\n"},
		{"sh", "go test . -run 'Links|Decisions'\n", "go test . -run 'Links|Decided'\n"},
		{"sh", "go test ./custody -run TestRevoke -v\n", "go test ./custard -run TestRevoke -v\n"},
		{"sh", "go test ./cmd/visage -run TestScripts/cmk\n", "go test ./cmd/visage -run TestScripts/cmc\n"},
		{"sh", "go test ./server -run TestAuthorisation -update\n", "go test ./server -run TestAuthorisation -updat\n"},
		{"sh", "go run ./cmd/visage help version\n", "go run ./cmd/visags help version\n"},
		{"console", "$ go test .\nok\n", "$ go test . -run Nothing\nok\n"},
	} {
		if err := checkers[c.language](t, c.right); err != nil {
			t.Errorf("%s %q: %v", c.language, c.right, err)
		}
		if checkers[c.language](t, c.wrong) == nil {
			t.Errorf("%s %q passes", c.language, c.wrong)
		}
	}
	text := "a\n\n1. b\n   ```js\n   c();\n   ```\n```\nd\n```\n"
	if got, want := blocksOf(text), []block{{4, "js", "c();\n"}, {7, "", "d\n"}}; !slices.Equal(got, want) {
		t.Errorf("blocks %+v, want %+v", got, want)
	}
}

// fence begins or ends a block, within a list too.
var fence = regexp.MustCompile("^( *)```([a-z]*)$")

// blocksOf returns the fenced blocks of a document.
func blocksOf(text string) (all []block) {
	open, indent, n := false, "", 0
	for line := range strings.Lines(text) {
		n++
		if m := fence.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			if open = !open; open {
				indent = m[1]
				all = append(all, block{line: n, language: m[2]})
			}
		} else if open {
			all[len(all)-1].text += strings.TrimPrefix(line, indent)
		}
	}
	return all
}

// typed returns what a person typed in a session at a terminal.
func typed(text string) string {
	var lines strings.Builder
	for line := range strings.Lines(text) {
		if command, isCommand := strings.CutPrefix(line, "$ "); isCommand {
			lines.WriteString(command)
		}
	}
	return lines.String()
}

// run runs a program that checks a text. One that is not installed skips the test, unless everything has to be there.
func run(t *testing.T, stdin, name string, args ...string) error {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed, so this is not checked: %v", name, err)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// goProgram compiles and vets a program that may use this module and what it requires.
func goProgram(t *testing.T, text string) error {
	readText(t, "go.mod") // a test that passed is run again when a version has changed there
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return run(t, "", "go", "vet", file)
}

func javaScript(t *testing.T, text string) error {
	file := filepath.Join(t.TempDir(), "block.mjs")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return run(t, "", "node", "--check", file)
}

func python(t *testing.T, text string) error {
	return run(t, text, "python3", "-c", "import ast, sys; ast.parse(sys.stdin.read())")
}

func jsonText(_ *testing.T, text string) error { return json.Unmarshal([]byte(text), new(any)) }

// shell parses a script, and looks at its commands.
func shell(t *testing.T, text string) error {
	if err := run(t, text, "bash", "-n"); err != nil {
		return err
	}
	return commands(t, text)
}

var (
	remark    = regexp.MustCompile(`(^|\s)#.*`)
	separator = regexp.MustCompile(`&&|\|\||;|\n`)
)

// commands returns what is wrong with the calls of make and go in a script: a target, a package, a test or a flag that
// does not exist.
func commands(t *testing.T, text string) error {
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		for _, command := range separator.Split(remark.ReplaceAllString(line, ""), -1) {
			words := strings.Fields(command)
			for len(words) > 0 && regexp.MustCompile(`^[A-Z0-9_]+=`).MatchString(words[0]) {
				words = words[1:]
			}
			var err error
			switch {
			case len(words) == 0:
			case words[0] == "make":
				err = makeTargets(t, words[1:])
			case len(words) > 1 && words[0] == "go" && words[1] == "test":
				err = goTest(t, words[2:])
			case len(words) > 2 && words[0] == "go" && words[1] == "run":
				if !strings.HasSuffix(words[2], ".go") { // such a file is the reader's own
					_, err = packageFiles(words[2])
				}
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

var (
	target = regexp.MustCompile(`(?m)^([a-z-]+):`)
	// part is one of make prove.
	part = regexp.MustCompile(`(?m)^\t(?:\t|\{)"([a-z]+)",`)
)

func makeTargets(t *testing.T, words []string) error {
	for _, w := range words {
		known := target.FindAllStringSubmatch(readText(t, "Makefile"), -1)
		if strings.HasPrefix(w, "prove-") {
			for _, m := range part.FindAllStringSubmatch(
				readText(t, filepath.Join("test", "prove", "report", "parts.go")), -1) {
				known = append(known, []string{m[0], "prove-" + m[1]})
			}
		}
		exists := slices.ContainsFunc(known, func(m []string) bool { return m[1] == w })
		if !exists && !strings.Contains(w, "=") && !strings.HasPrefix(w, "-") {
			return fmt.Errorf("there is no target %s of make", w)
		}
	}
	return nil
}

// packageFiles returns the Go files of a package that is named by its folder. NAME in it stands for any name.
func packageFiles(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(filepath.FromSlash(dir), "*.go"))
	if err == nil && len(files) == 0 && !strings.HasSuffix(dir, "...") && !strings.HasSuffix(dir, "/NAME") {
		err = fmt.Errorf("there is no package %s", dir)
	}
	return files, err
}

// goTest returns what is wrong with the arguments of go test.
func goTest(t *testing.T, words []string) error {
	var source strings.Builder // the tests of the packages
	scripts := ""
	for _, w := range words {
		if strings.HasPrefix(w, ".") {
			files, err := packageFiles(w)
			if err != nil {
				return err
			}
			for _, f := range files {
				source.WriteString(readText(t, f))
			}
			scripts = filepath.Join(filepath.FromSlash(w), "testdata", "script")
		}
	}
	known := []string{"v", "race", "count", "timeout", "benchtime", "fuzztime", "args"}
	for i, w := range words {
		name, isFlag := strings.CutPrefix(w, "-")
		next := ""
		if i+1 < len(words) {
			next = strings.Trim(words[i+1], "'")
		}
		kind := map[string]string{"run": "(?:Test|Example|Fuzz)", "bench": "Benchmark", "fuzz": "Fuzz"}[name]
		switch {
		case !isFlag:
		case kind != "" && next != "^$" && next != ".":
			top, sub, _ := strings.Cut(next, "/")
			names := regexp.MustCompile(`(?m)^func (`+kind+`\w*)\(`).FindAllStringSubmatch(source.String(), -1)
			for alternative := range strings.SplitSeq(top, "|") {
				pattern, err := regexp.Compile(alternative)
				if err != nil {
					return err
				}
				if !slices.ContainsFunc(names, func(m []string) bool { return pattern.MatchString(m[1]) }) {
					return fmt.Errorf("-%s %s: no test is called %s", name, next, alternative)
				}
			}
			if sub != "" && top == "TestScripts" {
				if found, err := filepath.Glob(filepath.Join(scripts, sub+"*.txtar")); err != nil || len(found) == 0 {
					return fmt.Errorf("-%s %s: there is no script %s", name, next, sub)
				}
			}
		case kind != "", slices.Contains(known, name):
		case !regexp.MustCompile(`flag\.\w+\("` + regexp.QuoteMeta(name) + `"`).MatchString(source.String()):
			return fmt.Errorf("there is no flag -%s", name)
		}
	}
	return nil
}
