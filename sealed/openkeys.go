package sealed

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/rowkey"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// openKeys reads a space's bundle and makes its keyring; see openBlind for erased.
func (s *Store) openKeys(
	ctx context.Context, id SpaceID, src keysource.Source,
) (ring *keys.Ring, erased uint64, err error) {
	defer s.root.Hold()()
	doc, err := s.bundles.Read(ctx, id)
	if err != nil {
		return nil, 0, err
	}
	if doc.State == keys.Dropped {
		return nil, 0, ErrNoSpace
	}
	ring, err = keys.NewRing(&s.rings)
	if err != nil {
		return nil, 0, err
	}
	erased, err = s.openRing(ctx, id, doc, ring, src)
	if err == nil && doc.Restored {
		err = s.reconcile(ctx, id, ring)
	}
	if err != nil {
		ring.Free()
		return nil, 0, err
	}
	return ring, erased, nil
}

// openRing opens the keys of a bundle, the blinding key last; see openBlind. The root is held.
func (s *Store) openRing(
	ctx context.Context, id SpaceID, doc keys.Doc, ring *keys.Ring, src keysource.Source,
) (erased uint64, err error) {
	if err := s.bundles.Open(ctx, id, doc, ring, src); err != nil {
		return 0, err
	}
	return s.openBlind(ctx, id, ring, doc.Sequence)
}

// openBlind reads the blinding key, an entry of the root container. erased is the sequence number of that container if
// erasures wait for a turn.
func (s *Store) openBlind(ctx context.Context, id SpaceID, ring *keys.Ring, bundle uint64) (erased uint64, err error) {
	err = s.engine.View(ctx, func(r engine.Reader) error {
		t := tree.NewReader(s.env, id, ring, r)
		defer t.Finish()
		err := t.OpenRoot()
		if errors.Is(err, tree.ErrStale) {
			err = s.report.Corrupt(&CorruptError{Space: id, Container: rowkey.Root.String(), What: "head",
				Err: fmt.Errorf("%w: it is sealed under other keys than the bundle says", format.ErrNotAuthentic)})
		}
		if err != nil {
			return err
		}
		root := t.RootState()
		if err := s.anchors.Check(id, bundle, root.Sequence, root.Row); err != nil {
			return err
		}
		if root.Erased {
			erased = root.Sequence
		}
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
	sum, err := tree.Reconcile(ctx, s.env, id, ring, s.engine, func(rows map[format.ID]int) { s.folds.note(id, rows) })
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
		"%d records had been erased since the backup, %d were made since and are not in it, %d are older in it",
		sum.Erased, sum.Forgotten, sum.Older)})
	return nil
}
