package sealed

import (
	"context"
	"fmt"

	"github.com/visage-face/visage/sealed/internal/keys"
)

// Maintenance is what operators do with a store as a whole.
type Maintenance struct{ store *Store }

// Maintenance returns the operations on the store as a whole.
func (s *Store) Maintenance() *Maintenance { return &Maintenance{s} }

// Volumes says how full the volumes are. What is not known is left out.
func (m *Maintenance) Volumes() []VolumeState { return m.store.volumes.States() }

// Format is the format in which this process writes. It is that of the store, or the one before for some seconds after
// the store got another one.
func (m *Maintenance) Format() uint32 { return m.store.format.Load() }

// TellMigrations calls tell for each migration of this store that is not yet reported, oldest first, and records them
// as reported if all calls return nil. After a crash, some may be reported twice. It is for a log that must not miss
// one, and that opens only after the store.
func (m *Maintenance) TellMigrations(ctx context.Context, tell func(Migration) error) error {
	s := m.store
	defer s.root.Hold()()
	if s.isClosed() {
		return ErrClosed
	}
	doc, err := s.root.Read(ctx)
	if err != nil {
		return err
	}
	number := min(migrated(doc), uint32(len(s.steps)))
	if doc.Told >= number {
		return nil
	}
	for _, step := range s.steps[doc.Told:number] {
		if err := tell(step.Migration); err != nil {
			return err
		}
	}
	err = s.root.Change(ctx, func(doc *keys.Instance) error {
		doc.Told = max(doc.Told, number)
		return nil
	})
	if err != nil {
		return fmt.Errorf("remember that migrations were told: %w", err)
	}
	return nil
}

// Verify opens every log entry, and every bundle, head, key page, nursery row and record of every space that is open or
// opens without a customer's key, and calls report with everything that does not open or is not where it belongs. Of a
// space that is locked it looks at what shows without the key, and reports that it is Locked. It knows no tables. The
// error is of the verification itself: the engine's, or an ended ctx's.
func (m *Maintenance) Verify(ctx context.Context, report func(Finding)) (Tally, error) {
	s := m.store
	v := verification{report: report}
	if err := s.verifyOutside(ctx, v.found); err != nil {
		return v.tally, fmt.Errorf("verify: %w", err)
	}
	ids, err := s.Spaces().List(ctx)
	if err != nil {
		return v.tally, err
	}
	for _, id := range ids {
		if err := s.verifySpace(ctx, id, &v); err != nil {
			return v.tally, err
		}
	}
	return v.tally, nil
}
