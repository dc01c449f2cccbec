// Package verify implements "visage verify", which opens every stored record and reports what does not open.
package verify

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
)

// Command is "visage verify".
func Command() *cobra.Command {
	c := command.New("verify", "Open every stored record, and report damage", "visage verify --dir ~/.visage")
	c.Long = "Open every record of a stopped server or, with --online, of the running one, and report what does not " +
		"open. Locked resources are counted; they are not damage, and do not change the exit code."
	settings.Define(c.Flags(), "dir", "store", "store-password-file", "epoch-keys", "epoch-keys-secret-file",
		"root-key")
	online := c.Flags().Bool("online", false,
		"ask the running server, which also opens resources with customer-managed keys while these answer")
	return command.Run(c, func(ctx context.Context, s command.Streams, _ []string) error {
		set, err := settings.Load(c.Flags())
		if err != nil {
			return err
		}
		if !*online {
			return offline(ctx, s, set.Server)
		}
		dir, err := set.Dir()
		if err != nil {
			return err
		}
		return ask(ctx, s, dir)
	})
}

// offline opens the records of a server that is not running.
func offline(ctx context.Context, s command.Streams, cfg server.Config) (err error) {
	store, err := server.OpenStore(ctx, cfg)
	if corrupt, ok := errors.AsType[*sealed.CorruptError](err); ok {
		return &command.Failure{Err: corrupt, Code: command.ExitDamaged, Hint: (&report{}).advice(err)}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return command.Hinted(err, "name the directory of the server's data with --dir")
	case errors.Is(err, sealed.ErrInUse):
		return command.Hinted(err,
			"the server of this directory is running: stop it, or use \"visage verify --online\"")
	case err != nil:
		return err
	}
	defer func() {
		if closeErr := store.Close(); err == nil {
			err = closeErr
		}
	}()
	names, err := server.ResourceNames(ctx, store)
	if _, corrupt := errors.AsType[*sealed.CorruptError](err); err != nil && !corrupt {
		return err // the loop below finds the corruption
	}
	r := report{out: s.Out}
	fmt.Fprintf(s.Out, "store format %d\n", store.Maintenance().Format())
	keys := store.EpochKeys()
	fmt.Fprintf(s.Out, "epoch keys in %s, grade of erasures %s\n", keys.Name, keys.Grade)
	tally, err := store.Maintenance().Verify(ctx, func(f sealed.Finding) {
		if f.Locked {
			r.locked(names[f.Space], f.Space.String(), f.Err.Error())
		} else {
			r.damaged(f.Err.Error(), f.Err)
		}
	})
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	fmt.Fprintf(s.Out, "%d spaces, %d containers, %d records\n", tally.Spaces, tally.Containers, tally.Records)
	return r.conclude(tally.Sealed,
		"\"visage verify --online\" opens them while the server is running and their keys answer")
}

// ask makes the running server open its records.
func ask(ctx context.Context, s command.Streams, dir string) error {
	c, err := operator.Dial(dir)
	if err != nil {
		return err
	}
	r := report{out: s.Out}
	spaces, containers, records, sealedRecords := 0, 0, 0, 0
	err = c.Stream(ctx, "verify", func(from io.Reader) error {
		lines := bufio.NewReader(from)
		for decoder := json.NewDecoder(lines); ; {
			var v server.Verified
			if err := decoder.Decode(&v); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return fmt.Errorf("read the server's answer: %w", err)
			}
			spaces, containers, records, sealedRecords = spaces+1, containers+v.Containers, records+v.Records,
				sealedRecords+v.Sealed
			if v.State == server.VerifiedLocked {
				r.locked(v.Resource, v.Space, v.Reason)
			}
			for _, f := range v.Findings {
				r.damaged(f, nil)
			}
		}
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "%d spaces, %d containers, %d records\n", spaces, containers, records)
	return r.conclude(sealedRecords, "they open when their customer-managed keys answer")
}

// report prints the findings of a verification, and what to do about them.
type report struct {
	out            io.Writer
	damage, closed int
	old, keys      int // findings that restoring a backup does not repair: rollbacks, and epoch keys
}

func (r *report) locked(name, space, reason string) {
	r.closed++
	fmt.Fprintf(r.out, "locked: %s: %s\n", nameOf(name, space), reason)
}

// nameOf names a space by its resource, if that is known.
func nameOf(name, space string) string {
	if name == "" {
		return "space " + space
	}
	return fmt.Sprintf("resource %s (space %s)", name, space)
}

// damaged reports a finding. err is its error, if it has one.
func (r *report) damaged(text string, err error) {
	r.damage++
	if errors.Is(err, sealed.ErrRollback) {
		r.old++
	}
	if corrupt, ok := errors.AsType[*sealed.CorruptError](err); ok && corrupt.What == "epoch key" {
		r.keys++
	}
	fmt.Fprintf(r.out, "damaged: %s\n", text)
}

// conclude prints the counts. Locked resources are not a failure; damage is.
func (r *report) conclude(sealedRecords int, about string) error {
	if r.closed > 0 {
		fmt.Fprintf(r.out, "%d locked, with %d records that were not checked: %s\n", r.closed, sealedRecords, about)
	}
	if r.damage > 0 {
		return &command.Failure{Err: fmt.Errorf("%d stored items are damaged or misplaced", r.damage),
			Code: command.ExitDamaged, Hint: r.advice(nil)}
	}
	if r.closed > 0 {
		fmt.Fprintln(r.out, "everything else opens")
	} else {
		fmt.Fprintln(r.out, "everything opens")
	}
	return nil
}

// advice says how to repair the damage.
func (r *report) advice(err error) string {
	corrupt, ok := errors.AsType[*sealed.CorruptError](err)
	switch {
	case r.damage > 0 && r.damage == r.old:
		return "stored data is older than its anchor (possible rollback): after a restore of your own, start the " +
			"server once with --accept-rollback"
	case r.damage > 0 && r.damage == r.keys, ok && corrupt.What == "epoch key":
		return "import the epoch keys from the newest copy of the keyring with \"visage keyring import\"; remove " +
			"damaged key files first"
	}
	return "restore the data directory from a backup"
}
