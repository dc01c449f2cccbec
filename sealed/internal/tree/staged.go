package tree

import (
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// Staged is a record that was written and is not sealed yet, and what the engine has of it. Like a plaintext that is
// being sealed it lies in ordinary memory, and it is wiped after.
type Staged struct {
	There     bool // or else it was deleted
	Schema    byte
	Plaintext []byte

	secret   format.Secret // of the stored record that it takes the place of; no key: there is none, or it was erased
	stored   bool          // the engine has the record
	unfolded bool          // and a nursery row
	salt     []byte        // of that, if it is whole
	Erased   bool          // something of it was deleted on the way
}

// Read appends the plaintext to dst. Error: ErrNotFound.
func (r *Staged) Read(dst []byte) (plaintext []byte, schema byte, err error) {
	if !r.There {
		return nil, 0, ErrNotFound
	}
	return append(dst, r.Plaintext...), r.Schema, nil
}

// Wipe clears what is secret.
func (r *Staged) Wipe() {
	clear(r.Plaintext)
	clear(r.secret.Key)
	r.Plaintext, r.secret = nil, format.Secret{}
}

// Facts returns a copy without the plaintext.
func (r *Staged) Facts() *Staged {
	c := *r
	c.Plaintext = nil
	if r.secret.Key != nil {
		c.secret = r.secret.Clone()
	}
	return &c
}

// Stage returns what the engine has of a record that is about to be put, read now, so that damage is reported
// to the caller that puts it.
func (t *Tx) Stage(ref Ref) (*Staged, error) {
	r := &Staged{}
	t.prefetchRecord(ref.Container, ref.ID)
	// Without a row there is no record: see Put.
	_, stored, err := t.r.Get(rowkey.Of(format.ID(t.space), rowkey.Record, ref.Container, ref.ID))
	if err != nil || !stored {
		return r, err
	}
	secret, nursery, known, err := t.secretAndRow(ref.Container, ref.ID)
	r.stored, r.unfolded, r.salt = true, nursery != nil, format.NurserySalt(nursery)
	if known {
		r.secret = secret
	}
	return r, err
}

// StageRead is Get, and returns what the engine has of the record, its secret included.
func (t *Tx) StageRead(dst []byte, ref Ref) (plaintext []byte, r *Staged, err error) {
	plaintext, schema, s, nursery, err := t.read(dst, ref.Container, ref.ID)
	if err != nil {
		clear(s.Key)
		return nil, nil, err
	}
	return plaintext, &Staged{There: true, Schema: schema, secret: s, stored: true, unfolded: nursery != nil,
		salt: format.NurserySalt(nursery)}, nil
}

// StageDelete returns what the engine has of a record that is about to be deleted. It opens the pages that will have to
// be rewritten, so that damage is reported to the caller that deletes. Without a container it may return what is left
// of a record alone: then inTree is false. Error: ErrNotFound.
func (t *Tx) StageDelete(ref Ref) (r *Staged, inTree bool, err error) {
	t.prefetchRecord(ref.Container, ref.ID)
	tr, err := t.tree(ref.Container)
	if err != nil {
		return nil, false, err
	}
	if tr != nil && tr.head.Dropped {
		return nil, false, ErrNotFound
	}
	r = &Staged{}
	space := format.ID(t.space)
	if _, r.stored, err = t.r.Get(rowkey.Of(space, rowkey.Record, ref.Container, ref.ID)); err != nil {
		return nil, false, err
	}
	nursery, unfolded, err := t.r.Get(rowkey.Of(space, rowkey.Nursery, ref.Container, ref.ID))
	if err != nil {
		return nil, false, err
	}
	if r.unfolded = unfolded; unfolded {
		r.salt = format.NurserySalt(nursery)
	}
	if tr == nil {
		if !r.stored && !r.unfolded {
			return nil, false, ErrNotFound
		}
		return r, false, nil
	}
	leaf, err := tr.leaf(ref.ID)
	if err == nil {
		err = tr.open(leaf)
	}
	if err != nil {
		return nil, false, err
	}
	if _, folded := leaf.page.Lookup(ref.ID); !r.stored && !r.unfolded && !folded {
		return nil, false, ErrNotFound
	}
	return r, true, nil
}
