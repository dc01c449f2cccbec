package server

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// backups gives operators backups of a running server, and records each in the audit log.
type backups struct {
	store   *sealed.Store
	audit   audit.Recorder
	counted *prometheus.CounterVec
}

// newBackups makes the counter of backups. Nothing is known here of whether a client has kept what it received.
func newBackups() *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "visage_server_backups_total",
		Help: "Backups and keyrings of the running server that were sent to a client, by whether they were complete.",
	}, []string{"operation", "outcome"})
	for _, operation := range []string{backupOperation, keyringOperation} {
		v.WithLabelValues(operation, "complete")
		v.WithLabelValues(operation, "failed")
	}
	return v
}

// The operations, as the audit log names them.
const (
	backupOperation  = "backup"
	keyringOperation = "keyring-export"
)

// WriteBackup implements armapi.Backups.
func (b backups) WriteBackup(ctx context.Context, by visage.Caller, w io.Writer) error {
	return b.recorded(ctx, by, backupOperation, func() error {
		_, err := b.store.Backup().WriteData(ctx, w)
		return err
	})
}

// WriteKeyring implements armapi.Backups.
func (b backups) WriteKeyring(ctx context.Context, by visage.Caller, w io.Writer) error {
	return b.recorded(ctx, by, keyringOperation, func() error {
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
	err := do()
	outcome := "complete"
	if err != nil {
		outcome = "failed"
	}
	b.counted.WithLabelValues(operation, outcome).Inc()
	return err
}

// RecordVerified implements armapi.Backups. The verification itself needs no key, and happens where the copy lies: only
// its result comes here.
func (b backups) RecordVerified(ctx context.Context, by visage.Caller, v armwire.VerifiedCopy) error {
	of, known := map[string]string{
		armwire.BackupCopy: audit.CopyOfBackup, armwire.KeyringCopy: audit.CopyOfKeyring,
	}[v.Copy]
	switch {
	case !known:
		return visage.Refuse(visage.Invalid, "InvalidRequestContent",
			"The property copy must be %q or %q.", armwire.BackupCopy, armwire.KeyringCopy)
	case !strings.EqualFold(v.Instance, b.store.Instance()):
		return visage.Refuse(visage.Invalid, "InvalidRequestContent",
			"The copy is of another instance than this one, which is %s.", b.store.Instance())
	case v.Taken.IsZero() || v.Taken.After(time.Now().Add(clockSkew)):
		return visage.Refuse(visage.Invalid, "InvalidRequestContent",
			"The property taken must be when the copy was taken, in the past.")
	}
	e := audit.Event{Kind: audit.BackupVerify, Actor: audit.ActorOf(by), RequestID: by.RequestID}.Ended(nil)
	e.Set(audit.DetailOperation, of)
	e.Set(audit.DetailTaken, v.Taken.UTC().Format(time.RFC3339))
	e.Set(audit.DetailState, audit.CopyDamaged)
	if v.Intact {
		e.Set(audit.DetailState, audit.CopyIntact)
	}
	return b.audit.Append(ctx, e)
}

// clockSkew is how far the clock of another machine may be ahead.
const clockSkew = 5 * time.Minute

// Restore makes the data of a new server from a keyring and a backup. cfg names the new directory and the root key,
// which must exist. After an error, the directory is incomplete and must be removed. Errors: see sealed.Restore.
func Restore(ctx context.Context, cfg Config, keyring io.ReadSeeker, backup io.Reader) (err error) {
	if cfg, err = cfg.withDefaults(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cfg.rootStores.close()) }()
	if err := cfg.makeFolders(); err != nil {
		return err
	}
	protectors, err := cfg.protectors(false)
	if err != nil {
		return err
	}
	return cfg.restore(ctx, keyring, backup, protectors...)
}

func (c Config) restore(
	ctx context.Context, keyring io.ReadSeeker, backup io.Reader, protectors ...sealed.Protector,
) error {
	place, err := c.place()
	if err != nil {
		return err
	}
	place.AnchorDir, place.Reserve, place.Protectors = "", 0, protectors
	return sealed.Restore(ctx, place, keyring, backup)
}
