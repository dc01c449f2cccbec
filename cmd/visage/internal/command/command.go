// Package command declares commands and runs them: New, Run and Noun make them, Execute runs one and returns its exit
// code. It also writes help, tables, colours, suggestions, completion and manual pages, so that these look the same for
// all commands.
package command

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Streams are where a command writes: answers to Out, progress, notes and errors to Err.
type Streams struct {
	Out, Err io.Writer
}

// StreamsOf returns the streams that a command was started with.
func StreamsOf(c *cobra.Command) Streams { return Streams{Out: c.OutOrStdout(), Err: c.ErrOrStderr()} }

// New declares a command. use is its name and its operands, as the usage line shows them: NAME is required, [NAME] may
// be left out, [NAME...] may also be repeated. The number of operands is checked against it. Lists show the first
// sentence of about, help shows all of it. example is a command line that works.
func New(use, about, example string) *cobra.Command {
	summary, more, _ := strings.Cut(about, ". ")
	c := &cobra.Command{
		Use: use, Short: strings.TrimSuffix(summary, "."), Example: example, Args: countOperands,
		DisableFlagsInUseLine: true, ValidArgsFunction: completeFiles,
	}
	if more != "" {
		c.Long = about
	}
	return c
}

// Run sets the function that a command runs, which gets the operands.
func Run(c *cobra.Command, run func(ctx context.Context, s Streams, operands []string) error) *cobra.Command {
	c.RunE = func(c *cobra.Command, operands []string) error { return run(c.Context(), StreamsOf(c), operands) }
	return c
}

// Noun declares the parent of the commands of one noun. By itself it lists them.
func Noun(name, summary string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: name, Short: summary, RunE: listOrSuggest, DisableFlagsInUseLine: true,
		// An unknown verb is reported rather than the flags that follow it.
		Args: cobra.ArbitraryArgs, FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
	}
	c.AddCommand(verbs...)
	return c
}

// Topic declares a page of "visage help" that is not a command.
func Topic(name, summary, text string) *cobra.Command {
	return &cobra.Command{Use: name, Short: summary, Long: strings.TrimSuffix(text, "\n")}
}

// countOperands checks the number of operands against the usage line.
func countOperands(c *cobra.Command, operands []string) error {
	wanted := strings.Fields(c.Use)[1:]
	least, most := 0, len(wanted)
	for _, w := range wanted {
		if !strings.HasPrefix(w, "[") {
			least++
		}
		if strings.HasSuffix(w, "...]") {
			most = len(operands)
		}
	}
	switch {
	case least <= len(operands) && len(operands) <= most:
		return nil
	case most == 0:
		return Misuse("%q takes no arguments; got %q", c.CommandPath(), operands[0])
	}
	got := fmt.Sprintf("%d arguments", len(operands))
	if len(operands) == 1 {
		got = "1 argument"
	}
	return Misuse("%q takes %s; got %s", c.CommandPath(), strings.Join(wanted, " "), got)
}

// completeFiles completes an operand with file names where the usage line allows one more operand, and offers nothing
// elsewhere.
func completeFiles(c *cobra.Command, operands []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	wanted := strings.Fields(c.Use)[1:]
	if len(operands) < len(wanted) || len(wanted) > 0 && strings.HasSuffix(wanted[len(wanted)-1], "...]") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// Execute runs the command of root that args name, reports its error, and returns the exit code.
func Execute(ctx context.Context, root *cobra.Command, s Streams, args []string) int {
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetArgs(append([]string{}, args...)) // nil would mean the arguments of the process
	c, err := root.ExecuteContextC(context.WithValue(ctx, given{}, args))
	return report(s, c, err)
}

// AddGroup adds commands to the program; the overview lists them together.
func AddGroup(root *cobra.Command, title string, commands ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: title, Title: title + ":"})
	for _, c := range commands {
		c.GroupID = title
	}
	root.AddCommand(commands...)
}

// Root declares the program itself, with help and completion.
func Root(name, about string, commands ...*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use: name, Short: about, RunE: listOrSuggest, Args: cobra.ArbitraryArgs,
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
		SilenceErrors:      true, SilenceUsage: true, DisableFlagsInUseLine: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetHelpFunc(showHelp)
	root.SetFlagErrorFunc(explainFlag)
	root.SetHelpCommand(helpCommand())
	root.AddCommand(commands...)
	root.AddCommand(completionCommand(), manCommand(),
		Topic("exit-codes", "The exit codes of all commands", exitCodes))
	return root
}
