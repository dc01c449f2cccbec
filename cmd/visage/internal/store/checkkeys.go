package store

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
	"github.com/visage-face/visage/server"
)

// does says what the steps of a check of a place for epoch keys are.
var does = map[string]string{
	"data": "its server can be compared with that of the data", "reach": "answers", "write": "keeps a key",
	"write-once": "keeps no second key of a number",
	"replace":    "replaces a key by compare-and-set", "mark": "keeps the mark of the place",
	"anchor": "keeps anchors", "list": "lists keys", "destroy": "destroys a key",
}

func checkKeys() *cobra.Command {
	c := command.New("check-keys [PLACE]", "Check what a place for epoch keys can do, before anything changes",
		"visage store check-keys file:///srv/visage-keys")
	c.Long = "Check what a place for epoch keys can do, before anything changes: a key of an instance that does not " +
		"exist is written, replaced and destroyed there, and nothing of it stays. PLACE is what epoch-keys takes, or " +
		"local for the folder keys in the data directory; without it, the place of the settings is checked. Servers " +
		"may run. A database is compared with that of store, whose server it must not share. The last line is the " +
		"grade that erasures earn there."
	file := c.Flags().String("secret-file", "", "`FILE` with the secret of the login to PLACE")
	settings.Define(c.Flags(), "dir", "store", "store-password-file", "epoch-keys", "epoch-keys-secret-file", "anchors")
	return command.Run(c, func(ctx context.Context, s command.Streams, args []string) error {
		if len(args) > 1 {
			return command.Misuse("name one place: %s, or what epoch-keys takes", local)
		}
		if len(args) == 0 && *file != "" {
			return command.Misuse("--secret-file is of a PLACE, which is missing: name it, or set " +
				"epoch-keys-secret-file for the place of the settings")
		}
		set, err := settings.Load(c.Flags())
		if err != nil {
			return err
		}
		cfg := set.Server
		if len(args) == 1 {
			if cfg.EpochKeys = args[0]; cfg.EpochKeys == local {
				cfg.EpochKeys = ""
			}
			cfg.EpochKeysSecretFile = *file
		}
		check, err := server.CheckEpochKeys(ctx, cfg)
		for _, step := range check.Steps {
			if step.Err == nil {
				fmt.Fprintf(s.Out, "ok: %s\n", does[step.Name])
			} else {
				fmt.Fprintf(s.Out, "failed: %s\n", does[step.Name])
			}
		}
		if err != nil {
			return fmt.Errorf("the place cannot have epoch keys: %w", err)
		}
		fmt.Fprintf(s.Out, "%s: grade %s", check.Place, check.Grade)
		if check.Why != "" {
			fmt.Fprintf(s.Out, ", because of %s", check.Why)
		}
		fmt.Fprintln(s.Out)
		return nil
	})
}
