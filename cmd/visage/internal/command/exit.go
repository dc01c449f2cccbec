package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/sealed"
)

// Exit codes, the same for every command.
const (
	ExitOK          = 0
	ExitFailure     = 1 // the command failed
	ExitUsage       = 2 // the command line, the environment or the configuration file is wrong; nothing was changed
	ExitDamaged     = 3 // verify, audit, backup: stored data is damaged, or differs from what was signed
	ExitUnreachable = 4 // the server cannot be reached
	ExitDisk        = 5 // the disk is full or failed; acknowledged data is safe and available once the disk works again
	ExitPIN         = 6 // serve: the token of the root key refuses its PIN, and each start tries the PIN once
)

// exitCodes is the page "visage help exit-codes".
const exitCodes = `Exit codes, the same for every command:
  0  success
  1  the command failed
  2  the command line, the environment or the configuration file is wrong; nothing was done
  3  verify, audit, backup, erase-proof: stored data is damaged, or differs from what was signed
  4  the server cannot be reached
  5  the disk is full or failed; acknowledged data is safe and there again once the disk works
  6  serve: the token of the root key refuses its PIN; nothing may start the service again by itself
`

// Failure is an error with the exit code of the command.
type Failure struct {
	Err  error
	Code int
	Hint string // what to do, for example a command to run; empty if unknown
}

// Error returns the text of the error.
func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns the error.
func (f *Failure) Unwrap() error { return f.Err }

// Misuse is the error of a wrong command line: nothing was changed. The hint names the command's help.
func Misuse(format string, args ...any) error {
	return &Failure{Err: fmt.Errorf(format, args...), Code: ExitUsage}
}

// Hinted adds a hint to an error. The exit code stays.
func Hinted(err error, format string, args ...any) error {
	code := ExitFailure
	if f, ok := errors.AsType[*Failure](err); ok {
		code = f.Code
	}
	return &Failure{Err: err, Code: code, Hint: fmt.Sprintf(format, args...)}
}

// report writes the error of a command, and returns the exit code.
func report(s Streams, c *cobra.Command, err error) int {
	if err == nil {
		return ExitOK
	}
	f, ok := errors.AsType[*Failure](err)
	if !ok {
		f = &Failure{Err: err, Code: ExitFailure}
	}
	code, hint := f.Code, f.Hint
	if _, newer := errors.AsType[*sealed.NewerError](err); newer {
		hint = "" // the error already says what to do; the hint is for other failures of the same step
	}
	if code == ExitFailure && (errors.Is(err, sealed.ErrFull) || errors.Is(err, sealed.ErrBroken) ||
		durable.IsFull(err)) {
		code = ExitDisk
	}
	if code == ExitUsage && hint == "" {
		hint = fmt.Sprintf("\"visage help%s\" shows the usage", strings.TrimPrefix(c.CommandPath(), c.Root().Name()))
	}
	for i, line := range strings.Split(err.Error(), "\n") {
		if i == 0 {
			fmt.Fprintf(s.Err, "%s %s\n", Paint(s.Err, Red, "visage:"), line)
		} else {
			fmt.Fprintf(s.Err, "        %s\n", line)
		}
	}
	if hint != "" {
		fmt.Fprintf(s.Err, "%s %s\n", Paint(s.Err, Yellow, "hint:"), hint)
	}
	return code
}
