package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"

	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
)

func verifyCommand() command {
	c := command{
		name: "verify", summary: "Open every record of a server that is not running, and report what does not open.",
		example: "visage verify --dir ~/.visage",
	}
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		given := defineSettings(fs, "dir", "root-key")
		return func(ctx context.Context, s streams, args []string) error {
			if len(args) > 0 {
				return usage(&c, "takes no arguments, and was given %q", args[0])
			}
			set, err := given.load()
			if err != nil {
				return hintUsage(err, &c)
			}
			return runVerify(ctx, s, set.server)
		}
	}
	return c
}

func runVerify(ctx context.Context, s streams, cfg server.Config) (err error) {
	store, err := server.OpenStore(ctx, cfg)
	if errors.Is(err, fs.ErrNotExist) {
		return hinted(err, "say with --dir where the server keeps its data")
	}
	if corrupt, ok := errors.AsType[*sealed.CorruptError](err); ok {
		return &failure{err: corrupt, code: exitDamaged, hint: "restore the data directory from a backup"}
	}
	if err != nil {
		return hinted(err, "verify needs the data for itself: is the server of this directory still running?")
	}
	defer func() {
		if closeErr := store.Close(); err == nil {
			err = closeErr
		}
	}()
	damaged := 0
	tally, err := store.Verify(ctx, func(f sealed.Finding) {
		damaged++
		fmt.Fprintf(s.out, "damaged: %v\n", f.Err)
	})
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	fmt.Fprintf(s.out, "%d spaces, %d containers, %d records\n", tally.Spaces, tally.Containers, tally.Records)
	if damaged > 0 {
		return &failure{err: fmt.Errorf("%d stored things do not open or are not where they belong", damaged),
			code: exitDamaged,
			hint: "restore the data directory from a backup"}
	}
	fmt.Fprintln(s.out, "everything opens")
	return nil
}
