package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
)

// Commands whose help is longer than a screen of 24 lines, with the reason.
var long = map[string]string{
	"visage":            "it lists every noun",
	"visage audit list": "it has eleven filters",
	"visage cmk":        "it lists what can be done with a key, and with requests for it",
}

// TestHelpFitsOnAScreen wants the help of every command within 24 lines of 100 columns, with an example and with a
// summary in the imperative that has no full stop.
func TestHelpFitsOnAScreen(t *testing.T) {
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			visit(sub)
		}
		if c.IsAdditionalHelpTopicCommand() {
			return
		}
		path := c.CommandPath()
		var out, errs bytes.Buffer
		args := append(strings.Fields(path)[1:], "--help")
		if code := command.Execute(t.Context(), program(), command.Streams{Out: &out, Err: &errs}, args); code != 0 {
			t.Errorf("%s: exit code %d: %s", path, code, errs.String())
		}
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(lines) > 24 && long[path] == "" {
			t.Errorf("help of %s has %d lines:\n%s", path, len(lines), out.String())
		}
		for _, line := range lines {
			if utf8.RuneCountInString(line) > 100 {
				t.Errorf("help of %s has a line of %d columns:\n%s", path, utf8.RuneCountInString(line), line)
			}
		}
		if c != c.Root() && (c.Short == "" || strings.HasSuffix(c.Short, ".") || c.Short[0] < 'A' || c.Short[0] > 'Z') {
			t.Errorf("the summary of %s is %q; want an imperative without a full stop", path, c.Short)
		}
		if c.Runnable() && !c.HasAvailableSubCommands() && !strings.Contains(c.Example, path) {
			t.Errorf("the example of %s is %q", path, c.Example)
		}
	}
	visit(program())
}
