package sealed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/lease"
)

// A store that processes share is brought to a format while it is at work, if the migration is rolling:
//
//  1. A process that knows the new format, and finds processes that do not, writes the format before.
//  2. When all know it, one of them raises the number of the store. From then on a process that does not know the new
//     format is refused: it cannot open the store, nor write to it, should it have been paused meanwhile.
//  3. The others find the new number and write the new format. When none writes the one before any more, the same
//     process runs the migration over what is there, and notes that it has ended.
//
// docs/decisions/0032-rolling-upgrades.md says why.

// The claim of the process that brings the store to another format.
const (
	upgradeClaim = "store upgrade"
	upgradeLasts = 30 * time.Second // after one that ended meanwhile
	// upgradeRest is between two looks at what other processes know and write; they rewrite their rows as often.
	upgradeRest = 3 * time.Second
)

// upgradeForever brings the store to the newest format as soon as no process is in the way. It returns an error when
// the store has a format that this process does not know.
func (s *Store) upgradeForever(ctx context.Context) error {
	if !s.shared {
		return nil
	}
	gone, refused := s.leases.Refused()
	tick := time.NewTicker(upgradeRest)
	defer tick.Stop()
	failing := false
	for {
		err := s.upgrade(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			s.report(Event{Kind: MigrationDelayed, Format: uint32(len(s.steps)), Err: err})
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-gone:
			return refused()
		case <-tick.C:
		}
	}
}

// upgrade brings the store to the newest format if no other process is in the way, and finishes a migration whose
// process has ended.
func (s *Store) upgrade(ctx context.Context) error {
	for _, other := range s.leases.Members() {
		if int(other.Knows) < len(s.steps) {
			return nil
		}
	}
	doc, err := s.readInstance(ctx)
	if err != nil || int(migrated(doc)) == len(s.steps) {
		return err
	}
	claim, err := s.Claim(ctx, upgradeClaim, upgradeLasts)
	if errors.Is(err, ErrClaimed) {
		return nil // another process does it
	}
	if err != nil {
		return err
	}
	defer claim.Release()
	if doc, err = s.readInstance(ctx); err != nil || int(migrated(doc)) == len(s.steps) {
		return err // another process has done it
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(claim.Context(), func() { stop(context.Cause(claim.Context())) })()
	m := s.steps[len(s.steps)-1]
	err = s.raise(ctx, m)
	if errors.Is(err, lease.ErrBehind) {
		return nil
	}
	if err == nil {
		s.leases.Write(m.Number)
		err = s.leases.Agree(ctx, m.Number)
	}
	if err == nil {
		err = s.rewrite(ctx, m)
	}
	if err == nil {
		err = s.finish(ctx, m)
	}
	if err != nil {
		return fmt.Errorf("migrate the store to format %d (%s): %w", m.Number, m.Name, err)
	}
	s.report(Event{Kind: StoreMigrated, Format: m.Number, Note: m.Name})
	return nil
}

func (s *Store) readInstance(ctx context.Context) (keys.Instance, error) {
	defer s.root.Hold()()
	return s.root.Read(ctx)
}

// raise gives the store the number of a migration, unless it has it. Error: lease.ErrBehind.
//
// It locks nothing that a process which is paused within a transaction could hold. Such a transaction either conflicts
// with what was done here, and fails, or comes before it.
func (s *Store) raise(ctx context.Context, m migration) error {
	defer s.root.Hold()()
	raised := false
	err := s.leases.Clear(ctx, m.Number)
	if err != nil {
		return err
	}
	err = s.root.ChangeIn(ctx, func(r engine.Reader, doc *keys.Instance) error {
		raised = doc.Number < m.Number
		if !raised {
			return nil
		}
		if doc.From != 0 {
			return fmt.Errorf("the migration from format %d has not ended", doc.From)
		}
		if err := s.leases.Know(r, m.Number); err != nil {
			return err
		}
		doc.From, doc.Number, doc.Since = doc.Number, m.Number, m.Since
		return nil
	})
	if err == nil && raised {
		s.report(Event{Kind: StoreMigrating, Format: m.Number, Note: m.Name})
	}
	return err
}

// finish notes that a migration has ended, unless a restore has put another store in this one's place.
func (s *Store) finish(ctx context.Context, m migration) error {
	defer s.root.Hold()()
	return s.root.Change(ctx, func(doc *keys.Instance) error {
		if doc.Number != m.Number {
			return fmt.Errorf("%w: the store has format %d", format.ErrMalformed, doc.Number)
		}
		doc.From = 0
		return nil
	})
}
