package sealed

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
)

// Drop removes a space for good: its bundle first, then its epoch keys, and from there on no row of it opens, in whatever copy. Its rows
// follow in transactions of bounded size; what a crash interrupts, Run finishes. Errors: ErrNoSpace.
func (s *Store) Drop(ctx context.Context, id SpaceID) error {
	if id == Operator {
		return errors.New("drop space: the operator's own space cannot be dropped")
	}
	key := spaceKey(format.ID(id), rowBundle)
	err := s.engine.Update(ctx, func(w engine.Writer) error {
		if _, ok, err := w.Get(key); err != nil || !ok {
			return errors.Join(err, ErrNoSpace)
		}
		return w.Delete(key)
	})
	if err != nil {
		return fmt.Errorf("drop space %s: %w", id, err)
	}
	sp := s.Space(id)
	sp.lock(ErrNoSpace)
	sp.drain()
	s.mu.Lock()
	delete(s.spaces, id)
	s.mu.Unlock()
	s.folds.forget(id)
	s.report(Event{Kind: SpaceDropped, Space: id})
	// Begun is begun: a caller who goes away must not leave the keys behind.
	ctx = context.WithoutCancel(ctx)
	if err := s.epochs.Destroy(format.ID(id)); err != nil {
		return fmt.Errorf("destroy the epoch keys of space %s: %w", id, err)
	}
	if err := s.deleteSpaceRows(ctx, format.ID(id)); err != nil {
		return fmt.Errorf("remove the rows of space %s: %w", id, err)
	}
	return nil
}

// sweepDropped removes rows of spaces that have no bundle, which only an interrupted Drop leaves.
func (s *Store) sweepDropped(ctx context.Context) error {
	var dropped []format.ID
	err := s.engine.View(ctx, func(r engine.Reader) error {
		return eachSpace(r, func(space format.ID) error {
			_, ok, err := r.Get(spaceKey(space, rowBundle))
			if err == nil && !ok {
				dropped = append(dropped, space)
			}
			return err
		})
	})
	for _, space := range dropped {
		err = errors.Join(err, s.epochs.Destroy(space), s.deleteSpaceRows(ctx, space))
	}
	return err
}

func (s *Store) deleteSpaceRows(ctx context.Context, space format.ID) error {
	for {
		n := 0
		err := s.engine.Update(ctx, func(w engine.Writer) error {
			keys, err := collectKeys(w, space[:], after(space[:]), dropBatch)
			if err != nil {
				return err
			}
			for _, key := range keys {
				if key[16] == rowBundle {
					return errors.New("the space exists again")
				}
				if err := w.Delete(key); err != nil {
					return err
				}
			}
			n = len(keys)
			return nil
		})
		if err != nil || n < dropBatch {
			return err
		}
	}
}
