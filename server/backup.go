package server

import (
	"context"
	"io"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// backups gives operators backups of a running server, and records each in the audit log.
type backups struct {
	store *sealed.Store
	audit audit.Recorder
}

// WriteBackup implements armapi.Backups.
func (b backups) WriteBackup(ctx context.Context, by visage.Caller, w io.Writer) error {
	return b.recorded(ctx, by, "backup", func() error {
		_, err := b.store.Backup().WriteData(ctx, w)
		return err
	})
}

// WriteKeyring implements armapi.Backups.
func (b backups) WriteKeyring(ctx context.Context, by visage.Caller, w io.Writer) error {
	return b.recorded(ctx, by, "keyring-export", func() error {
		_, err := b.store.Backup().WriteKeyring(ctx, w)
		return err
	})
}

// recorded records an operation before do begins it: a copy that has left cannot be called back.
func (b backups) recorded(ctx context.Context, by visage.Caller, operation string, do func() error) error {
	e := audit.Event{Kind: audit.OperatorAction, Actor: audit.ActorOf(by), RequestID: by.RequestID}.Ended(nil)
	e.Set(audit.DetailOperation, operation)
	if err := b.audit.Append(ctx, e); err != nil {
		return err
	}
	return do()
}

// Restore makes the data of a new server from a keyring and a backup. cfg names the new directory and the root key,
// which must exist. After an error, the directory is incomplete and must be removed. Errors: see sealed.Restore.
func Restore(ctx context.Context, cfg Config, keyring io.ReadSeeker, backup io.Reader) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if err := cfg.makeFolders(); err != nil {
		return err
	}
	protectors, err := cfg.protectors(false)
	if err != nil {
		return err
	}
	return sealed.Restore(ctx, sealed.Config{
		Engine: cfg.engine(), KeyDir: cfg.keysDir(), Protectors: protectors, Logger: cfg.Logger,
	}, keyring, backup)
}
