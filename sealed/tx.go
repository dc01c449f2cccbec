package sealed

import (
	"errors"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// Reader is a snapshot of a space, or a transaction. It is valid until the function it was passed to returns, and for
// one goroutine.
type Reader interface{ txn() *txn }

// Tx is a transaction on a space: a Reader that may also be written to.
type Tx interface {
	Reader
	writable() *txn
}

// txn is a View or an Update under way. An Update writes to its stage, or, when it is alone, to the engine.
type txn struct {
	sp       *Space
	ring     *keys.Ring
	r        engine.Reader
	w        engine.Writer // nil in a View
	finished bool

	root     *tree // of the root container
	trees    map[format.ID]*tree
	leaves   []*node           // lowest pages that are open, so that a long transaction opens each once
	touched  []format.ID       // containers that changed
	rows     map[format.ID]int // nursery rows written, by container, for the folder
	gone     []erasedID        // what was erased
	thorough bool              // nothing is taken from what the keyring keeps open

	before uint64 // of the root container's sequence, when it was opened

	// of an Update that shares its commit
	group  *group // of its own and of the trees'
	member *member
	failed error  // it could not leave its group
	stage  *stage // what it wrote; its trees are the group's
}

type erasedID struct{ container, record format.ID }

func (t *txn) txn() *txn      { return t }
func (t *txn) writable() *txn { return t }

// use panics when a Reader is used after its function has returned: that is a mistake of ours, and it would read wiped
// memory.
func (t *txn) use() {
	if t.finished {
		panic("sealed: a Reader or Tx was used after its function had returned")
	}
}

func (t *txn) finish() {
	t.finished = true
	for _, tr := range t.trees {
		tr.wipe()
		clear(tr.key)
		clear(tr.head.Root.Key)
	}
	if t.root != nil {
		t.root.wipe()
		clear(t.root.head.Root.Key)
	}
	t.leaves = nil
}

func (t *txn) place(container, id format.ID) format.Place {
	return format.Place{Instance: t.sp.store.root.Instance, Space: format.ID(t.sp.id), Container: container, Record: id}
}

// corrupt reports and returns what was found at a place. A zero id stands for none.
func (t *txn) corrupt(what string, container, id format.ID, err error) error {
	// it has no snapshot, and the rows of a space that was dropped go without waiting for it for ever
	if t.group != nil {
		if err := t.sp.stillOpen(t.group.fence); err != nil {
			return err
		}
	}
	e := &CorruptError{Space: t.sp.id, Container: container.String(), What: what, Err: err}
	if id != (format.ID{}) {
		e.Record = id.String()
	}
	return t.sp.store.report.Corrupt(e)
}

func (t *txn) openNursery(container, id format.ID, pageKey, value []byte) (format.Secret, error) {
	s, err := format.OpenNursery(t.place(container, id), pageKey, value)
	if err != nil {
		return format.Secret{}, t.corrupt("nursery row", container, id, err)
	}
	return s, nil
}

// secret finds the secret of a record: its nursery row's, else its page's. The caller wipes it.
func (t *txn) secret(container, id format.ID) (s format.Secret, ok bool, err error) {
	s, _, ok, err = t.secretAndRow(container, id)
	return s, ok, err
}

// secretAndRow is secret, and returns the nursery row as well, nil when there is none.
func (t *txn) secretAndRow(container, id format.ID) (s format.Secret, nursery []byte, ok bool, err error) {
	t.use()
	tr, err := t.tree(container)
	if err != nil || tr == nil || tr.head.Dropped {
		return format.Secret{}, nil, false, err
	}
	leaf, err := tr.leaf(id)
	if err != nil {
		return format.Secret{}, nil, false, err
	}
	nursery, ok, err = t.r.Get(rowkey.Of(format.ID(t.sp.id), rowkey.Nursery, container, id))
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

// dropped reports whether what is stored of a container is on its way out.
func (t *txn) dropped(container format.ID) (bool, error) {
	tr, err := t.tree(container)
	return err == nil && tr != nil && tr.head.Dropped, err
}

var (
	errNoSecret = errors.New("the record has no secret")
	errNoRow    = errors.New("the record's row is missing")
)

// get opens a record and appends its plaintext to dst. Errors: ErrNotFound, *CorruptError.
func (t *txn) get(dst []byte, container, id format.ID) (plaintext []byte, schema byte, err error) {
	if t.stage != nil {
		if r := t.stage.find(recordRef{container, id}); r != nil {
			return r.read(dst)
		}
		if r := t.stage.group.seen[recordRef{container, id}]; r != nil {
			return r.read(dst)
		}
	}
	s, nursery, known, err := t.secretAndRow(container, id)
	if err != nil {
		return nil, 0, err
	}
	defer func() { clear(s.Key) }()
	if dropped, err := t.dropped(container); err != nil || dropped {
		return nil, 0, errors.Join(err, ErrNotFound)
	}
	value, stored, err := t.r.Get(rowkey.Of(format.ID(t.sp.id), rowkey.Record, container, id))
	switch {
	case err != nil:
		return nil, 0, err
	case !known && !stored:
		return nil, 0, ErrNotFound
	case !known:
		return nil, 0, t.corrupt("record", container, id, errNoSecret)
	case !stored:
		return nil, 0, t.corrupt("record", container, id, errNoRow)
	}
	plaintext, schema, err = format.OpenRecord(dst, t.place(container, id), s, value)
	if err != nil {
		return nil, 0, t.corrupt("record", container, id, err)
	}
	if t.stage != nil {
		r := &stagedRecord{there: true, schema: schema, secret: s, stored: true, unfolded: nursery != nil,
			salt: format.NurserySalt(nursery)}
		if t.stage.group.remember(recordRef{container, id}, r, plaintext[len(dst):]) {
			s = format.Secret{} // it is the group's now
		}
	}
	return plaintext, schema, nil
}

// has looks for a record without opening it. Its secret and its row disagreeing is never "no".
func (t *txn) has(container, id format.ID) (bool, error) {
	if t.stage != nil {
		if r := t.stage.find(recordRef{container, id}); r != nil {
			return r.there, nil
		}
	}
	s, known, err := t.secret(container, id)
	clear(s.Key)
	if err != nil {
		return false, err
	}
	if dropped, err := t.dropped(container); err != nil || dropped {
		return false, err
	}
	_, stored, err := t.r.Get(rowkey.Of(format.ID(t.sp.id), rowkey.Record, container, id))
	switch {
	case err != nil:
		return false, err
	case stored && !known:
		return false, t.corrupt("record", container, id, errNoSecret)
	case known && !stored:
		return false, t.corrupt("record", container, id, errNoRow)
	}
	return known, nil
}

// put seals a record: under a fresh secret when it is new, else under its own with the next version.
func (t *txn) put(container, id format.ID, schema byte, plaintext []byte) error {
	t.use()
	if t.stage != nil {
		return t.stagePut(container, id, schema, plaintext)
	}
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

// uncountStored takes the nursery row that a record has out of its container's sum, as it is about to be replaced or
// removed.
func (t *txn) uncountStored(tr *tree, id format.ID) error {
	old, ok, err := t.r.Get(rowkey.Of(format.ID(t.sp.id), rowkey.Nursery, tr.container, id))
	if salt := format.NurserySalt(old); err == nil && ok && salt != nil {
		tr.uncount(id, salt)
	}
	return err
}

// rewrite seals a record anew, under a secret and version that the caller knows to be its own.
func (t *txn) rewrite(container, id format.ID, schema byte, s format.Secret, plaintext []byte) error {
	tr, err := t.writableTree(container)
	if err == nil {
		err = t.uncountStored(tr, id)
	}
	if err != nil {
		return err
	}
	return t.write(tr, t.place(container, id), schema, s, plaintext)
}

// add seals a record under a fresh secret without looking whether there is one.
func (t *txn) add(container, id format.ID, schema byte, plaintext []byte) error {
	t.use()
	if t.stage != nil {
		return t.stageAdd(container, id, schema, plaintext)
	}
	tr, err := t.writableTree(container)
	if err != nil {
		return err
	}
	s := format.NewSecret(1)
	defer clear(s.Key)
	return t.write(tr, t.place(container, id), schema, s, plaintext)
}

// writableTree returns a container's tree, and begins the container when there is none.
func (t *txn) writableTree(container format.ID) (*tree, error) {
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

// write stores a record and its nursery row.
func (t *txn) write(tr *tree, at format.Place, schema byte, s format.Secret, plaintext []byte) error {
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

// delete removes a record's row and every secret of it. The record itself is not opened, so a damaged one can be
// deleted, and so can one whose nursery row is damaged; a damaged key page cannot be rewritten without losing what else
// it holds.
func (t *txn) delete(container, id format.ID) error {
	t.use()
	if t.stage != nil {
		return t.stageDelete(container, id)
	}
	tr, err := t.tree(container)
	if err != nil {
		return err
	}
	if tr != nil && tr.head.Dropped {
		return ErrNotFound
	}
	space := format.ID(t.sp.id)
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
