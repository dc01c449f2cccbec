package server

import (
	"context"
	"io"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// backups lets operators take backups of a running server away, and tells the audit log of each.
type backups struct {
	store *sealed.Store
	audit *audit.Log
}

// WriteBackup implements armapi.Backups.
func (b backups) WriteBackup(ctx context.Context, by visage.Principal, requestID string, w io.Writer) error {
	return b.told(ctx, by, requestID, "backup", w, b.store.WriteBackup)
}

// WriteKeyring implements armapi.Backups.
func (b backups) WriteKeyring(ctx context.Context, by visage.Principal, requestID string, w io.Writer) error {
	return b.told(ctx, by, requestID, "keyring-export", w, b.store.WriteKeyring)
}

// told says in the audit log that a copy is being taken before a byte of it leaves, since none could be called back.
func (b backups) told(
	ctx context.Context, by visage.Principal, requestID, operation string, w io.Writer,
	write func(context.Context, io.Writer) (sealed.Saved, error),
) error {
	err := b.audit.Append(ctx, audit.Event{
		Kind: audit.OperatorAction, Outcome: audit.Done, Actor: audit.ActorOf(by), RequestID: requestID,
		Details: map[audit.Detail]string{audit.DetailOperation: operation},
	})
	if err == nil {
		_, err = write(ctx, w)
	}
	return err
}

// Restore makes the data of a server that is not there yet from a keyring and a backup. cfg names the new directory and
// the root key, which must be in place. What is left after an error is no data; it is to be removed. Errors: see
// sealed.Restore.
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
