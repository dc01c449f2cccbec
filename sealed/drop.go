package sealed

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// dropBatch is how many rows of a kind one transaction of a drop removes.
const dropBatch = 2_000

// Drop removes a space for good: its wrapped data key first, then its epoch keys, and from there on no row of it opens,
// in whatever copy. Its rows follow in transactions of bounded size; what a crash interrupts, Run finishes. A space
// whose bundle is damaged can be dropped too. Errors: ErrNoSpace.
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
	s.anchors.forget(id)
	s.report(Event{Kind: SpaceDropped, Space: id})
	// Begun is begun: a caller who goes away must not leave the keys behind.
	return s.removeDropped(context.WithoutCancel(ctx), format.ID(id))
}

// markDropped puts a bundle without keys in place of the space's own. A missing bundle would not do as a mark: it is
// what damage looks like, and damage must not delete anything.
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
	return s.updateIn(ctx, format.ID(id),
		func(w engine.Writer) error { return w.Put(rowkey.OfSpace(format.ID(id), rowkey.Bundle), mark) })
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
	mark := rowkey.OfSpace(space, rowkey.Bundle)
	for done := false; !done; {
		err := s.updateIn(ctx, space, func(w engine.Writer) error {
			keys, err := rowkey.Collect(w, space[:], rowkey.After(space[:]), dropBatch)
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

// Drop removes the whole container. It is gone for readers, and its records are erased like deleted ones, with the
// first transaction; its rows follow in transactions of bounded size, and a drop that was cut off can be repeated. It
// works on a damaged container, and dropping what is not there is no error. What somebody puts meanwhile stays.
func (c Container[T]) Drop(ctx context.Context, sp *Space) error {
	first := true
	for done := false; !done; {
		err := sp.updateAlone(ctx, func(t *txn) (err error) {
			container := t.ring.container(c.table.name, c.parents)
			if first {
				err = t.markDroppedContainer(container)
			}
			if err == nil {
				done, err = t.dropStep(container)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("drop a container of table %s: %w", c.table.name, err)
		}
		first = false
	}
	return nil
}

// markDroppedContainer puts a head that knows nothing in place of the container's own, under a fresh key.
func (t *txn) markDroppedContainer(container format.ID) error {
	tr, err := t.tree(container)
	if event.IsCorrupt(err) { // the head cannot be read, and need not be
		known, _, err := t.root.entry(container)
		if err != nil {
			return err
		}
		tr = t.newTree(container)
		tr.head.Sequence = known.Version
	} else if err != nil || tr == nil || tr.head.Dropped {
		return err
	}
	tr.reset()
	tr.head.Dropped = true
	tr.erased = append(tr.erased, format.ID{})
	return nil
}

// reset empties a tree: what was stored of it is of no key any more.
func (tr *tree) reset() {
	tr.wipe()
	clear(tr.head.Root.Key)
	tr.head = &format.Head{Sequence: tr.head.Sequence, Root: freshSecret(0)}
	tr.written, tr.rekey = true, true
}

// revive removes what is left of a dropped container, so that it can be written to.
func (t *txn) revive(tr *tree) error {
	for more := true; more; {
		n, err := t.deleteRows(tr.container)
		if err != nil {
			return err
		}
		more = n == dropBatch
	}
	tr.reset()
	return nil
}

// dropStep removes rows of a dropped container, and with the last of them the container itself.
func (t *txn) dropStep(container format.ID) (done bool, err error) {
	tr, err := t.tree(container)
	if err != nil || tr != nil && !tr.head.Dropped { // somebody has put something, and removed what was left
		return true, err
	}
	n, err := t.deleteRows(container)
	if err != nil || n == dropBatch || tr == nil {
		return n < dropBatch, err
	}
	return true, t.removeTree(tr)
}

// removeTree takes an empty container out of the root container.
func (t *txn) removeTree(tr *tree) error {
	leaf, err := t.root.leaf(tr.container)
	if err == nil {
		err = t.root.change(leaf)
	}
	if err != nil {
		return err
	}
	leaf.page.Remove(tr.container)
	if tr.written { // it was marked in this transaction
		t.root.head.Erased += uint64(len(tr.erased))
		t.gone = append(t.gone, erasedID{container: tr.container})
	}
	delete(t.trees, tr.container)
	return t.w.Delete(rowkey.Of(format.ID(t.sp.id), rowkey.Head, tr.container, format.ID{}))
}

// deleteRows deletes up to dropBatch of a container's rows, save its head, and returns how many.
func (t *txn) deleteRows(container format.ID) (n int, err error) {
	space := format.ID(t.sp.id)
	kinds := []byte{rowkey.Record, rowkey.Nursery, rowkey.Page}
	for level := byte(1); level < format.MaxHeight; level++ {
		kinds = append(kinds, rowkey.PageKind(level))
	}
	for _, kind := range kinds {
		lower, upper := rowkey.Range(space, kind, container, format.ID{})
		keys, err := rowkey.Collect(t.r, lower, upper, dropBatch-n)
		for _, key := range keys {
			err = errors.Join(err, t.w.Delete(key))
		}
		if n += len(keys); err != nil || n == dropBatch {
			return n, err
		}
	}
	return n, nil
}
