package tree

import (
	"errors"

	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// dropBatch is how many rows of a kind one transaction of a drop removes.
const dropBatch = 2_000

// Drop goes one step on with the drop of a container: the first one erases it, and all of them remove rows.
func (t *Tx) Drop(container format.ID, first bool) (done bool, err error) {
	if first {
		if err := t.markDropped(container); err != nil {
			return false, err
		}
	}
	return t.dropStep(container)
}

// markDropped puts a head that knows nothing in place of the container's own, under a fresh key.
func (t *Tx) markDropped(container format.ID) error {
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
	tr.head = &format.Head{Sequence: tr.head.Sequence, Root: format.NewSecret(0)}
	tr.written, tr.rekey = true, true
}

// revive removes what is left of a dropped container, so that it can be written to.
func (t *Tx) revive(tr *tree) error {
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
func (t *Tx) dropStep(container format.ID) (done bool, err error) {
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
func (t *Tx) removeTree(tr *tree) error {
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
		t.gone = append(t.gone, Ref{Container: tr.container})
	}
	delete(t.trees, tr.container)
	return t.w.Delete(rowkey.Of(format.ID(t.space), rowkey.Head, tr.container, format.ID{}))
}

// deleteRows deletes up to dropBatch of a container's rows, save its head, and returns how many.
func (t *Tx) deleteRows(container format.ID) (n int, err error) {
	space := format.ID(t.space)
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
