package command

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// completionCommand writes the script with which a shell completes command lines.
func completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	c := New("completion bash|zsh|fish", "Write the completion script of a shell", "source <(visage completion bash)")
	c.Long = "Write the script with which a shell completes commands, flags, and the names of resources, vaults, " +
		"keys and identities. Names come from the running server of --dir; while it is stopped, none are offered. " +
		"For fish: \"visage completion fish | source\"."
	c.ValidArgsFunction = func(_ *cobra.Command, words []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(words) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return shells, cobra.ShellCompDirectiveNoFileComp
	}
	c.RunE = func(c *cobra.Command, operands []string) error {
		root, out := c.Root(), StreamsOf(c).Out
		switch operands[0] {
		case "bash":
			if _, err := io.WriteString(out, bashWords); err != nil {
				return err
			}
			return root.GenBashCompletionV2(out, true)
		case "zsh":
			return root.GenZshCompletion(out)
		case "fish":
			return root.GenFishCompletion(out, true)
		}
		return Misuse("the shell must be bash, zsh or fish; got %q", operands[0])
	}
	return c
}

// bashWords replaces the one function of the package bash-completion that the script needs, if that is not installed.
// It uses bash's own word splitting, which differs only for words with ":" or "=".
const bashWords = `if ! declare -F _get_comp_words_by_ref >/dev/null && ! declare -F _init_completion >/dev/null; then
    _get_comp_words_by_ref() {
        words=("${COMP_WORDS[@]}") cword=$COMP_CWORD cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    }
fi
`

// manCommand writes the manual pages. It is for packagers, so the overview omits it.
func manCommand() *cobra.Command {
	c := New("man DIR", "Write the manual pages into a folder", "visage man /usr/local/share/man/man1")
	c.Hidden = true
	c.RunE = func(c *cobra.Command, operands []string) error {
		if err := os.MkdirAll(operands[0], 0o755); err != nil {
			return err
		}
		root := c.Root()
		forManual(root)
		date := built()
		if err := doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "Visage", Date: &date},
			operands[0]); err != nil {
			return fmt.Errorf("write manual pages: %w", err)
		}
		return nil
	}
	return c
}

// forManual prepares the commands for manual pages: a usage line that shows flags and commands, and the help topics on
// the page of the program.
func forManual(root *cobra.Command) {
	root.DisableAutoGenTag = true
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			visit(sub)
		}
		switch {
		case c.HasAvailableSubCommands() && c.Example == "":
			c.Use += " COMMAND"
		case c.LocalFlags().HasAvailableFlags():
			c.Use += " [flags]"
		}
	}
	visit(root)
	root.Long = root.Short
	for _, c := range root.Commands() {
		if c.IsAdditionalHelpTopicCommand() {
			page := strings.ReplaceAll(strings.TrimSuffix(c.Long, "\n"), "\n", "\n    ")
			title := strings.ToUpper(strings.ReplaceAll(c.Name(), "-", " "))
			root.Long += fmt.Sprintf("\n\n# %s\n\n    %s", title, page)
		}
	}
}

// built is the time of the commit of this build, so that the same program writes the same pages; if it is unknown, the
// present.
func built() time.Time {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if at, err := time.Parse(time.RFC3339, s.Value); err == nil && s.Key == "vcs.time" {
				return at
			}
		}
	}
	return time.Now()
}
