// Command visage is the service and everything an operator does with it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/sealed"
)

// Exit codes, the same for every command.
const (
	exitOK          = 0
	exitFailure     = 1 // what was asked for could not be done
	exitUsage       = 2 // the command line, the environment or the configuration file is wrong; nothing was done
	exitDamaged     = 3 // verify, audit: something stored does not open, or is not what was signed
	exitUnreachable = 4 // the server cannot be reached
	exitDisk        = 5 // the disk is full or failed; what was acknowledged is there when it is well again
)

// exitCodes is what every help text ends with.
const exitCodes = `Exit codes:
  0  done
  1  could not be done
  2  the command line, environment or configuration file is wrong; nothing was done
  3  verify, audit: something stored does not open, or is not what was signed
  4  the server cannot be reached
  5  the disk is full or failed; what was acknowledged is there
`

// streams are where a command reads and writes: answers on out, progress and errors on err.
type streams struct {
	out, err io.Writer
}

// command is one command: a noun and a verb, or a verb alone.
type command struct {
	name    string // for example "resource keys"
	args    string // what follows it, for the usage line
	summary string
	example string // one that works, shown first
	// define adds the command's flags and returns what runs it with the arguments that are left.
	define func(fs *flag.FlagSet) func(ctx context.Context, s streams, args []string) error
}

func commands() []command {
	return []command{
		serveCommand(), demoCommand(), envCommand(),
		modelsConvertCommand(), modelsInstallCommand(), modelsListCommand(), modelsShowCommand(),
		modelsCalibrateCommand(),
		resourceCreateCommand(), resourceListCommand(), resourceShowCommand(), resourceUpdateCommand(),
		resourceKeysCommand(), resourceRegenerateCommand(), resourceIdentityCommand(),
		resourceDeleteCommand(), resourceRecoverCommand(), resourcePurgeCommand(),
		cmkRequestCommand(), cmkRequestsCommand(), cmkApproveCommand(), cmkRejectCommand(), cmkWithdrawCommand(),
		cmkCapacityCommand(), cmkEnableCommand(), cmkSwitchCommand(), cmkDisableCommand(), cmkStatusCommand(),
		cmkLockCommand(), cmkUnlockCommand(), cmkPolicyCommand(),
		auditListCommand(), auditResourceCommand(), auditExportCommand(), auditVerifyCommand(),
		vaultCreateCommand(), vaultListCommand(), vaultShowCommand(), vaultUpdateCommand(), vaultSetPolicyCommand(),
		vaultDeleteCommand(),
		vaultRecoverCommand(), vaultPurgeCommand(),
		keyCreateCommand(), keyImportCommand(), keyListCommand(), keyVersionsCommand(), keyShowCommand(),
		keyUpdateCommand(),
		keyRotateCommand(), keyPolicyCommand(), keyDeleteCommand(), keyRecoverCommand(), keyPurgeCommand(),
		keyBackupCommand(), keyRestoreCommand(),
		identityCreateCommand(), identityListCommand(), identityShowCommand(), identityDeleteCommand(),
		identityResetCommand(), identityTrustCommand(),
		identityAssignCommand(), identityRolesCommand(), identityUnassignCommand(),
		eraseProofCommand(), eraseProofCheckCommand(), drillRevokeCommand(),
		retentionShowCommand(), retentionSetCommand(), retentionClearCommand(), retentionRunCommand(),
		holdListCommand(), holdPlaceCommand(), holdReleaseCommand(),
		backupCreateCommand(), backupListCommand(), backupVerifyCommand(), backupPruneCommand(),
		keyringExportCommand(), keyringImportCommand(), restoreCommand(),
		verifyCommand(), evaluateCommand(), benchSearchCommand(), benchVisionCommand(), versionCommand(),
	}
}

// garbage is how much garbage is let grow, in percent of what lives, unless GOGC says so. What lives is little, for
// templates and keys have memory of their own, and opening a record leaves two kilobytes behind: at the usual 100 a
// third of the time of reading goes into collecting.
const garbage = 400

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, streams{out: os.Stdout, err: os.Stderr}, os.Args[1:])
	stop()
	os.Exit(code)
}

// run finds the command that args begin with, runs it, tells of its error, and returns the exit code.
func run(ctx context.Context, s streams, args []string) int {
	all := commands()
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		if len(args) > 1 {
			if c, _ := find(all, args[1:]); c != nil {
				c.help(s.out)
				return exitOK
			}
		}
		overview(s.out, all)
		return exitOK
	}
	c, rest := find(all, args)
	if c == nil {
		fmt.Fprintf(s.err, "visage: there is no command %q\nhint: \"visage help\" lists the commands\n",
			strings.Join(args[:min(2, len(args))], " "))
		return exitUsage
	}
	fs := newFlags(c.name)
	start := c.define(fs)
	operands, err := parse(fs, rest)
	if errors.Is(err, flag.ErrHelp) {
		c.help(s.out)
		return exitOK
	}
	if err != nil {
		return report(s, usage(c, "%v", err))
	}
	return report(s, start(ctx, s, operands))
}

// parse reads flags wherever they stand, before, between and after the other arguments, which it returns. What follows
// "--" is no flag.
func parse(fs *flag.FlagSet, args []string) (operands []string, err error) {
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		rest := fs.Args()
		if used := len(args) - len(rest); used > 0 && args[used-1] == "--" {
			return append(operands, rest...), nil
		}
		if len(rest) == 0 {
			return operands, nil
		}
		operands, args = append(operands, rest[0]), rest[1:]
	}
}

// newFlags makes an empty set of flags that says nothing by itself.
func newFlags(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	return fs
}

// find returns the command whose name args begin with, and what follows it.
func find(all []command, args []string) (*command, []string) {
	for n := min(2, len(args)); n > 0; n-- {
		name := strings.Join(args[:n], " ")
		for i := range all {
			if all[i].name == name {
				return &all[i], args[n:]
			}
		}
	}
	return nil, nil
}

func overview(w io.Writer, all []command) {
	fmt.Fprint(w, "Visage recognises faces, keeps them sealed, and speaks the Azure AI Face API.\n\n"+
		"  visage serve                 start the service; the first start makes everything it needs\n"+
		"  visage resource keys default   show the keys to call it with\n\n"+
		"Commands:\n")
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, c := range all {
		fmt.Fprintf(t, "  %s\t%s\n", c.name, c.summary)
	}
	t.Flush()
	fmt.Fprint(w, "\n\"visage help COMMAND\" says more.\n\n"+exitCodes)
}

func (c *command) help(w io.Writer) {
	fmt.Fprintf(w, "%s\n\nExample:\n  %s\n\nUsage:\n  visage %s", c.summary, c.example, c.name)
	fs := newFlags(c.name)
	c.define(fs)
	flags := 0
	fs.VisitAll(func(*flag.Flag) { flags++ })
	if flags > 0 {
		fmt.Fprint(w, " [flags]")
	}
	if c.args != "" {
		fmt.Fprint(w, " ", c.args)
	}
	fmt.Fprintln(w)
	if flags > 0 {
		fmt.Fprint(w, "\nFlags:\n")
		fs.VisitAll(func(f *flag.Flag) {
			fmt.Fprintf(w, "  --%s\n        %s\n", f.Name, strings.ReplaceAll(f.Usage, "\n", "\n        "))
		})
	}
	fmt.Fprint(w, "\n"+exitCodes)
}

// failure is an error with the exit code it leads to and what to do about it.
type failure struct {
	err  error
	code int
	hint string // the command to run; empty: none
}

// Error returns the text of what failed.
func (f *failure) Error() string { return f.err.Error() }

// Unwrap returns what failed.
func (f *failure) Unwrap() error { return f.err }

// hinted adds to an error the command that helps.
func hinted(err error, format string, args ...any) error {
	code := exitFailure
	if f, ok := errors.AsType[*failure](err); ok {
		code = f.code
	}
	return &failure{err: err, code: code, hint: fmt.Sprintf(format, args...)}
}

// usage is the error of a command that was called wrongly.
func usage(c *command, format string, args ...any) error {
	return &failure{err: fmt.Errorf(format, args...), code: exitUsage,
		hint: fmt.Sprintf("\"visage help %s\" shows how it is called", c.name)}
}

// report tells of an error and returns the exit code.
func report(s streams, err error) int {
	if err == nil {
		return exitOK
	}
	f, ok := errors.AsType[*failure](err)
	if !ok {
		f = &failure{err: err, code: exitFailure}
	}
	if f.code == exitFailure && (errors.Is(err, sealed.ErrFull) || errors.Is(err, sealed.ErrBroken) ||
		durable.IsFull(err)) {
		f.code = exitDisk
	}
	for i, line := range strings.Split(err.Error(), "\n") {
		if i == 0 {
			fmt.Fprintf(s.err, "visage: %s\n", line)
		} else {
			fmt.Fprintf(s.err, "        %s\n", line)
		}
	}
	if f.hint != "" {
		fmt.Fprintf(s.err, "hint: %s\n", f.hint)
	}
	return f.code
}
