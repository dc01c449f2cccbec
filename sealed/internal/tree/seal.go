package tree

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// Seal seals records that were staged, in the order in which they were first written, and writes them with all that
// changes through them.
func (t *Tx) Seal(order []Ref, records map[Ref]*Staged) error {
	for _, ref := range order { // first what ends keys, so that nothing is sealed under one of them
		if records[ref].Erased {
			if err := t.eraseStaged(ref); err != nil {
				return err
			}
		}
	}
	all := make([]sealing, len(order))
	for i, ref := range order {
		if err := all[i].begin(t, ref, records[ref]); err != nil {
			return err
		}
	}
	onAllProcessors(len(all), func(i int) { all[i].seal(t) })
	for i := range all {
		all[i].end(t)
	}
	if err := t.End(); err != nil {
		return err
	}
	// Last, since what was read before is not searched for in the batch then; and in the order of the keys, in which
	// the engine takes it fastest.
	slices.SortFunc(all, func(a, b sealing) int {
		return cmp.Or(bytes.Compare(a.Container[:], b.Container[:]), bytes.Compare(a.ID[:], b.ID[:]))
	})
	for i := range all {
		if err := t.replaceRow(&all[i], rowkey.Nursery, all[i].nursery, all[i].staged.unfolded); err != nil {
			return err
		}
	}
	for i := range all {
		if err := t.replaceRow(&all[i], rowkey.Record, all[i].record, all[i].staged.stored); err != nil {
			return err
		}
	}
	return nil
}

// sealing is a staged record that is being sealed.
type sealing struct {
	Ref
	staged *Staged
	tree   *tree
	key    []byte // of the page that covers it; nil: that is rewritten, and takes the secret

	record, nursery format.Sealed // zero: there is none
	added, removed  []byte        // terms of the head's sum
}

// begin finds the record's place.
func (s *sealing) begin(t *Tx, ref Ref, r *Staged) error {
	tr, err := t.writableTree(ref.Container)
	if err != nil {
		return err
	}
	*s = sealing{Ref: ref, staged: r, tree: tr}
	if !r.There {
		return nil
	}
	tr.written = true
	leaf, err := tr.leaf(ref.ID)
	if err != nil {
		return err
	}
	if r.secret.Key == nil {
		r.secret = format.NewSecret(0)
	}
	r.secret.Version++
	if leaf.dirty {
		leaf.page.Set(ref.ID, r.secret)
		tr.take(ref.ID)
		return nil
	}
	s.key = leaf.secret.Key
	return nil
}

// seal seals the record. It uses nothing of t but the keys, so that many can run at once.
func (s *sealing) seal(t *Tx) {
	r, set := s.staged, t.ring.Set()
	if r.salt != nil {
		s.removed = format.Term(set, s.Container, s.ID, r.salt)
	}
	if !r.There {
		return
	}
	at := t.place(s.Container, s.ID)
	salt := format.Salt(t.ring.Hedge(), at, r.secret, r.Plaintext)
	s.record = format.SealRecord(at, r.Schema, r.secret, salt, r.Plaintext)
	if s.key != nil {
		s.nursery = format.SealNursery(at, s.key, salt, r.secret)
		s.added = format.Term(set, s.Container, s.ID, salt)
	}
}

// end brings the head up to date.
func (s *sealing) end(t *Tx) {
	if s.removed != nil {
		s.tree.uncountTerm(s.removed)
	}
	if s.added == nil {
		return
	}
	s.tree.countTerm(s.added)
	if t.rows == nil {
		t.rows = map[format.ID]int{}
	}
	t.rows[s.Container]++
}

// replaceRow writes a row of a record, or removes the one that is stored.
func (t *Tx) replaceRow(s *sealing, kind byte, value format.Sealed, stored bool) error {
	key := rowkey.Of(format.ID(t.space), kind, s.Container, s.ID)
	switch {
	case len(value.Bytes()) > 0:
		return t.w.Put(key, value)
	case stored:
		return t.w.Delete(key)
	}
	return nil
}

// eraseStaged ends every key that led to the secret of a record.
func (t *Tx) eraseStaged(ref Ref) error {
	tr, err := t.writableTree(ref.Container)
	if err != nil {
		return err
	}
	leaf, err := tr.leaf(ref.ID)
	if err == nil {
		err = tr.change(leaf)
	}
	if err != nil {
		return err
	}
	leaf.page.Remove(ref.ID)
	tr.take(ref.ID)
	tr.rekey = true
	tr.erased = append(tr.erased, ref.ID)
	return nil
}

func (tr *tree) take(id format.ID) {
	if tr.taken == nil {
		tr.taken = map[format.ID]bool{}
	}
	tr.taken[id] = true
}
