package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/sealed/archive"
	"github.com/visage-face/visage/sealed/backup"
	"github.com/visage-face/visage/server"
)

// KeyringCommand is "visage keyring".
func KeyringCommand() *cobra.Command {
	return command.Noun("keyring", "Copy the keys that a restore needs, verify a copy, and import missing keys",
		exportKeys(), verifyKeys(), importKeys())
}

func exportKeys() *cobra.Command {
	c := command.New("export FILE", "Write a copy of the keyring; keep only the newest, apart from backups of the data",
		"visage keyring export /media/safe/visage.keyring")
	c.Long = "Write a copy of the keyring, whether the server is running or not. Keep it apart from backups of the " +
		"data, and keep only the newest copy."
	settings.Define(c.Flags(), "dir", "store", "store-password-file", "epoch-keys", "epoch-keys-secret-file",
		"root-key")
	return command.Run(c, func(ctx context.Context, s command.Streams, operands []string) error {
		n, err := ExportKeyring(ctx, operands[0], fromServer(c))
		if err != nil {
			return err
		}
		fmt.Fprintf(s.Out, "%s: %d bytes\n", operands[0], n)
		return nil
	})
}

// ExportKeyring writes a copy of the keyring, and returns its size. It writes to a temporary file beside path, so that
// an older copy remains until the new one is complete.
func ExportKeyring(ctx context.Context, path string, source Source) (n int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".keyring-*") // mode 0600
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	err = source(ctx, "keyring", (*backup.Backup).WriteKeyring, func(r io.Reader) (err error) {
		n, err = io.Copy(f, r)
		return err
	})
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		_, err = backup.CheckWhole(ctx, f)
	}
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(path))
	}
	return n, err
}

func verifyKeys() *cobra.Command {
	c := command.New("verify FILE",
		"Read every byte of a copy of the keyring and compare it with its hashes; no key is needed",
		"visage keyring verify /media/safe/visage.keyring")
	c.Long = "Read every byte of a copy of the keyring and compare it with its hashes; no key is needed. " + isRecorded
	settings.Define(c.Flags(), "dir")
	return command.Run(c, func(ctx context.Context, s command.Streams, operands []string) error {
		f, err := os.Open(operands[0])
		if err != nil {
			return err
		}
		defer f.Close()
		is, err := backup.CheckWhole(ctx, f)
		if err == nil && !is.Keyring {
			return command.Hinted(fmt.Errorf("%s is a backup of data, not a keyring", operands[0]),
				"\"visage backup verify\" verifies the backups in an archive")
		}
		damaged := errors.Is(err, backup.ErrMalformed)
		if err != nil && !damaged {
			return advise(err)
		}
		tell(ctx, c, s, armwire.VerifiedCopy{
			Copy: armwire.KeyringCopy, Instance: is.Instance, Taken: is.Taken, Intact: !damaged,
		})
		if damaged {
			return advise(fmt.Errorf("%s: %w", operands[0], err))
		}
		fmt.Fprintf(s.Out, "%s: of %s, intact\n", operands[0], is.Taken.UTC().Format("2006-01-02 15:04:05Z"))
		return nil
	})
}

func importKeys() *cobra.Command {
	c := command.New("import FILE", "Import missing epoch keys after the key directory was lost; stop the server first",
		"visage keyring import /media/safe/visage.keyring")
	settings.Define(c.Flags(), "dir", "store", "store-password-file", "epoch-keys", "epoch-keys-secret-file",
		"root-key")
	return command.Run(c, func(ctx context.Context, s command.Streams, operands []string) (err error) {
		set, err := settings.Load(c.Flags())
		if err != nil {
			return err
		}
		f, err := os.Open(operands[0])
		if err != nil {
			return err
		}
		defer f.Close()
		store, err := server.OpenStoreWithoutKeys(ctx, set.Server)
		if errors.Is(err, sealed.ErrInUse) {
			return command.Hinted(err,
				"keyring import opens the data directly: stop the server of this directory first")
		}
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, store.Close()) }()
		n, err := store.Backup().MendKeyring(ctx, f)
		if err != nil {
			return advise(err)
		}
		fmt.Fprintf(s.Out, "imported %d missing keys\n", n)
		return nil
	})
}

// advise adds a hint to the error of a malformed or mismatched stream.
func advise(err error) error {
	switch {
	case errors.Is(err, backup.ErrForeign):
		return command.Hinted(err, "the keyring, the backup and the root key must be of one instance")
	case errors.Is(err, backup.ErrNotAuthentic), errors.Is(err, backup.ErrMalformed),
		errors.Is(err, archive.ErrDamaged):
		return &command.Failure{Err: err, Code: command.ExitDamaged, Hint: "use another copy"}
	case errors.Is(err, backup.ErrNotEmpty):
		return command.Hinted(err, "name an empty or a new directory with --dir")
	}
	return err
}
