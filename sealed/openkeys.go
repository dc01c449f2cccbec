package sealed

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/rowkey"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// openKeys reads a space's bundle and makes its keyring; see openBlind for erased. Where another process turns the keys
// in between, it begins anew.
func (s *Store) openKeys(
	ctx context.Context, id SpaceID, src keysource.Source,
) (ring *keys.Ring, erased tree.RootState, err error) {
	defer s.root.Hold()()
	for {
		left, err := s.anchors.Left(ctx, id) // first: others go on
		if err != nil {
			return nil, erased, err
		}
		row, err := s.bundles.Row(ctx, id)
		if err != nil {
			return nil, erased, err
		}
		doc, err := s.bundles.Decode(id, row)
		if err == nil && doc.State == keys.Dropped {
			err = ErrNoSpace
		}
		if err != nil {
			return nil, erased, err
		}
		ring, err = keys.NewRing(&s.rings)
		if err != nil {
			return nil, erased, err
		}
		ring.Saw(row, doc)
		erased, err = s.openRing(ctx, id, doc, ring, src, left)
		if err == nil && doc.Restored {
			err = s.reconcile(ctx, id, ring)
		}
		if err == nil {
			return ring, erased, nil
		}
		ring.Free()
		changed, rowErr := false, error(nil)
		if errors.Is(err, tree.ErrStale) || event.IsCorrupt(err) {
			changed, rowErr = s.changedSince(ctx, id, row)
		}
		if !changed || rowErr != nil || ctx.Err() != nil {
			return nil, erased, s.told(err)
		}
	}
}

// changedSince reports whether another process has changed a space's bundle since its row was read.
func (s *Store) changedSince(ctx context.Context, id SpaceID, row []byte) (bool, error) {
	if !s.sharedEngine() {
		return false, nil
	}
	now, err := s.bundles.Row(ctx, id)
	return err == nil && !bytes.Equal(now, row), err
}

// quiet is a report for what may be found because another process changes it at this moment. Where nobody can, it
// reports at once.
func (s *Store) quiet() event.Report {
	if s.sharedEngine() {
		return func(Event) {}
	}
	return s.report
}

// told reports what quiet did not.
func (s *Store) told(err error) error {
	if e, ok := errors.AsType[*CorruptError](err); ok && s.sharedEngine() {
		_ = s.report.Corrupt(e) // err has it already
	}
	return err
}

// openRing opens the keys of a bundle, the blinding key last; see openBlind. What is damaged goes to quiet. The root is
// held.
func (s *Store) openRing(
	ctx context.Context, id SpaceID, doc keys.Doc, ring *keys.Ring, src keysource.Source, left []keys.Anchor,
) (erased tree.RootState, err error) {
	if err := s.bundles.Reporting(s.quiet()).Open(ctx, id, doc, ring, src); err != nil {
		return erased, err
	}
	return s.openBlind(ctx, id, ring, doc, left)
}

// openBlind reads the blinding key, an entry of the root container. erased says whether erasures wait for a turn.
func (s *Store) openBlind(
	ctx context.Context, id SpaceID, ring *keys.Ring, doc keys.Doc, left []keys.Anchor,
) (erased tree.RootState, err error) {
	report := s.quiet()
	env := *s.env
	env.Report = report
	err = s.engine.View(ctx, func(r engine.Reader) error {
		t := tree.NewReader(&env, id, ring, r)
		defer t.Finish()
		err := t.OpenRoot()
		if errors.Is(err, tree.ErrStale) {
			err = report.Corrupt(&CorruptError{Space: id, Container: rowkey.Root.String(), What: "head",
				Err: fmt.Errorf("%w: it is sealed under other keys than the bundle says", format.ErrNotAuthentic)})
		}
		if err != nil {
			return err
		}
		root := t.RootState()
		if err := s.anchors.Check(ctx, id, doc, root.Sequence, root.Row, left); err != nil {
			return err
		}
		erased = tree.RootState{Sequence: root.Sequence, Pair: root.Pair, Erased: root.Erased}
		key, err := t.BlindingKey()
		if err != nil {
			return err
		}
		ring.SetBlind(key)
		return nil
	})
	return erased, err
}

// reconcile puts a restored space in order, and ends by taking the mark from the bundle. The root is held.
func (s *Store) reconcile(ctx context.Context, id SpaceID, ring *keys.Ring) error {
	sum, err := tree.Reconcile(ctx, s.env, id, ring, s.engine,
		func(rows map[format.ID]int) { s.folds.note(id, rows, nil) })
	if err == nil {
		err = s.bundles.Change(ctx, id, func(doc *keys.Doc) error {
			doc.Restored = false
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("put restored space %s in order: %w", id, err)
	}
	s.report(Event{Kind: SpaceRestored, Space: id, Note: fmt.Sprintf(
		"%d records had been erased since the backup, %d of them made anew, %d were made since and are not in it, "+
			"%d are older in it", sum.Erased+sum.Remade, sum.Remade, sum.Forgotten-sum.Remade, sum.Older)})
	return nil
}
