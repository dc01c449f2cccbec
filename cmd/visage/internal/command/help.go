package command

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// width is the width of help in columns.
const width = 100

// Setting marks a flag as one of the settings that many commands share: help only names it and refers to "visage help
// settings".
const Setting = "visage_setting"

// helpCommand shows help about a command or a topic.
func helpCommand() *cobra.Command {
	c := New("help [COMMAND...]", "Show help about a command or a topic", "visage help resource create")
	c.RunE = func(c *cobra.Command, words []string) error {
		at := c.Root()
		for i, word := range words {
			next := find(at, word)
			if next == nil {
				return unknownCommand(at, words[i:])
			}
			at = next
		}
		showHelp(at, nil)
		return nil
	}
	c.ValidArgsFunction = func(c *cobra.Command, words []string, _ string) ([]string, cobra.ShellCompDirective) {
		at := c.Root()
		for _, word := range words {
			if at = find(at, word); at == nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
		}
		var names []string
		for _, sub := range at.Commands() {
			if !sub.Hidden {
				names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	return c
}

// showHelp writes the help of a command, a noun or a topic.
func showHelp(c *cobra.Command, _ []string) {
	w := StreamsOf(c).Out
	switch {
	case c.IsAdditionalHelpTopicCommand():
		fmt.Fprintln(w, c.Long)
	case c == c.Root():
		overview(w, c)
	case c.Example == "":
		fmt.Fprintf(w, "%s\n\nUsage:\n  %s COMMAND\n\nCommands:\n", c.Short, c.CommandPath())
		listCommands(w, c.Commands())
		fmt.Fprintf(w, "\n\"visage help%s COMMAND\" shows one command.\n",
			strings.TrimPrefix(c.CommandPath(), c.Root().Name()))
	default:
		verbHelp(w, c)
	}
}

func verbHelp(w io.Writer, c *cobra.Command) {
	own, shared := pflag.NewFlagSet("", pflag.ContinueOnError), []string{}
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		switch {
		case f.Name == "help" || f.Hidden:
		case f.Annotations[Setting] != nil:
			shared = append(shared, "--"+f.Name)
		default:
			own.AddFlag(f)
		}
	})
	about := c.Short
	if c.Long != "" {
		about = c.Long
	}
	fmt.Fprintf(w, "%s\n\nExample:\n  %s\n\nUsage:\n  %s", fill(about, ""), strings.ReplaceAll(c.Example, "\n", "\n  "),
		c.UseLine())
	if own.HasFlags() || len(shared) > 0 {
		fmt.Fprint(w, " [flags]")
	}
	fmt.Fprintln(w)
	if c.HasAvailableSubCommands() {
		fmt.Fprint(w, "\nCommands:\n")
		listCommands(w, c.Commands())
	}
	if own.HasFlags() {
		fmt.Fprintf(w, "\nFlags:\n%s", own.FlagUsagesWrapped(width))
	}
	fmt.Fprintln(w)
	if len(shared) > 0 {
		const head = "Settings: "
		fmt.Fprintf(w, "%s%s\n\"visage help settings\" explains them, ", head,
			fill(strings.Join(shared, " "), strings.Repeat(" ", len(head))))
	}
	fmt.Fprint(w, "\"visage help exit-codes\" lists the exit codes.\n")
}

// fill breaks text into lines of at most width columns. Lines after the first begin with indent.
func fill(text, indent string) string {
	var b strings.Builder
	column := len(indent)
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case column+1+len(word) > width:
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}

func listCommands(w io.Writer, commands []*cobra.Command) {
	t := Table{Gap: 3}
	for _, c := range commands {
		if c.IsAvailableCommand() {
			t.Row("  "+c.Name(), c.Short)
		}
	}
	_ = t.Write(w) // errors of a terminal cannot be reported
}

// overview lists all nouns and verbs, by group.
func overview(w io.Writer, root *cobra.Command) {
	fmt.Fprintf(w, "%s\n\n"+
		"  visage serve                   start the service; the first start creates what it needs\n"+
		"  visage resource keys default   show the access keys that clients send\n", root.Short)
	for _, g := range root.Groups() {
		fmt.Fprintf(w, "\n%s\n", g.Title)
		var of []*cobra.Command
		for _, c := range root.Commands() {
			if c.GroupID == g.ID {
				of = append(of, c)
			}
		}
		listCommands(w, of)
	}
	fmt.Fprint(w, "\n\"visage help COMMAND\" shows more, as do \"visage help settings\" and "+
		"\"visage help exit-codes\".\n")
}
