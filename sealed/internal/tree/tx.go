// Package tree is the data of a space as a tree of keys: the head of the root container, which a pair of data key and
// epoch key opens, the heads of containers, their key pages down to the secret of each record, nursery rows that wait
// to be folded into pages, and the records. A Tx reads it, changes records, and writes pages and heads anew; it also
// folds, turns, drops, puts in order and verifies, a bounded step at a time.
//
// A Tx works on the reader or writer of an engine that it is given, and knows neither who else writes nor when that
// becomes durable. docs/formats/containers.md describes what lies on disk.
package tree

import (
	"errors"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// Env is what the trees of a store have in common.
type Env struct {
	Instance format.ID
	Report   event.Report
	// of a page: the most entries, and those of pages that one is split into; tests make them small
	PageSlots, PageFill int
}

// NewEnv returns the environment of the trees of an instance.
func NewEnv(instance format.ID, report event.Report) *Env {
	return &Env{Instance: instance, Report: report, PageSlots: format.PageSlots, PageFill: PageFill}
}

// Tx is a transaction on the tree of a space: it reads rows, and opens what they hold. With a writer it also writes
// them. It is for one goroutine, save where something else is said.
type Tx struct {
	env      *Env
	space    format.SpaceID
	ring     *keys.Ring
	r        engine.Reader
	w        engine.Writer // nil: it only reads
	finished bool

	root     *tree // of the root container
	trees    map[format.ID]*tree
	leaves   []*node           // lowest pages that are open, so that a long transaction opens each once
	touched  []format.ID       // containers that changed
	rows     map[format.ID]int // nursery rows written, by container, for whoever folds
	gone     []Ref             // what was erased
	thorough bool              // nothing is taken from what the keyring keeps open

	before uint64       // of the root container's sequence, when it was opened
	closed func() error // says why nothing that is found counts, as after the space was dropped; may be nil
}

// NewReader returns a transaction that reads from r.
func NewReader(env *Env, space format.SpaceID, ring *keys.Ring, r engine.Reader) *Tx {
	return &Tx{env: env, space: space, ring: ring, r: r}
}

// NewWriter returns a transaction that writes to w.
func NewWriter(env *Env, space format.SpaceID, ring *keys.Ring, w engine.Writer) *Tx {
	return &Tx{env: env, space: space, ring: ring, r: w, w: w}
}

// ReadFrom has the transaction go on with another reader of the same rows.
func (t *Tx) ReadFrom(r engine.Reader) { t.r = r }

// WriteTo has the transaction go on with a writer of the same rows.
func (t *Tx) WriteTo(w engine.Writer) { t.r, t.w = w, w }

// OnlyWhile sets what says why nothing that is found to be damaged counts.
func (t *Tx) OnlyWhile(closed func() error) { t.closed = closed }

// Keyring returns the keys of the space.
func (t *Tx) Keyring() *keys.Ring { return t.ring }

// Changes is what a transaction did.
type Changes struct {
	Rows     map[format.ID]int // nursery rows written, by container
	Touched  []format.ID       // containers that changed
	Sequence uint64            // of the root container's head
	Gone     []Ref             // what was erased
}

// Changes returns what the transaction did.
func (t *Tx) Changes() Changes { return Changes{t.rows, t.touched, t.root.head.Sequence, t.gone} }

// End writes all that is to be written at the end of a transaction.
func (t *Tx) End() error {
	if err := t.flush(); err != nil {
		return err
	}
	if t.root.head.Sequence != t.before {
		t.touched = append(t.touched, rowkey.Root)
	}
	return nil
}

// Use panics when a transaction is used after its function has returned: that is a mistake of ours, and it would read
// wiped memory.
func (t *Tx) Use() {
	if t.finished {
		panic("sealed: a Reader or Tx was used after its function had returned")
	}
}

// Finish ends the use of the transaction, and wipes the keys that it opened.
func (t *Tx) Finish() {
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

func (t *Tx) place(container, id format.ID) format.Place {
	return format.Place{Instance: t.env.Instance, Space: format.ID(t.space), Container: container, Record: id}
}

// Corrupt reports and returns what was found at a place. A zero id stands for none.
func (t *Tx) Corrupt(what string, container, id format.ID, err error) error {
	if t.closed != nil {
		if err := t.closed(); err != nil {
			return err
		}
	}
	e := &event.CorruptError{Space: t.space, Container: container.String(), What: what, Err: err}
	if id != (format.ID{}) {
		e.Record = id.String()
	}
	return t.env.Report.Corrupt(e)
}

func (t *Tx) openNursery(container, id format.ID, pageKey, value []byte) (format.Secret, error) {
	s, err := format.OpenNursery(t.place(container, id), pageKey, value)
	if err != nil {
		return format.Secret{}, t.Corrupt("nursery row", container, id, err)
	}
	return s, nil
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

// Dropped reports whether what is stored of a container is on its way out.
func (t *Tx) Dropped(container format.ID) (bool, error) {
	tr, err := t.tree(container)
	return err == nil && tr != nil && tr.head.Dropped, err
}

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

// read is get, and returns the secret of the record, which is the caller's, and its nursery row, nil when there is
// none.
func (t *Tx) read(
	dst []byte, container, id format.ID,
) (plaintext []byte, schema byte, s format.Secret, nursery []byte, err error) {
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

// Put seals a record: under a fresh secret when it is new, else under its own with the next version.
func (t *Tx) Put(container, id format.ID, schema byte, plaintext []byte) error {
	t.Use()
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
func (t *Tx) uncountStored(tr *tree, id format.ID) error {
	old, ok, err := t.r.Get(rowkey.Of(format.ID(t.space), rowkey.Nursery, tr.container, id))
	if salt := format.NurserySalt(old); err == nil && ok && salt != nil {
		tr.uncount(id, salt)
	}
	return err
}

// rewrite seals a record anew, under a secret and version that the caller knows to be its own.
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

// Delete removes a record's row and every secret of it. The record itself is not opened, so a damaged one can be
// deleted, and so can one whose nursery row is damaged; a damaged key page cannot be rewritten without losing what else
// it holds.
func (t *Tx) Delete(container, id format.ID) error {
	t.Use()
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
