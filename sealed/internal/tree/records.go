package tree

import (
	"errors"

	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// ErrNotFound says that there is no such record.
var ErrNotFound = errors.New("no such record")

var (
	errNoSecret = errors.New("the record has no secret")
	errNoRow    = errors.New("the record's row is missing")
)

// Get opens a record and appends its plaintext to dst. Errors: ErrNotFound, *CorruptError.
func (t *Tx) Get(dst []byte, container, id format.ID) (plaintext []byte, schema byte, err error) {
	plaintext, schema, s, _, err := t.read(dst, container, id)
	clear(s.Key)
	return plaintext, schema, err
}

// read is Get, and returns the secret of the record, which is the caller's, and its nursery row, nil when there is
// none.
func (t *Tx) read(
	dst []byte, container, id format.ID,
) (plaintext []byte, schema byte, s format.Secret, nursery []byte, err error) {
	t.prefetchRecord(container, id)
	s, nursery, known, err := t.secretAndRow(container, id)
	if err != nil {
		return nil, 0, s, nil, err
	}
	if dropped, err := t.Dropped(container); err != nil || dropped {
		return nil, 0, s, nil, errors.Join(err, ErrNotFound)
	}
	value, stored, err := t.r.Get(rowkey.Of(format.ID(t.space), rowkey.Record, container, id))
	switch {
	case err != nil:
		return nil, 0, s, nil, err
	case !known && !stored:
		return nil, 0, s, nil, ErrNotFound
	case !known:
		return nil, 0, s, nil, t.Corrupt("record", container, id, errNoSecret)
	case !stored:
		return nil, 0, s, nil, t.Corrupt("record", container, id, errNoRow)
	}
	plaintext, schema, err = format.OpenRecord(dst, t.place(container, id), s, value)
	if err != nil {
		return nil, 0, s, nil, t.Corrupt("record", container, id, err)
	}
	return plaintext, schema, s, nursery, nil
}

// Has looks for a record without opening it. Its secret and its row disagreeing is never "no".
func (t *Tx) Has(container, id format.ID) (bool, error) {
	t.prefetchRecord(container, id)
	s, known, err := t.secret(container, id)
	clear(s.Key)
	if err != nil {
		return false, err
	}
	if dropped, err := t.Dropped(container); err != nil || dropped {
		return false, err
	}
	_, stored, err := t.r.Get(rowkey.Of(format.ID(t.space), rowkey.Record, container, id))
	switch {
	case err != nil:
		return false, err
	case stored && !known:
		return false, t.Corrupt("record", container, id, errNoSecret)
	case known && !stored:
		return false, t.Corrupt("record", container, id, errNoRow)
	}
	return known, nil
}

// secret finds the secret of a record: its nursery row's, else its page's. The caller wipes it.
func (t *Tx) secret(container, id format.ID) (s format.Secret, ok bool, err error) {
	s, _, ok, err = t.secretAndRow(container, id)
	return s, ok, err
}

// secretAndRow is secret, and returns the nursery row as well, nil when there is none.
func (t *Tx) secretAndRow(container, id format.ID) (s format.Secret, nursery []byte, ok bool, err error) {
	t.Use()
	tr, err := t.tree(container)
	if err != nil || tr == nil || tr.head.Dropped {
		return format.Secret{}, nil, false, err
	}
	leaf, err := tr.leaf(id)
	if err != nil {
		return format.Secret{}, nil, false, err
	}
	nursery, ok, err = t.r.Get(rowkey.Of(format.ID(t.space), rowkey.Nursery, container, id))
	if err != nil {
		return format.Secret{}, nil, false, err
	}
	if ok {
		s, err = t.openNursery(container, id, leaf.secret.Key, nursery)
		return s, nursery, err == nil, err
	}
	if err := tr.open(leaf); err != nil {
		return format.Secret{}, nil, false, err
	}
	s, ok = leaf.page.Lookup(id)
	return s.Clone(), nil, ok, nil
}

func (t *Tx) openNursery(container, id format.ID, pageKey, value []byte) (format.Secret, error) {
	s, err := format.OpenNursery(t.place(container, id), pageKey, value)
	if err != nil {
		return format.Secret{}, t.Corrupt("nursery row", container, id, err)
	}
	return s, nil
}

// Dropped reports whether what is stored of a container is on its way out.
func (t *Tx) Dropped(container format.ID) (bool, error) {
	tr, err := t.tree(container)
	return err == nil && tr != nil && tr.head.Dropped, err
}

// Put seals a record: under a fresh secret when it is new, else under its own with the next version.
func (t *Tx) Put(container, id format.ID, schema byte, plaintext []byte) error {
	t.Use()
	t.prefetchRecord(container, id)
	tr, err := t.writableTree(container)
	if err != nil {
		return err
	}
	at := t.place(container, id)
	// Without a row there is no record, and a fresh secret outranks whatever a page may hold: most puts are of new
	// records, and opening the page of each would cost more than all the rest, while other writers wait.
	_, stored, err := t.r.Get(rowkey.Of(at.Space, rowkey.Record, container, id))
	if err != nil {
		return err
	}
	var s format.Secret
	known := false
	if stored {
		if s, known, err = t.secret(container, id); err != nil {
			return err
		}
		if err := t.uncountStored(tr, id); err != nil {
			return err
		}
	}
	if !known {
		s = format.NewSecret(0)
	}
	defer clear(s.Key)
	s.Version++
	return t.write(tr, at, schema, s, plaintext)
}

// Add seals a record under a fresh secret without looking whether there is one.
func (t *Tx) Add(container, id format.ID, schema byte, plaintext []byte) error {
	t.Use()
	tr, err := t.writableTree(container)
	if err != nil {
		return err
	}
	s := format.NewSecret(1)
	defer clear(s.Key)
	return t.write(tr, t.place(container, id), schema, s, plaintext)
}

// rewrite seals a record again, under a secret and version that the caller knows to be its own.
func (t *Tx) rewrite(container, id format.ID, schema byte, s format.Secret, plaintext []byte) error {
	tr, err := t.writableTree(container)
	if err == nil {
		err = t.uncountStored(tr, id)
	}
	if err != nil {
		return err
	}
	return t.write(tr, t.place(container, id), schema, s, plaintext)
}

// write stores a record and its nursery row.
func (t *Tx) write(tr *tree, at format.Place, schema byte, s format.Secret, plaintext []byte) error {
	leaf, err := tr.leaf(at.Record)
	if err != nil {
		return err
	}
	salt := format.Salt(t.ring.Hedge(), at, s, plaintext)
	record := format.SealRecord(at, schema, s, salt, plaintext)
	if err := t.w.Put(rowkey.Of(at.Space, rowkey.Record, at.Container, at.Record), record); err != nil {
		return err
	}
	nursery := format.SealNursery(at, leaf.secret.Key, salt, s)
	if err := t.w.Put(rowkey.Of(at.Space, rowkey.Nursery, at.Container, at.Record), nursery); err != nil {
		return err
	}
	tr.count(at.Record, salt)
	if t.rows == nil {
		t.rows = map[format.ID]int{}
	}
	t.rows[at.Container]++
	return nil
}

// uncountStored takes the nursery row that a record has out of its container's sum, as it is about to be replaced or
// removed.
func (t *Tx) uncountStored(tr *tree, id format.ID) error {
	old, ok, err := t.r.Get(rowkey.Of(format.ID(t.space), rowkey.Nursery, tr.container, id))
	if salt := format.NurserySalt(old); err == nil && ok && salt != nil {
		tr.uncount(id, salt)
	}
	return err
}

// writableTree returns a container's tree, and begins the container when there is none.
func (t *Tx) writableTree(container format.ID) (*tree, error) {
	tr, err := t.tree(container)
	switch {
	case err != nil:
		return nil, err
	case tr == nil:
		return t.newTree(container), nil
	case tr.head.Dropped:
		return tr, t.revive(tr)
	}
	return tr, nil
}

// Delete removes a record's row and every secret of it. The record itself is not opened, so a damaged one can be
// deleted, and so can one whose nursery row is damaged; a damaged key page cannot be rewritten without losing what else
// it holds.
func (t *Tx) Delete(container, id format.ID) error {
	t.Use()
	t.prefetchRecord(container, id)
	tr, err := t.tree(container)
	if err != nil {
		return err
	}
	if tr != nil && tr.head.Dropped {
		return ErrNotFound
	}
	space := format.ID(t.space)
	_, found, err := t.r.Get(rowkey.Of(space, rowkey.Record, container, id))
	if err != nil {
		return err
	}
	nursery, unfolded, err := t.r.Get(rowkey.Of(space, rowkey.Nursery, container, id))
	if err != nil {
		return err
	}
	if found {
		err = t.w.Delete(rowkey.Of(space, rowkey.Record, container, id))
	}
	if unfolded && err == nil {
		err = t.w.Delete(rowkey.Of(space, rowkey.Nursery, container, id))
	}
	if err != nil {
		return err
	}
	if tr == nil {
		if !found && !unfolded {
			return ErrNotFound
		}
		return nil
	}
	if salt := format.NurserySalt(nursery); unfolded && salt != nil {
		tr.uncount(id, salt)
	}
	leaf, err := tr.leaf(id)
	if err == nil {
		err = tr.open(leaf)
	}
	if err != nil {
		return err
	}
	_, folded := leaf.page.Lookup(id)
	if !found && !unfolded && !folded {
		return ErrNotFound
	}
	// Every key that led to the secret ends: the page's, which its nursery row is sealed under as well, those above it,
	// and the head's.
	if err := tr.change(leaf); err != nil {
		return err
	}
	leaf.page.Remove(id)
	tr.rekey = true
	tr.erased = append(tr.erased, id)
	return nil
}

// Whole prepares a container to be read as a whole, and returns what to read it with: the scan reads what the engine
// has. With aside, it may be read on other goroutines than the caller's: the transaction does not write.
func (t *Tx) Whole(format.ID) (all *Tx, aside bool, err error) {
	return t, t.w == nil, t.flush()
}
