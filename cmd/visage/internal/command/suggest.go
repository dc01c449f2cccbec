package command

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// listOrSuggest runs a noun by itself: it lists its commands, or suggests the one that was probably meant.
func listOrSuggest(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknownCommand(c, args)
	}
	if flag := strayFlag(c); flag != "" {
		return Misuse("unknown flag %s", flag)
	}
	showHelp(c, nil)
	return nil
}

// given is the context key of the words of the command line, set by Execute.
type given struct{}

// strayFlag returns the first flag on the command line of a noun that no command below it has, or "". cobra accepts
// such flags here, because an unknown verb is to be reported first.
func strayFlag(c *cobra.Command) string {
	words, _ := c.Context().Value(given{}).([]string)
	for _, word := range words {
		name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
		if len(word) > 1 && word[0] == '-' && name != "" && !hasFlag(c, name) {
			return strings.TrimSuffix(word, strings.TrimPrefix(strings.TrimLeft(word, "-"), name))
		}
	}
	return ""
}

// hasFlag reports whether a command, or one below it, has a flag with a name.
func hasFlag(c *cobra.Command, name string) bool {
	if c.Flags().Lookup(name) != nil || len(name) == 1 && c.Flags().ShorthandLookup(name) != nil {
		return true
	}
	return slices.ContainsFunc(c.Commands(), func(sub *cobra.Command) bool { return hasFlag(sub, name) })
}

// unknownCommand is the error for a word below c that names no command.
func unknownCommand(c *cobra.Command, args []string) error {
	below := strings.TrimPrefix(c.CommandPath(), c.Root().Name()) // begins with a space, or is empty
	err := Misuse("unknown command %q", strings.TrimPrefix(below+" "+args[0], " "))
	if !c.HasAvailableSubCommands() {
		return Hinted(err, "\"visage help%s\" shows the usage", below)
	}
	if meant := suggest(c, args); meant != "" {
		return Hinted(err, "did you mean %q?", meant)
	}
	if c == c.Root() {
		return Hinted(err, "\"visage help\" lists the commands")
	}
	return Hinted(err, "\"visage help%s\" lists its commands", below)
}

// suggest returns the command that args probably mean, or "". If the noun is mistyped, the verb after it decides
// between several candidates.
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

// nearest returns the names that are spelled almost like a word, or begin with it.
func nearest(word string, names []string) []string {
	if word == "" {
		return nil
	}
	const mostEdits = 2
	// cobra compares the names of commands, so each name becomes one.
	words := &cobra.Command{SuggestionsMinimumDistance: mostEdits}
	for _, name := range names {
		words.AddCommand(&cobra.Command{Use: name, Run: func(*cobra.Command, []string) {}})
	}
	return words.SuggestionsFor(word)
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
