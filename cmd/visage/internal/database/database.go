// Package database implements "visage database": the PostgreSQL database that may hold the sealed store.
package database

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
	"github.com/visage-face/visage/sealed"
)

// Command is "visage database".
func Command() *cobra.Command {
	return command.Noun("database", "Make and migrate the schema of a PostgreSQL database that holds the store",
		migrate())
}

func migrate() *cobra.Command {
	c := command.New("migrate", "Make the schema, or bring it to its newest version",
		"visage database migrate --store postgres://visage_owner@db.example.com/visage")
	c.Long = "Make the schema of the store in a PostgreSQL database, or bring it to the version that this program " +
		"needs, with a role that owns the database or the schema. A server whose role may do so does it by itself. " +
		"docs/operations/postgres.md lists the roles and their rights."
	settings.Define(c.Flags(), "store", "store-password-file")
	return command.Run(c, func(ctx context.Context, s command.Streams, _ []string) error {
		set, err := settings.Load(c.Flags())
		if err != nil {
			return err
		}
		if set.Server.Engine == "" {
			return command.Misuse("name the database with --store")
		}
		before, after, err := sealed.MigrateDatabase(ctx, sealed.Config{
			Engine: set.Server.Engine, PasswordFile: set.Server.StorePasswordFile,
		})
		if err != nil {
			return err
		}
		if before == after {
			fmt.Fprintf(s.Out, "the schema has version %d already\n", after)
		} else {
			fmt.Fprintf(s.Out, "the schema has version %d now, after version %d\n", after, before)
		}
		return nil
	})
}
