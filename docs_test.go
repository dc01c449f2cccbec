package visage_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// TestDecisionsAreNumberedOnce wants a number of its own for each decision, the same number in its title, no gaps, and
// a line in the index, in order.
func TestDecisionsAreNumberedOnce(t *testing.T) {
	dir := filepath.Join("docs", "decisions")
	files, err := filepath.Glob(filepath.Join(dir, "[0-9]*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no decisions in %s: %v", dir, err)
	}
	index, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i, file := range files {
		name := filepath.Base(file)
		if got := fmt.Sprintf("%04d-", i+1); !strings.HasPrefix(name, got) {
			t.Errorf("%s: its number is taken, or the one before is missing: expected %s…", file, got)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		title, _, _ := strings.Cut(string(b), "\n")
		title, numbered := strings.CutPrefix(title, fmt.Sprintf("# %d. ", i+1))
		if !numbered {
			t.Errorf("%s: its title does not begin with \"# %d. \"", file, i+1)
		}
		want = append(want, fmt.Sprintf("| [%d](%s) | %s |", i+1, name, title))
	}
	var got []string
	for line := range strings.Lines(string(index)) {
		if strings.HasPrefix(line, "| [") {
			got = append(got, line)
		}
	}
	for i, line := range want {
		if i >= len(got) || !strings.HasPrefix(got[i], line) {
			t.Errorf("docs/decisions/README.md: line %d of the table should begin with %q", i+1, line)
		}
	}
	if len(got) > len(want) {
		t.Errorf("docs/decisions/README.md lists %d decisions; there are %d", len(got), len(want))
	}
}

// TestReleasesHaveTheirStores wants the data directory of every version that the change log dates.
func TestReleasesHaveTheirStores(t *testing.T) {
	dated := datedRelease.FindAllStringSubmatch(readText(t, "CHANGELOG.md"), -1)
	if len(dated) == 0 {
		t.Error("no version is dated in CHANGELOG.md: it is not read")
	}
	for _, m := range dated {
		store := filepath.Join("test", "releases", "testdata", m[1]+".tar.gz")
		if _, err := os.Stat(store); err != nil {
			t.Errorf("%v: RELEASING.md says how it is written", err)
		}
	}
}

// datedRelease finds the headings of released versions.
var datedRelease = regexp.MustCompile(`(?m)^## \[([0-9.]+)\] - [0-9]{4}-`)

// TestEncodingsAreListed wants the encoding of every table in the list of what a format of the store stands for.
func TestEncodingsAreListed(t *testing.T) {
	list := readText(t, filepath.Join("docs", "formats", "versions.md"))
	found := map[string]bool{}
	for _, file := range sources(t, ".go") {
		room, _, _ := strings.Cut(filepath.ToSlash(file), "/")
		if strings.HasSuffix(file, "_test.go") || room == "bench" || room == "test" {
			continue
		}
		for _, m := range tableOf.FindAllStringSubmatch(readText(t, file), -1) {
			found[m[1]] = true
			if !strings.Contains(list, fmt.Sprintf("| `%s` | %s |", m[1], m[2])) {
				t.Errorf("%s: table %q with encoding %s is not in docs/formats/versions.md, which says what else to do",
					file, m[1], m[2])
			}
		}
	}
	if n := len(listedTable.FindAllString(list, -1)); len(found) < 20 || n != len(found) {
		t.Errorf("found %d tables; docs/formats/versions.md lists %d", len(found), n)
	}
}

// tableOf finds where tables are declared, listedTable where they are listed.
var (
	tableOf     = regexp.MustCompile(`NewTable\[[^(]*\]\("([^"]+)", *([0-9]+)`)
	listedTable = regexp.MustCompile("(?m)^\\| `[a-z./-]+` \\| [0-9]+ \\| [0-9 ]*\\|$")
)

// TestLinks wants every link between the documents to lead to a file that exists and, where it names one, to a heading.
func TestLinks(t *testing.T) {
	links := 0
	for _, file := range sources(t, ".md") {
		text := readText(t, file)
		for _, m := range link.FindAllStringSubmatch(withoutCode(text), -1) {
			target := m[1] + m[2] // one of the two is empty
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			links++
			name, heading, _ := strings.Cut(target, "#")
			to := file
			if name != "" {
				to = filepath.Join(filepath.Dir(file), filepath.FromSlash(name))
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: link to %q: there is no such file", file, target)
				continue
			}
			if heading != "" && filepath.Ext(to) == ".md" && !slices.Contains(headings(readText(t, to)), heading) {
				t.Errorf("%s: link to %q: %s has no such heading", file, target, to)
			}
		}
	}
	if links < 50 {
		t.Errorf("found only %d links: they are not read", links)
	}
}

// TestCodeNamesDocuments wants the documents that comments send their reader to.
func TestCodeNamesDocuments(t *testing.T) {
	for _, file := range sources(t, ".go") {
		for _, name := range document.FindAllString(readText(t, file), -1) {
			found, err := filepath.Glob(filepath.FromSlash(name))
			if !strings.HasSuffix(name, ".md") {
				found, err = filepath.Glob(filepath.FromSlash(name) + "-*.md") // a decision by its number
			}
			if err != nil || len(found) != 1 {
				t.Errorf("%s names %s, which does not exist", file, name)
			}
		}
	}
}

// TestGuidesNameFiles wants the files of the code that the guides for contributors and maintainers name, from the root.
func TestGuidesNameFiles(t *testing.T) {
	named := 0
	for _, guide := range []string{"README.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md",
		filepath.Join("docs", "architecture.md"), filepath.Join("docs", "glossary.md")} {
		for _, m := range sourceFile.FindAllStringSubmatch(readText(t, guide), -1) {
			named++
			if _, err := os.Stat(filepath.FromSlash(m[1])); err != nil {
				t.Errorf("%s names %s, which does not exist", guide, m[1])
			}
		}
	}
	if named < 5 {
		t.Errorf("found only %d names of files: they are not read", named)
	}
}

var (
	// link is one of Markdown, to a file or a picture, or a picture in HTML.
	link = regexp.MustCompile(`\]\(([^)\s]+)\)|<(?:img|source)\b[^>]*?\bsrc(?:set)?="([^"]+)"`)
	// code is a fenced block, or what stands between backquotes in one paragraph.
	code = regexp.MustCompile("(?ms)^```.*?^```|`[^`\n]*`")
	// sourceFile is a path between backquotes.
	sourceFile = regexp.MustCompile("`([a-z_.]+(?:/[a-zA-Z_.-]+)*/[a-zA-Z_-]+\\.(?:go|json|txt|txtar|yml|mjs|bin))`")
	document   = regexp.MustCompile(`\bdocs/(?:[a-z-]+/)*(?:[a-zA-Z-]+\.md|[0-9]{4}\b(?:-[a-z0-9-]+\.md)?)`)
)

func withoutCode(text string) string { return code.ReplaceAllString(text, "") }

// headings returns the names by which the headings of a document can be linked to, as GitHub forms them.
func headings(text string) []string {
	var all []string
	for line := range strings.Lines(regexp.MustCompile("(?ms)^```.*?^```").ReplaceAllString(text, "")) {
		title := strings.TrimLeft(line, "#")
		if title == line {
			continue
		}
		all = append(all, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(title)))
	}
	return all
}

// sources returns the files of the repository with an extension, in all its modules.
func sources(t *testing.T, extension string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := d.Name(); d.IsDir() && name != "." && (strings.HasPrefix(base, ".") || base == "node_modules" ||
			base == "testdata" || name == filepath.Join("models", "packs")) {
			return filepath.SkipDir
		}
		if !d.IsDir() && filepath.Ext(name) == extension {
			files = append(files, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 5 {
		t.Fatalf("found only %d files named *%s: the test runs in the wrong place", len(files), extension)
	}
	return files
}

func readText(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
