package command

import (
	"strings"

	"github.com/spf13/cobra"
)

// listOrSuggest is what a noun does by itself: it lists its commands, or says which one was probably meant.
func listOrSuggest(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		showHelp(c, nil)
		return nil
	}
	return unknownCommand(c, args)
}

// unknownCommand is the error for a word below c that names no command.
func unknownCommand(c *cobra.Command, args []string) error {
	err := Misuse("unknown command %q", strings.TrimPrefix(c.CommandPath()+" "+args[0], c.Root().Name()+" "))
	if meant := suggest(c, args); meant != "" {
		return Hinted(err, "did you mean %q?", meant)
	}
	if c == c.Root() {
		return Hinted(err, "\"visage help\" lists the commands")
	}
	return Hinted(err, "\"visage help %s\" lists its commands", c.Name())
}

// suggest returns the command that args probably mean, or "". Where the noun is mistyped the verb after it decides
// among several candidates.
func suggest(c *cobra.Command, args []string) string {
	var names []string
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			names = append(names, sub.Name())
		}
	}
	best := ""
	for _, name := range nearest(args[0], names) {
		sub := find(c, name)
		if len(args) > 1 && sub.HasAvailableSubCommands() {
			if next := find(sub, args[1]); next != nil {
				return next.CommandPath()
			}
			if deeper := suggest(sub, args[1:]); deeper != "" {
				return deeper
			}
		}
		if best == "" {
			best = sub.CommandPath()
		}
	}
	return best
}

// nearest returns the names that are spelled almost like the given one, or begin with it.
func nearest(given string, names []string) []string {
	const mostEdits = 2
	// cobra compares the names of commands, so that is what these become.
	words := &cobra.Command{SuggestionsMinimumDistance: mostEdits}
	for _, name := range names {
		words.AddCommand(&cobra.Command{Use: name, Run: func(*cobra.Command, []string) {}})
	}
	return words.SuggestionsFor(given)
}

// find returns the command directly below c with a name, or nil.
func find(c *cobra.Command, name string) *cobra.Command {
	for _, sub := range c.Commands() {
		if sub.Name() == name {
			return sub
		}
	}
	return nil
}
