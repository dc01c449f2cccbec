// Package backup implements "visage backup", "visage keyring" and "visage restore".
package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/recovery"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
	"github.com/visage-face/visage/sealed/archive"
	"github.com/visage-face/visage/sealed/backup"
	"github.com/visage-face/visage/server"
)

// Command is "visage backup".
func Command() *cobra.Command {
	return command.Noun("backup", "Back up the data to an archive, and verify and prune archives",
		create(), list(), verify(), prune())
}

// archiveCommand is a command on an archive.
type archiveCommand = func(ctx context.Context, s command.Streams, a *archive.Archive, operands []string) error

// onArchive makes c a command on the archive that its first operand names and open opens. run gets the other operands.
func onArchive(
	c *cobra.Command, open func(dir string) (*archive.Archive, error), run archiveCommand,
) *cobra.Command {
	return command.Run(c, func(ctx context.Context, s command.Streams, operands []string) error {
		dir, err := filepath.Abs(operands[0])
		if err != nil {
			return err
		}
		a, err := open(dir)
		switch {
		case err == nil:
		case errors.Is(err, fs.ErrNotExist):
			return command.Hinted(err,
				"is the volume of the archive mounted? \"visage backup create %s\" makes a new one", operands[0])
		case errors.Is(err, archive.ErrNotArchive):
			return command.Hinted(err, "name an empty or a new folder to create an archive")
		default:
			return err
		}
		err = run(ctx, s, a, operands[1:])
		if errors.Is(err, archive.ErrBusy) {
			return command.Hinted(err, "try again when the other command has ended")
		}
		if errors.Is(err, archive.ErrNoBackup) {
			return command.Hinted(err, "\"visage backup list %s\" lists the backups", operands[0])
		}
		return err
	})
}

func create() *cobra.Command {
	c := command.New("create ARCHIVE", "Add a backup to an archive; only data that is not in it yet is written",
		"visage backup create /mnt/backup/visage")
	c.Long = "Add a backup of the data to an archive, whether the server is running or not. Only data that is not " +
		"in the archive yet is written."
	settings.Define(c.Flags(), "dir", "store", "store-password-file", "epoch-keys", "epoch-keys-secret-file",
		"root-key")
	return onArchive(c, archive.Open, func(
		ctx context.Context, s command.Streams, a *archive.Archive, _ []string,
	) error {
		lowerPriority()
		var added archive.Added
		err := fromServer(c)(ctx, "backup", (*backup.Backup).WriteData, func(r io.Reader) (err error) {
			added, err = a.Add(ctx, r)
			return err
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(s.Out, "%s: %d rows, %d bytes; %d of %d chunks are new, %d bytes\n",
			added.Name, added.Rows, added.Bytes, added.NewChunks, len(added.Chunks), added.NewBytes)
		fmt.Fprintln(s.Out,
			"it contains no keys: \"visage keyring export\" writes the keys; keep them in a different place")
		return nil
	})
}

func list() *cobra.Command {
	c := command.New("list ARCHIVE", "List the backups in an archive, oldest first",
		"visage backup list /mnt/backup/visage")
	return onArchive(c, archive.Find, func(_ context.Context, s command.Streams, a *archive.Archive, _ []string) error {
		all, err := a.List()
		if err != nil {
			return err
		}
		var t command.Table
		t.Row("NAME", "TAKEN", "ROWS", "BYTES", "INSTANCE")
		for _, b := range all {
			t.Row(b.Name, b.Taken.Format("2006-01-02 15:04:05Z"), b.Rows, b.Bytes, b.Instance)
		}
		return t.Write(s.Out)
	})
}

func verify() *cobra.Command {
	c := command.New("verify ARCHIVE [NAME]",
		"Read every byte of one backup, or of all, and compare it with its hash; no key is needed",
		"visage backup verify /mnt/backup/visage")
	c.Long = "Read every byte of one backup, or of all in the archive, and compare it with its hash; no key is " +
		"needed. " + isRecorded
	settings.Define(c.Flags(), "dir")
	return onArchive(c, archive.Find, func(
		ctx context.Context, s command.Streams, a *archive.Archive, names []string,
	) error {
		all, err := a.List()
		if len(names) == 1 {
			var one archive.Backup
			one, err = a.Backup(names[0])
			all = []archive.Backup{one}
		}
		if err != nil {
			return err
		}
		if len(all) == 0 {
			fmt.Fprintln(s.Out, "the archive has no backups")
		}
		for _, b := range all {
			err := a.Verify(ctx, b)
			damaged := errors.Is(err, archive.ErrDamaged)
			if damaged || err == nil && b.Name == all[len(all)-1].Name { // the newest, for all before it
				tell(ctx, c, s, armwire.VerifiedCopy{
					Copy: armwire.BackupCopy, Instance: b.Instance, Taken: b.Taken, Intact: !damaged,
				})
			}
			if damaged {
				return &command.Failure{Err: err, Code: command.ExitDamaged,
					Hint: "create a new backup, which replaces damaged chunks"}
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(s.Out, "%s: %d rows, intact\n", b.Name, b.Rows)
		}
		return nil
	})
}

func prune() *cobra.Command {
	c := command.New("prune ARCHIVE", "Delete all but the newest backups from an archive",
		"visage backup prune /mnt/backup/visage --keep 7")
	keep := c.Flags().Int("keep", 0, "`NUMBER` of backups to keep, at least 1 (required)")
	return onArchive(c, archive.Find, func(_ context.Context, s command.Streams, a *archive.Archive, _ []string) error {
		if *keep < 1 {
			return command.Misuse("--keep must be 1 or more; got %d", *keep)
		}
		backups, bytes, err := a.Prune(*keep)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.Out, "removed %d backups; %d bytes are free\n", backups, bytes)
		return nil
	})
}

// RestoreCommand is "visage restore".
func RestoreCommand() *cobra.Command {
	c := command.New("restore ARCHIVE [NAME]", "Restore a backup and the newest keyring into a new directory",
		"visage restore /mnt/backup/visage --keyring /media/safe/visage.keyring --dir /var/lib/visage")
	c.Long = "Restore a backup, the latest unless NAME says otherwise, and the newest keyring into a new directory. " +
		"Data that was erased since the backup stays erased: its keys are not in the keyring any more."
	settings.Define(c.Flags(), "dir", "store", "store-password-file", "epoch-keys", "epoch-keys-secret-file",
		"root-key", "key-stores")
	keyring := c.Flags().String("keyring", "", "`FILE` with the newest copy of the keyring (required)")
	kit := c.Flags().String("kit", "", "`FILE` of a recovery kit, if no protector of the root key is left: the root "+
		"key is then wrapped anew with --root-key")
	from := recovery.DefineOpening(c)
	return onArchive(c, archive.Find, func(
		ctx context.Context, s command.Streams, a *archive.Archive, names []string,
	) error {
		set, err := settings.Load(c.Flags())
		if err != nil {
			return err
		}
		name := "latest"
		if len(names) == 1 {
			name = names[0]
		}
		b, err := a.Backup(name)
		if err != nil {
			return err
		}
		keys, err := os.Open(*keyring)
		if err != nil {
			return command.Hinted(err, "name the newest copy of the keyring with --keyring")
		}
		defer keys.Close()
		if *kit == "" {
			err = server.Restore(ctx, set.Server, keys, a.Read(b))
		} else if opened, shares, failed := from.Open(*kit); failed != nil {
			return failed
		} else {
			err = server.RestoreWithKit(ctx, set.Server, keys, a.Read(b), opened, shares)
		}
		if err != nil {
			return advise(err)
		}
		fmt.Fprintf(s.Out, "restored %s: %d rows\n", b.Name, b.Rows)
		fmt.Fprintln(s.Out, "\"visage verify\" now checks all resources that need no customer-managed key; "+
			"the others are checked when they are opened")
		return nil
	})
}
