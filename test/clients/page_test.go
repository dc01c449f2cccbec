package clients_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// module is the root of the source tree.
var module = filepath.Join("..", "..")

var page = filepath.Join(module, "docs", "clients.md")

// The flows of a client, in the order of the table.
var flows = []string{"sign in", "vault keys", "CMK enable", "face"}

// block is a part of the page that is run, or written to a file.
type block struct {
	kind  string // "block" or "file"
	name  string // of the client, or of the file
	about string // the flows of a block, the clients of a file
	text  string
	line  int
}

// clients are the clients of a file.
func (b block) clients() []string { return strings.Split(b.about, " + ") }

// marker is the comment before a block: "block: CLIENT; FLOW, FLOW" or "file: NAME; CLIENT + CLIENT".
var marker = regexp.MustCompile(`^<!-- (block|file): ([^;]+?)(?:; (.+))? -->$`)

// readPage returns the marked blocks of the page, in order.
func readPage(t *testing.T) []block {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	var all []block
	for i := 0; i < len(lines); i++ {
		m := marker.FindStringSubmatch(lines[i])
		if m == nil {
			continue
		}
		at := i + 1
		end := at + 1 + slices.Index(lines[at+1:], "```")
		if !strings.HasPrefix(lines[at], "```") || end <= at {
			t.Fatalf("clients.md:%d: no block follows the marker", i+1)
		}
		all = append(all, block{m[1], m[2], m[3], strings.Join(lines[at+1:end], "\n") + "\n", i + 1})
		i = end
	}
	if len(all) < 10 {
		t.Fatalf("clients.md has %d marked blocks: want more", len(all))
	}
	return all
}

// of returns the blocks of one kind and name.
func of(all []block, kind, name string) (found []block) {
	for _, b := range all {
		if b.kind == kind && b.name == name {
			found = append(found, b)
		}
	}
	return found
}

// row is a client's line in the table of the page.
func row(client string, done map[string]bool) string {
	line := "| " + client + " |"
	for _, f := range flows {
		line += map[bool]string{true: " yes |", false: " |"}[done[f]]
	}
	return line
}

const tableBegin, tableEnd = "<!-- table -->\n", "<!-- end of table -->"

// checkTable compares the rows of the clients that ran with the page or, with update, writes them into it.
func checkTable(t *testing.T, order []string, rows map[string]string, update bool) {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(b), tableBegin)
	table, after, closed := strings.Cut(rest, tableEnd)
	if !found || !closed {
		t.Fatal("clients.md has no place for the table")
	}
	if !update {
		for _, want := range rows {
			if !strings.Contains(table, want+"\n") {
				t.Errorf("the table in clients.md does not say: %s", want)
			}
		}
		return
	}
	var written strings.Builder
	fmt.Fprintf(&written, "| client | %s |\n|%s\n", strings.Join(flows, " | "), strings.Repeat(" --- |", len(flows)+1))
	for _, client := range order {
		line, run := rows[client]
		if !run { // the page keeps its earlier result
			i := strings.Index(table, "| "+client+" |")
			if i < 0 {
				continue
			}
			line, _, _ = strings.Cut(table[i:], "\n")
		}
		written.WriteString(line + "\n")
	}
	if err := os.WriteFile(page, []byte(before+tableBegin+written.String()+tableEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
