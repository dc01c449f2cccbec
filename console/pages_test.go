package console

import (
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// unjudged are routes for GET that are not pages of their own.
var unjudged = map[string]string{
	"/console/resources/{account}/receipts/{entry}/file": "a file",

	"/console/assets/{hash}/{name}": "a file",
	"/console/jobs/{job}":           "shown by the walk that starts one",

	"/console/jobs/{job}/files/{file}":       "a file",
	"/console/audit/export":                  "a file",
	"/console/audit/events/{sequence}/proof": "a file",

	"/console/signin/openid/answer/{issuer}": "leads on to the next",
	"/console/signin/openid/done":            "leads on to the console",
}

// TestEveryPageIsJudged holds that test/console/pages.mjs, whose pages axe and Lighthouse judge and people look at, has
// every page. A page that is missing is one line there; what its path needs is made in test/console/furnish_test.go.
func TestEveryPageIsJudged(t *testing.T) {
	text, err := os.ReadFile("../test/console/pages.mjs")
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, m := range regexp.MustCompile(`path: '(/[^'?]*)`).FindAllStringSubmatch(string(text), -1) {
		paths = append(paths, m[1])
	}
	for _, r := range (&Console{}).table() {
		if r.method != http.MethodGet || unjudged[r.pattern] != "" {
			continue
		}
		if !slices.ContainsFunc(paths, func(path string) bool { return matches(r.pattern, path) }) {
			t.Errorf("page %s is not in test/console/pages.mjs; if it is no page, say so in unjudged", r.pattern)
		}
	}
}

// TestScrollingByKeyboard holds that what scrolls sideways on a narrow screen can be reached without a mouse, whatever
// is in it.
func TestScrollingByKeyboard(t *testing.T) {
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil || len(names) == 0 {
		t.Fatalf("no templates (%v)", err)
	}
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), `class="scroll">`) {
			t.Errorf(`%s: write <div class="scroll" tabindex="0">`, name)
		}
	}
}

// TestTablesOnNarrowScreens holds that a cell says what it is where a row is a block: class "stack", and data-label in
// each cell that is no heading or action. A table of figures alone scrolls instead.
func TestTablesOnNarrowScreens(t *testing.T) {
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil || len(names) == 0 {
		t.Fatalf("no templates (%v)", err)
	}
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range strings.Split(string(text), `<table class="list`)[1:] {
			row, _, _ := strings.Cut(table[max(0, strings.Index(table, "<tbody>")):], "</tr>")
			if strings.Contains(row, "{{range .Cells}}") {
				continue
			}
			if !strings.HasPrefix(table, ` stack">`) || !strings.Contains(row, "<td data-label=") {
				t.Errorf(`%s: write <table class="list stack"> and <td data-label="{{t "…"}}">: %s`, name, row)
			}
		}
	}
}

// matches reports whether a path is one of a pattern's: {x} stands for any segment.
func matches(pattern, path string) bool {
	p, s := strings.Split(pattern, "/"), strings.Split(path, "/")
	return slices.EqualFunc(p, s, func(p, s string) bool { return p == s || strings.HasPrefix(p, "{") })
}
