package command

import (
	"encoding/json"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// Output is the value of the flag --output.
type Output struct {
	value   string
	allowed []string
}

// DefineOutput adds the flag --output, or -o, with these forms; the first is the default. Without forms, they are table
// and json.
func DefineOutput(c *cobra.Command, forms ...string) *Output {
	if len(forms) == 0 {
		forms = []string{"table", "json"}
	}
	o := &Output{value: forms[0], allowed: forms}
	c.Flags().StringVarP(&o.value, "output", "o", o.value, "`FORM` of the answer: "+strings.Join(forms, " or "))
	CompleteWords(c, "output", forms...)
	return o
}

// Form returns the requested form, or an error if it is unknown.
func (o *Output) Form() (string, error) {
	if !slices.Contains(o.allowed, o.value) {
		return "", Misuse("--output must be %s; got %q", strings.Join(o.allowed, " or "), o.value)
	}
	return o.value, nil
}

// CompleteWords completes the value of a flag with the words that it accepts.
func CompleteWords(c *cobra.Command, flag string, words ...string) {
	// It fails only for a flag that does not exist.
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// WriteJSON writes an answer for programs.
func WriteJSON(w io.Writer, answer any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(answer)
}
