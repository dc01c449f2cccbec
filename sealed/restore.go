package sealed

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/visage-face/visage/sealed/backup"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keystore"
)

// Backup returns the verbs of backups: what the store holds is written as two streams, from which Restore makes a store
// again.
func (s *Store) Backup() *backup.Backup {
	return backup.New(backup.Config{Root: s.root, Engine: maintained{s.engine, s}, Epochs: s.epochs, Bundles: s.bundles,
		Closed: s.isClosed, Format: s.number, Since: func(number uint32) string { return since(s.steps, number) },
		Known: uint32(len(s.steps))})
}

// Restore makes a store out of a keyring and a backup, in an empty engine and key directory. cfg's protectors must be
// able to open the instance root. The keyring should be the newest there is, and not older than the backup.
//
// Each space is put in order when it is opened for the first time: records that were erased after the backup was taken,
// or that are newer than the keyring, do not come back; what the keyring has and the backup has not is forgotten;
// everything else is there as the backup has it. SpaceRestored tells the numbers. Errors: backup.ErrNotEmpty,
// backup.ErrForeign, backup.ErrNotAuthentic, backup.ErrMalformed, *RootError, *NewerError before anything is written.
// After an error, what is there is no store.
func Restore(ctx context.Context, cfg Config, keyring io.ReadSeeker, data io.Reader) (err error) {
	steps := cfg.steps()
	streams, err := backup.Open(keyring, data, uint32(len(steps)))
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	eng, _, err := openEngine(ctx, cfg)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	quiet := cfg
	quiet.Report, quiet.AcceptRollback = nil, true
	s := newStore(quiet, eng)
	loader, _ := eng.(engine.Loader)
	var keys keystore.Place
	err = streams.Restore(ctx, backup.Target{
		Root: s.root, Engine: s.engine, Loader: loader, Report: s.report, Protectors: cfg.Protectors,
		Alone: func(ctx context.Context) error {
			s.leases.Open(s.root, s.formats())
			return s.leases.Join(ctx, true)
		},
		Epochs: func(instance format.ID) (in keystore.Place, err error) {
			keys, err = openEpochs(ctx, cfg, eng, instance)
			return keys, err
		},
		Since: func(number uint32) string { return since(steps, number) },
		From:  func(number uint32) uint32 { return formerOf(steps, number) },
	})
	if keys != nil {
		keys.Close()
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}
