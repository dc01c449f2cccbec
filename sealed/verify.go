package sealed

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/rowkey"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// Finding is something stored that does not open, or a space that cannot be looked into.
type Finding struct {
	Space SpaceID
	Err   error // a *CorruptError, a *RollbackError or, when Locked, why the space is not open
	// Locked says that nothing was found wrong: the key of the space is not here, or was refused, so that its content
	// could not be opened. What can be checked without it was checked, and has findings of its own.
	Locked bool
}

// Tally counts what Verify looked at.
type Tally struct {
	Spaces, Containers, Records int
	Findings                    int // damage and rollbacks
	Locked                      int // spaces that are closed, of which only the outside was looked at
	Sealed                      int // records of those, which were not opened
}

// verification is one run of Verify.
type verification struct {
	tally  Tally
	report func(Finding) // may be nil
}

func (v *verification) count(c tree.Counts) {
	v.tally.Containers += c.Containers
	v.tally.Records += c.Records
	v.tally.Sealed += c.Sealed
}

func (v *verification) found(space SpaceID, err error) {
	v.tally.Findings++
	v.tell(Finding{Space: space, Err: err})
}

func (v *verification) tell(f Finding) {
	if v.report != nil {
		v.report(f)
	}
}

func (s *Store) verifySpace(ctx context.Context, id SpaceID, v *verification) error {
	leave, err := s.enterLong(ctx, longViews.MaintenanceView)
	if err != nil {
		return err
	}
	defer leave()
	v.tally.Spaces++
	var tally tree.Counts
	err = s.Space(id).view(ctx, func(t *tree.Tx) error {
		tally = tree.Counts{} // it may run again
		return t.Verify(ctx, &tally, func(err error) { v.found(id, err) })
	})
	v.count(tally)
	var corrupt *CorruptError
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &corrupt), errors.Is(err, ErrRollback):
		v.found(id, err)
	case errors.Is(err, ErrLocked), errors.Is(err, ErrGrace):
		before := v.tally.Findings
		if closedErr := s.verifyClosed(ctx, id, v); closedErr != nil {
			return fmt.Errorf("verify locked space %s: %w", id, closedErr)
		}
		if v.tally.Findings == before {
			v.tally.Locked++
			v.tell(Finding{Space: id, Err: err, Locked: true})
		}
	case errors.Is(err, ErrNoSpace): // dropped meanwhile
		v.tally.Spaces--
	default:
		return fmt.Errorf("verify space %s: %w", id, err)
	}
	return nil
}

// verifyOutside looks at what belongs to no open space: the instance document as it is stored now, and rows of spaces
// without a bundle.
func (s *Store) verifyOutside(ctx context.Context, found func(SpaceID, error)) error {
	leave, err := s.enterLong(ctx, longViews.MaintenanceView)
	if err != nil {
		return err
	}
	defer leave()
	defer s.root.Hold()()
	if _, err := s.root.Read(ctx); event.IsCorrupt(err) {
		found(SpaceID{}, err)
	} else if err != nil {
		return err
	}
	return s.engine.View(ctx, func(r engine.Reader) error {
		for row, err := range r.Scan(nil, rowkey.FirstSpace[:]) {
			if err != nil {
				return err
			}
			if _, _, ok := logAt(row.Key); ok {
				continue // verifyLogs opens them
			}
			if !bytes.Equal(row.Key, rowkey.OfSpace(format.ID{}, rowkey.Instance)) {
				found(SpaceID{}, s.report.Corrupt(&CorruptError{What: "row", Err: rowkey.Strange(row.Key)}))
			}
		}
		if err := s.verifyLogs(r, func(err error) { found(SpaceID{}, err) }); err != nil {
			return err
		}
		return rowkey.EachSpace(r, func(space format.ID) error {
			_, ok, err := r.Get(rowkey.OfSpace(space, rowkey.Bundle))
			if err == nil && !ok {
				found(SpaceID(space), s.report.Corrupt(&CorruptError{Space: SpaceID(space), What: "bundle",
					Err: errNoBundle}))
			}
			return err
		})
	})
}

// Verify does what Maintenance.Verify does, for one space. Errors: ErrNoSpace, and those of Maintenance.Verify.
func (sp *Space) Verify(ctx context.Context, report func(Finding)) (Tally, error) {
	s, id := sp.store, sp.id
	v := verification{report: report}
	release := s.root.Hold()
	_, err := s.bundles.Read(ctx, id)
	release()
	if err != nil && !event.IsCorrupt(err) {
		return v.tally, fmt.Errorf("verify space %s: %w", id, err)
	}
	err = s.verifySpace(ctx, id, &v)
	return v.tally, err
}

// verifyClosed looks at what a space shows without its customer's key: that its bundle is authentic, that the epoch
// keys it names are there, that it is no older than its anchor's bundle, that the engine reads every row, and that rows
// are well formed and belong together. What is under the instance root alone is opened.
func (s *Store) verifyClosed(ctx context.Context, id SpaceID, v *verification) error {
	defer s.root.Hold()()
	found := func(err error) error {
		_, corrupt := errors.AsType[*CorruptError](err)
		if corrupt || errors.Is(err, ErrRollback) {
			v.found(id, err)
			return nil
		}
		return err
	}
	doc, err := s.bundles.Read(ctx, id)
	if err != nil {
		return found(err)
	}
	if err := s.openClosed(ctx, id, doc); err != nil && !errors.Is(err, ErrLocked) {
		return found(err)
	}
	_, err = s.epochs.Get(ctx, format.ID(id), doc.Current.Epoch) // an older one may be on its way out
	if errors.Is(err, keystore.ErrNotFound) {
		v.found(id, s.bundles.MissingEpoch(id, err))
	} else if err != nil {
		return fmt.Errorf("read epoch key %d: %w", doc.Current.Epoch, err)
	}
	if err := found(s.anchors.CheckBundle(ctx, id, doc)); err != nil {
		return err
	}
	var tally tree.Counts
	defer func() { v.count(tally) }()
	return s.engine.View(ctx, func(r engine.Reader) error {
		t := tree.NewReader(s.env, id, nil, r)
		defer t.Finish()
		return t.VerifyRows(ctx, doc.Restored, &tally, func(err error) { v.found(id, err) })
	})
}

// openClosed opens the keys of a space that is locked although it needs no customer's key, as far as its root
// container; then they are wiped again.
func (s *Store) openClosed(ctx context.Context, id SpaceID, doc keys.Doc) error {
	left, err := s.anchors.Left(ctx, id)
	if err != nil {
		return err
	}
	ring, err := keys.NewRing(&s.rings)
	if err != nil {
		return err
	}
	defer ring.Free()
	_, err = s.openRing(ctx, id, doc, ring, nil, left)
	return err
}
