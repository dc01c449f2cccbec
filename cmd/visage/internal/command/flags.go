package command

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// explainFlag describes the mistake in a flag: the allowed values, or the flag that was probably meant.
func explainFlag(c *cobra.Command, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		given := "--" + unknown.GetSpecifiedName()
		// pflag reads a long flag with one dash as several short ones.
		if letters := unknown.GetSpecifiedShortnames(); letters != "" {
			given = "-" + letters
		}
		misuse := Misuse("unknown flag %s", given)
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if meant := nearest(strings.TrimLeft(given, "-"), names); len(meant) > 0 {
			return Hinted(misuse, "did you mean --%s?", meant[0])
		}
		return misuse
	}
	if missing, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return Misuse("--%s needs a value", missing.GetFlag().Name)
	}
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		f := invalid.GetFlag()
		return Misuse("--%s must be %s; got %q", f.Name, allowed(f), invalid.GetValue())
	}
	return Misuse("%w", err)
}

// allowed describes the values that a flag accepts.
func allowed(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "bool":
		return "true or false"
	case "int":
		return "a whole number"
	case "uint64":
		return "a whole number from 0"
	case "duration":
		return "a duration such as 90s, 5m or 1h"
	}
	return "a " + f.Value.Type()
}
