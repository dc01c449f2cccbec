package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
)

func moveKeys() *cobra.Command {
	c := command.New("move-keys FROM TO", "Move the epoch keys to another place",
		"visage store move-keys local file:///srv/visage-keys")
	c.Long = "Move the epoch keys, and the anchors, from one place to another: the folder keys in the data directory " +
		"(local), or what the setting epoch-keys takes. Every server must be stopped. Each key is read back and " +
		"compared before any is destroyed in the place where it was; a move that was interrupted goes on when the " +
		"same command runs again, and must be finished before a server starts. Afterwards, start the server with the " +
		"new place as epoch-keys. Export a keyring first."
	var files [2]string
	c.Flags().StringVar(&files[0], "from-secret-file", "", "`FILE` with the secret of the login to FROM")
	c.Flags().StringVar(&files[1], "to-secret-file", "", "`FILE` with the secret of the login to TO")
	settings.Define(c.Flags(), "dir", "store", "store-password-file", "root-key", "key-stores", "anchors")
	return command.Run(c, func(ctx context.Context, s command.Streams, args []string) error {
		if len(args) != 2 || args[0] == args[1] {
			return command.Misuse("say where the epoch keys are and where they go: %s, or what epoch-keys takes", local)
		}
		set, err := settings.Load(c.Flags())
		if err != nil {
			return err
		}
		var places [2]server.Config
		for i, at := range args {
			places[i] = set.Server
			if places[i].EpochKeys = at; at == local {
				places[i].EpochKeys = ""
			}
			places[i].EpochKeysSecretFile = files[i]
		}
		moved, err := server.MoveEpochKeys(ctx, places[0], places[1])
		switch {
		case errors.Is(err, sealed.ErrInUse):
			return command.Hinted(err, "stop every server that has the store open; keys are moved while none works")
		case errors.Is(err, sealed.ErrNotMovable):
			return command.Hinted(err, "use a place without keys of this instance")
		case err != nil:
			return err
		}
		fmt.Fprintf(s.Out, "%d keys of %d spaces, of which %d were there, and %d anchors: moved from %s to %s\n",
			moved.Epochs, moved.Spaces, moved.Found, moved.Anchors, moved.From, moved.To)
		if moved.Abandoned != "" {
			fmt.Fprintf(s.Err, "%s may have keys of an attempt that was interrupted, which no erasure reaches: remove "+
				"them there\n", moved.Abandoned)
		}
		return nil
	})
}
