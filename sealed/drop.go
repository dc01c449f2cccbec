package sealed

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
)

// dropBatch is how many rows of a kind one transaction of a drop removes.
const dropBatch = 2_000

// Drop removes a space for good: its wrapped data key first, then its epoch keys, and from there on no row of it opens, in whatever copy. Its rows
// follow in transactions of bounded size; what a crash interrupts, Run finishes. A space whose bundle is damaged can be dropped too.
// Errors: ErrNoSpace.
func (s *Store) Drop(ctx context.Context, id SpaceID) error {
	if id == Operator {
		return errors.New("drop space: the operator's own space cannot be dropped")
	}
	s.lifecycle.Lock()
	defer s.lifecycle.Unlock()
	if err := s.markDropped(ctx, id); err != nil {
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
	return s.removeDropped(context.WithoutCancel(ctx), format.ID(id))
}

// markDropped puts a bundle without keys in place of the space's own. A missing bundle would not do as a mark: it is what damage looks like, and
// damage must not delete anything.
func (s *Store) markDropped(ctx context.Context, id SpaceID) error {
	s.using.RLock()
	defer s.using.RUnlock()
	doc, err := s.readBundle(ctx, id)
	if _, damaged := errors.AsType[*CorruptError](err); err != nil && !damaged {
		return err
	}
	if doc.State == stateDropped {
		return ErrNoSpace
	}
	raw, err := cbor.Marshal(bundleDoc{Sequence: doc.Sequence + 1, Fence: doc.Fence + 1, State: stateDropped})
	if err != nil {
		return err
	}
	mark := format.SealBundle(s.root.Bytes(), s.instance, format.ID(id), raw)
	return s.engine.Update(ctx, func(w engine.Writer) error { return w.Put(spaceKey(format.ID(id), rowBundle), mark) })
}

// sweepDropped finishes what a crash interrupted.
func (s *Store) sweepDropped(ctx context.Context) error {
	_, dropped, err := s.listSpaces(ctx)
	for _, id := range dropped {
		err = errors.Join(err, s.sweep(ctx, id))
	}
	return err
}

func (s *Store) sweep(ctx context.Context, id SpaceID) error {
	s.lifecycle.Lock()
	defer s.lifecycle.Unlock()
	doc, err := s.readBundle(ctx, id)
	if errors.Is(err, ErrNoSpace) || err == nil && doc.State != stateDropped {
		return nil // a Create was quicker, and did this first
	}
	if err != nil {
		return err
	}
	return s.removeDropped(ctx, format.ID(id))
}

// removeDropped removes what is left of a space that is marked as dropped; the mark goes last. lifecycle is held.
func (s *Store) removeDropped(ctx context.Context, space format.ID) error {
	if err := s.epochs.Destroy(space); err != nil {
		return fmt.Errorf("destroy the epoch keys of space %s: %w", SpaceID(space), err)
	}
	mark := spaceKey(space, rowBundle)
	for done := false; !done; {
		err := s.engine.Update(ctx, func(w engine.Writer) error {
			keys, err := collectKeys(w, space[:], after(space[:]), dropBatch)
			if err != nil {
				return err
			}
			done = len(keys) < dropBatch
			for _, key := range keys {
				if bytes.Equal(key, mark) && !done {
					continue
				}
				if err := w.Delete(key); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("remove the rows of space %s: %w", SpaceID(space), err)
		}
	}
	return nil
}

// Drop removes the whole container, in the order of blinded ids and in transactions of bounded size, each of which takes secrets and records
// together and leaves a container that is whole as far as it goes. It can be repeated after a crash, works on a damaged container, and dropping
// what is not there is no error. Nobody should write to the container meanwhile: what is put may stay.
func (c Container[T]) Drop(ctx context.Context, sp *Space) error {
	for done := false; !done; {
		err := sp.Update(ctx, func(tx Tx) (err error) {
			t := tx.writable()
			done, err = t.dropStep(format.BlindContainer(t.ring.blind(), c.table.name, c.parents))
			return err
		})
		if err != nil {
			return fmt.Errorf("drop a container of table %s: %w", c.table.name, err)
		}
	}
	return nil
}

// dropStep removes the rows at the beginning of a container, up to the end of its first page or a bounded number, and moves the lower bound of what
// follows to the beginning.
func (t *txn) dropStep(container format.ID) (done bool, err error) {
	page, end, err := t.droppedPage(container)
	if err != nil {
		return false, err
	}
	if page != nil {
		defer page.Wipe()
	}
	upper := end
	for _, kind := range []byte{rowNursery, rowRecord} {
		if upper, err = t.deleteUpTo(kind, container, upper); err != nil {
			return false, err
		}
	}
	if upper != end { // the page reaches further than this transaction
		if page == nil {
			return false, nil
		}
		page.RemoveUpTo(upper)
		page.Lower = format.ID{}
		page.Version++
		return false, t.putPage(container, page)
	}
	if err := t.w.Delete(rowKey(format.ID(t.sp.id), rowPage, container, end)); err != nil {
		return false, err
	}
	if end == format.MaxID {
		return true, nil
	}
	follower, _, err := t.droppedPage(container)
	if err != nil || follower == nil {
		return false, err
	}
	defer follower.Wipe()
	follower.Lower = format.ID{}
	follower.Version++
	return false, t.putPage(container, follower)
}

// droppedPage returns the first page of a container and its upper bound. A page that does not open is nil: it goes like the rest. Where there is
// none the bound is the last.
func (t *txn) droppedPage(container format.ID) (*format.Page, format.ID, error) {
	lower, upper := containerRange(format.ID(t.sp.id), rowPage, container, format.ID{})
	for row, err := range scanRows(t.r, lower, upper) {
		if err != nil {
			return nil, format.ID{}, err
		}
		_, end := idAt(row.Key)
		page, err := t.openPage(row)
		if err != nil {
			return nil, end, nil
		}
		return page, end, nil
	}
	return nil, format.MaxID, nil
}

// deleteUpTo deletes rows of a kind from the beginning of a container to upper, but no more than dropBatch; it returns how far it came.
func (t *txn) deleteUpTo(kind byte, container, upper format.ID) (format.ID, error) {
	space := format.ID(t.sp.id)
	from, _ := containerRange(space, kind, container, format.ID{})
	keys, err := collectKeys(t.r, from, append(rowKey(space, kind, container, upper), 0), dropBatch)
	for _, key := range keys {
		err = errors.Join(err, t.w.Delete(key))
	}
	if len(keys) == dropBatch {
		last := append(keys[dropBatch-1], make([]byte, keySize)...) // an intruder's key may be shorter
		_, upper = idAt(last)
	}
	return upper, err
}
