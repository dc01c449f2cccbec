package tree

import (
	"slices"

	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// turnPages is how many lowest key pages one transaction of a turn rewrites: about a megabyte.
const turnPages = 64

// Containers lists the containers of the space.
func (t *Tx) Containers() (list []format.ID, err error) {
	w := t.root.leaves()
	for {
		n, err := w.next()
		if err != nil || n == nil {
			return list, err
		}
		if err := t.root.open(n); err != nil {
			return list, err
		}
		for i := range n.page.Len() {
			if id, _ := n.page.At(i); id != rowkey.Root {
				list = append(list, id)
			}
		}
	}
}

// TurnStep rewrites up to turnPages lowest pages of a container, those above them and its head, and returns where to go
// on.
func (t *Tx) TurnStep(container, position format.ID) (goOn format.ID, more bool, err error) {
	tr, err := t.tree(container)
	if err != nil || tr == nil || tr.head.Dropped {
		return position, false, err
	}
	tr.rekey, tr.written = true, true
	for range turnPages {
		leaf, err := tr.leaf(position)
		if err == nil {
			err = tr.change(leaf)
		}
		if err != nil {
			return position, false, err
		}
		if position, more = rowkey.Next(leaf.upper); !more {
			break
		}
	}
	return position, more, nil
}

// Reseal seals the head of the root container under a pair: what was erased before is final then.
func (t *Tx) Reseal(pair format.Pair) error {
	t.root.head.Pair, t.root.head.Erased = pair, 0
	return t.root.write()
}

// NoteStates lets the root container know the newest states of containers, and writes it.
func (t *Tx) NoteStates(containers []format.ID) error {
	for _, id := range containers {
		if id == rowkey.Root {
			continue
		}
		tr, err := t.tree(id)
		if event.IsCorrupt(err) {
			continue // reading it reports the damage
		}
		if err != nil {
			return err
		}
		if tr != nil && tr.head.Sequence > tr.floor {
			if err := t.root.set(id, format.Secret{Key: tr.key, Version: tr.head.Sequence}); err != nil {
				return err
			}
		}
	}
	return t.flush()
}

// readAhead is how many heads UnknownStates reads in one round trip.
const readAhead = 128

// UnknownStates lists the containers that have a newer state than the root container knows.
func (t *Tx) UnknownStates() (list []format.ID, err error) {
	all, err := t.Containers()
	if err != nil {
		return nil, err
	}
	for some := range slices.Chunk(all, readAhead) {
		if t.prefetch != nil {
			keys := make([][]byte, len(some))
			for i, id := range some {
				keys[i] = rowkey.Of(format.ID(t.space), rowkey.Head, id, format.ID{})
			}
			t.prefetch(keys...)
		}
		for _, id := range some {
			tr, err := t.openTree(id)
			if event.IsCorrupt(err) {
				continue // reading it reports the damage
			}
			if err != nil {
				return list, err
			}
			if tr == nil {
				continue
			}
			if tr.head.Sequence > tr.floor {
				list = append(list, id)
			}
			tr.forget()
		}
	}
	return list, nil
}
