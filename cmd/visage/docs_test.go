package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commandLine is a command of the program in a document: what stands in a line of code behind its name.
var commandLine = regexp.MustCompile("(?:^|[\\s`(\"])(?:\\./bin/|\\./cmd/)?visage ([a-z][^`|\n;>&()]*)")

// TestDocumentsNameCommands wants every command and every flag that the documents show to exist.
func TestDocumentsNameCommands(t *testing.T) {
	root := program()
	root.InitDefaultHelpCmd()
	others := map[string]bool{
		"output":  true, // a chain of the table "visage" in rules of a firewall
		"archive": true, // the mark at the beginning of an archive
	}
	seen := 0
	for _, file := range documents(t) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, code := range codeOf(string(b)) {
			for _, m := range commandLine.FindAllStringSubmatch(code, -1) {
				if words := strings.Fields(m[1]); others[words[0]] {
					continue
				}
				seen++
				if fault := unknownIn(root, strings.Fields(m[1])); fault != "" {
					t.Errorf("%s: visage %s: %s", file, strings.TrimSpace(m[1]), fault)
				}
			}
		}
	}
	if seen < 100 {
		t.Errorf("found only %d commands: the documents are not read", seen)
	}
}

// TestREADMEListsEveryCommand wants each command of "visage help" in the table of README.md.
func TestREADMEListsEveryCommand(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(b), "\n| command | purpose |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	if !found {
		t.Fatal("README.md has no table of commands")
	}
	listed := map[string]bool{}
	for row := range strings.Lines(table) {
		cell, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " | ")
		for _, code := range span.FindAllString(cell, -1) {
			words := strings.Fields(strings.TrimPrefix(strings.Trim(code, "`"), "visage "))
			if len(words) > 0 {
				listed[words[0]] = true
			}
		}
	}
	for _, c := range program().Commands() {
		if c.IsAvailableCommand() && !c.IsAdditionalHelpTopicCommand() && !listed[c.Name()] {
			t.Errorf("the table of commands in README.md does not list visage %s", c.Name())
		}
	}
}

// documents are the documents of the source tree, the change log left out: it tells of older versions as well.
func documents(t *testing.T) []string {
	t.Helper()
	up := filepath.Join("..", "..")
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(up, filepath.FromSlash(pattern)))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	kept := all[:0]
	for _, file := range all {
		if filepath.Base(file) != "CHANGELOG.md" {
			kept = append(kept, file)
		}
	}
	return kept
}

// span is code within a paragraph.
var span = regexp.MustCompile("`[^`\n]+`")

// codeOf returns the code in a document: each fenced block with its continued lines joined, and each span.
func codeOf(text string) (code []string) {
	for i, part := range strings.Split(text, "```") {
		if i%2 == 1 {
			code = append(code, strings.ReplaceAll(part, "\\\n", " "))
		} else {
			code = append(code, span.FindAllString(part, -1)...)
		}
	}
	return code
}

// unknownIn says what in a command line does not exist, or "".
func unknownIn(root *cobra.Command, words []string) string {
	at := root
	for len(words) > 0 && at.HasSubCommands() {
		next, _, err := at.Find(words[:1])
		if err != nil || next == at {
			break
		}
		at, words = next, words[1:]
	}
	isNoun := at.HasSubCommands() && at.Example == ""
	if isNoun && len(words) > 0 && regexp.MustCompile(`^[a-z][a-z-]*$`).MatchString(words[0]) {
		return "there is no command " + words[0]
	}
	if at == root {
		return "there is no such command"
	}
	for _, w := range words {
		if w == "#" || at.Name() == "help" {
			break
		}
		name, isFlag := strings.CutPrefix(w, "--")
		name, _, _ = strings.Cut(name, "=")
		name = strings.TrimRight(name, ".,:]")
		var f *pflag.Flag
		if isFlag && name != "" {
			f = at.Flags().Lookup(name)
			if f == nil && name != "help" {
				return "there is no flag --" + name
			}
		}
	}
	return ""
}
