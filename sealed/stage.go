package sealed

import (
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// stage is what a transaction, or a group of them, has written and nobody has sealed yet. Like a plaintext that is
// being sealed it lies in ordinary memory, and it is wiped after.
type stage struct {
	group   *group // of a transaction's: what those before it have staged
	records map[recordRef]*stagedRecord
	order   []recordRef // of records, as they were first written
	bytes   int         // of their plaintexts

	// of a transaction alone
	puts     int
	gone     []erasedID // what it deleted
	borrowed bool       // it has read what others have staged
}

type recordRef struct{ container, id format.ID }

// stagedRecord is a record that was written, and what the engine has of it.
type stagedRecord struct {
	there     bool // or else it was deleted
	schema    byte
	plaintext []byte

	secret   format.Secret // of the stored record that it takes the place of; no key: there is none, or it was erased
	stored   bool          // the engine has the record
	unfolded bool          // and a nursery row
	salt     []byte        // of that, if it is whole
	erased   bool          // something of it was deleted on the way
}

func (r *stagedRecord) read(dst []byte) (plaintext []byte, schema byte, err error) {
	if !r.there {
		return nil, 0, ErrNotFound
	}
	return append(dst, r.plaintext...), r.schema, nil
}

func (r *stagedRecord) wipe() {
	clear(r.plaintext)
	clear(r.secret.Key)
	r.plaintext, r.secret = nil, format.Secret{}
}

// find returns a record as the transaction sees it; nil when it was not written.
func (s *stage) find(ref recordRef) *stagedRecord {
	if r := s.records[ref]; r != nil {
		return r
	}
	r := s.group.stage.records[ref]
	s.borrowed = s.borrowed || r != nil
	return r
}

// own returns a record that the transaction may change, if it or another one before has written it.
func (s *stage) own(ref recordRef) *stagedRecord {
	r := s.find(ref)
	if r == nil || s.records[ref] != nil {
		return r
	}
	c := r.facts()
	s.set(ref, c)
	return c
}

// facts returns a copy without the plaintext.
func (r *stagedRecord) facts() *stagedRecord {
	c := *r
	c.plaintext = nil
	if r.secret.Key != nil {
		c.secret = r.secret.Clone()
	}
	return &c
}

func (s *stage) set(ref recordRef, r *stagedRecord) {
	if s.records == nil {
		s.records = map[recordRef]*stagedRecord{}
	}
	old := s.records[ref]
	if old == nil {
		s.order = append(s.order, ref)
	} else {
		s.bytes -= len(old.plaintext)
		old.wipe()
	}
	s.records[ref] = r
	s.bytes += len(r.plaintext)
}

// merge takes over what a member has staged.
func (s *stage) merge(from *stage) {
	for _, ref := range from.order {
		s.set(ref, from.records[ref])
	}
}

func (s *stage) wipe() {
	for _, r := range s.records {
		r.wipe()
	}
	s.records = nil
}

// write stages a plaintext, of which it keeps a copy.
func (s *stage) write(r *stagedRecord, schema byte, plaintext []byte) {
	clear(r.plaintext)
	s.bytes += len(plaintext) - len(r.plaintext)
	r.there, r.schema, r.plaintext = true, schema, append(r.plaintext[:0], plaintext...)
	s.puts++
}

// staging prepares a container to be written to. It reports false when that cannot be staged: the transaction has left
// its group then.
func (t *txn) staging(container format.ID) (bool, error) {
	tr, err := t.tree(container)
	if err == nil && tr != nil && tr.head.Dropped {
		return false, t.depart()
	}
	return err == nil, err
}

// stagePut is put. What the engine has of the record is read here, so that what is damaged is told to whoever puts.
func (t *txn) stagePut(container, id format.ID, schema byte, plaintext []byte) error {
	ref := recordRef{container, id}
	r := t.stage.own(ref)
	if r == nil {
		if seen := t.stage.group.seen[ref]; seen != nil {
			r = seen.facts()
			t.stage.set(ref, r)
		}
	}
	if r == nil {
		staging, err := t.staging(container)
		if err != nil {
			return err
		}
		if !staging {
			return t.put(container, id, schema, plaintext)
		}
		r = &stagedRecord{}
		// Without a row there is no record: see put.
		_, stored, err := t.r.Get(rowkey.Of(format.ID(t.sp.id), rowkey.Record, container, id))
		if err == nil && stored {
			err = t.stageStored(r, ref)
		}
		if err != nil {
			return err
		}
		t.stage.set(ref, r)
	}
	t.stage.write(r, schema, plaintext)
	return nil
}

// stageStored looks at what a record that is about to be replaced has.
func (t *txn) stageStored(r *stagedRecord, ref recordRef) error {
	secret, nursery, known, err := t.secretAndRow(ref.container, ref.id)
	r.stored, r.unfolded, r.salt = true, nursery != nil, format.NurserySalt(nursery)
	if known {
		r.secret = secret
	}
	return err
}

// stageAdd is add.
func (t *txn) stageAdd(container, id format.ID, schema byte, plaintext []byte) error {
	staging, err := t.staging(container)
	if err != nil {
		return err
	}
	if !staging {
		return t.add(container, id, schema, plaintext)
	}
	ref := recordRef{container, id}
	r := t.stage.own(ref)
	if r == nil {
		r = &stagedRecord{}
		t.stage.set(ref, r)
	}
	t.stage.write(r, schema, plaintext)
	return nil
}

// stageDelete is delete. It opens the pages that have to be rewritten, so that what is damaged is told to whoever
// deletes.
func (t *txn) stageDelete(container, id format.ID) error {
	ref := recordRef{container, id}
	r := t.stage.find(ref)
	if r != nil && !r.there {
		return ErrNotFound
	}
	tr, err := t.tree(container)
	if err != nil {
		return err
	}
	if r == nil && tr != nil && tr.head.Dropped {
		return ErrNotFound
	}
	if r == nil {
		r = &stagedRecord{}
		space := format.ID(t.sp.id)
		if _, r.stored, err = t.r.Get(rowkey.Of(space, rowkey.Record, container, id)); err != nil {
			return err
		}
		nursery, unfolded, err := t.r.Get(rowkey.Of(space, rowkey.Nursery, container, id))
		if err != nil {
			return err
		}
		if r.unfolded = unfolded; unfolded {
			r.salt = format.NurserySalt(nursery)
		}
		if tr == nil {
			if !r.stored && !r.unfolded {
				return ErrNotFound
			}
			if err := t.depart(); err != nil {
				return err
			}
			return t.delete(container, id)
		}
		leaf, err := tr.leaf(id)
		if err == nil {
			err = tr.open(leaf)
		}
		if err != nil {
			return err
		}
		if _, folded := leaf.page.Lookup(id); !r.stored && !r.unfolded && !folded {
			return ErrNotFound
		}
		t.stage.set(ref, r)
	}
	r = t.stage.own(ref)
	t.stage.bytes -= len(r.plaintext)
	r.wipe()
	r.there, r.erased = false, true
	t.stage.gone = append(t.stage.gone, erasedID{container, id})
	return nil
}

// scannable prepares a container to be read as a whole: the scan reads what the engine has.
func (t *txn) scannable(container format.ID) error {
	if t.failed != nil {
		return t.failed
	}
	if t.stage == nil {
		return t.flush()
	}
	for _, s := range []*stage{t.stage, &t.stage.group.stage} {
		for _, ref := range s.order {
			if ref.container == container {
				if err := t.depart(); err != nil {
					return err
				}
				return t.flush()
			}
		}
	}
	return nil
}
