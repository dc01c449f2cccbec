package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"

	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
)

func verifyCommand() command {
	c := command{
		name: "verify",
		summary: "Open every record of a server that is not running or, with --online, of one that is, and report " +
			"what does not open. A resource that is locked is counted and is no damage: the exit code stays 0.",
		example: "visage verify --dir ~/.visage",
	}
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		given := defineSettings(fs, "dir", "root-key")
		online := fs.Bool("online", false,
			"ask the running server, which opens resources under customers' keys as well, as long as their keys are "+
				"given")
		return func(ctx context.Context, s streams, args []string) error {
			if len(args) > 0 {
				return usage(&c, "takes no arguments, and was given %q", args[0])
			}
			set, err := given.load()
			if err != nil {
				return hintUsage(err, &c)
			}
			if *online {
				return verifyOnline(ctx, s, set.server.Dir)
			}
			return runVerify(ctx, s, set.server)
		}
	}
	return c
}

func runVerify(ctx context.Context, s streams, cfg server.Config) (err error) {
	store, err := server.OpenStore(ctx, cfg)
	if corrupt, ok := errors.AsType[*sealed.CorruptError](err); ok {
		return &failure{err: corrupt, code: exitDamaged, hint: (&verifyReport{}).advice(err)}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return hinted(err, "say with --dir where the server keeps its data")
	case errors.Is(err, sealed.ErrInUse):
		return hinted(
			err, "the server of this directory still runs: stop it, or ask it with \"visage verify --online\"",
		)
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
		return err // what is corrupt is found below
	}
	r := verifyReport{out: s.out}
	tally, err := store.Verify(ctx, func(f sealed.Finding) {
		if f.Locked {
			r.locked(names[f.Space], f.Space.String(), f.Err.Error())
		} else {
			r.damaged(f.Err.Error(), f.Err)
		}
	})
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	fmt.Fprintf(s.out, "%d spaces, %d containers, %d records\n", tally.Spaces, tally.Containers, tally.Records)
	return r.conclude(tally.Sealed, "while the server runs, \"visage verify --online\" opens those whose key is given")
}

// verifyOnline asks the running server.
func verifyOnline(ctx context.Context, s streams, dir string) error {
	if dir == "" {
		var err error
		if dir, err = server.DefaultDir(); err != nil {
			return err
		}
	}
	c, err := dial(dir)
	if err != nil {
		return err
	}
	r := verifyReport{out: s.out}
	spaces, containers, records, sealedRecords := 0, 0, 0, 0
	err = c.stream(ctx, "verify", func(from io.Reader) error {
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
	fmt.Fprintf(s.out, "%d spaces, %d containers, %d records\n", spaces, containers, records)
	return r.conclude(sealedRecords, "they open when their customers give their keys")
}

// verifyReport tells what a verification finds, and what to do about it.
type verifyReport struct {
	out            io.Writer
	damage, closed int
	old, keys      int // findings that a backup of the data does not mend: what is older than it was, and epoch keys
}

func (r *verifyReport) locked(name, space, reason string) {
	r.closed++
	fmt.Fprintf(r.out, "locked: %s: %s\n", nameOf(name, space), reason)
}

// nameOf names a space by its resource, where that is known.
func nameOf(name, space string) string {
	if name == "" {
		return "space " + space
	}
	return fmt.Sprintf("resource %s (space %s)", name, space)
}

// damaged tells of a finding. err is what was found, where more than its text is known.
func (r *verifyReport) damaged(text string, err error) {
	r.damage++
	if errors.Is(err, sealed.ErrRollback) {
		r.old++
	}
	if corrupt, ok := errors.AsType[*sealed.CorruptError](err); ok && corrupt.What == "epoch key" {
		r.keys++
	}
	fmt.Fprintf(r.out, "damaged: %s\n", text)
}

// conclude counts. What is locked is no failure; what is damaged is one.
func (r *verifyReport) conclude(sealedRecords int, about string) error {
	if r.closed > 0 {
		fmt.Fprintf(r.out, "%d locked, with %d records that nobody opened: %s\n", r.closed, sealedRecords, about)
	}
	if r.damage > 0 {
		return &failure{err: fmt.Errorf("%d stored things do not open or are not where they belong", r.damage),
			code: exitDamaged, hint: r.advice(nil)}
	}
	if r.closed > 0 {
		fmt.Fprintln(r.out, "everything else opens")
	} else {
		fmt.Fprintln(r.out, "everything opens")
	}
	return nil
}

// advice says what mends what was found.
func (r *verifyReport) advice(err error) string {
	corrupt, ok := errors.AsType[*sealed.CorruptError](err)
	switch {
	case r.damage > 0 && r.damage == r.old:
		return "the data is older than it was: if it was you who restored it, start the server once with " +
			"--accept-rollback"
	case r.damage > 0 && r.damage == r.keys, ok && corrupt.What == "epoch key":
		return "put the epoch keys back with \"visage keyring import\" and the newest copy of the keyring; where " +
			"they are damaged and not missing, remove them before"
	}
	return "restore the data directory from a backup"
}
