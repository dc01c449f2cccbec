package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
)

// local is the store in the server's data directory, on the command line.
const local = "local"

func move() *cobra.Command {
	c := command.New("move FROM TO", "Copy the sealed store between the data directory and a PostgreSQL database",
		"visage store move local postgres://visage_run@db.example.com/visage")
	c.Long = "Copy the sealed store between the data directory (local) and a PostgreSQL database, or between two " +
		"databases. Every server must be stopped: while it lasts, nobody can write to the source. Nothing is opened, " +
		"and keys stay where they are. What was copied is read back and compared before the target becomes a store; " +
		"a copy that was interrupted goes on where it ended when the same command runs again. The source is left as " +
		"it is: remove it when the server has started with the other store, and never start a server on it again."
	settings.Define(c.Flags(), "dir", "store-password-file")
	return command.Run(c, func(ctx context.Context, s command.Streams, args []string) error {
		if len(args) != 2 || args[0] == args[1] {
			return command.Misuse("name where the store is and where it goes: %s, or the URL of a database", local)
		}
		set, err := settings.Load(c.Flags())
		if err != nil {
			return err
		}
		var places [2]server.Config
		for i, at := range args {
			places[i] = set.Server
			if places[i].Engine = at; at == local {
				places[i].Engine = ""
			}
			if places[i].Engine != "" {
				if err := sealed.CheckDatabase(at); err != nil {
					return command.Misuse("%v", err)
				}
			}
		}
		began := time.Now()
		var told time.Time
		moved, err := server.MoveStore(ctx, places[0], places[1], func(m sealed.Moved) {
			if time.Since(told) > 5*time.Second {
				told = time.Now()
				fmt.Fprintf(s.Err, "%d records, of which %d were there\n", m.Records, m.Found)
			}
		})
		switch {
		case errors.Is(err, sealed.ErrInUse):
			return command.Hinted(err, "stop every server that has the store open; it cannot be moved while one works")
		case errors.Is(err, sealed.ErrNotMovable):
			return command.Hinted(err, "use an empty database or data directory")
		case err != nil:
			return err
		}
		took := time.Since(began)
		fmt.Fprintf(s.Out, "%d records, %d bytes, of which %d records had been copied before; %.0f records a second\n"+
			"compared: SHA-256 %x\n", moved.Records, moved.Bytes, moved.Found,
			float64(moved.Records)/took.Seconds(), moved.Digest)
		return nil
	})
}
