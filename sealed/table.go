package sealed

import (
	"context"
	"encoding"
	"fmt"
	"iter"

	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// Table is a kind of record, of type T. Tables are declared once, as package variables; they hold no state.
type Table[T any] struct {
	name   string
	schema byte
	tableOptions
}

// A TableOption changes how a table's records are stored.
type TableOption func(*tableOptions)

type tableOptions struct {
	fixed   bool
	earlier byte // the version that convert is for; 0: none
	convert func(encoding []byte) ([]byte, error)
}

// FixedSize says that every record of the table encodes to the same length, which therefore tells nothing and needs no
// padding.
func FixedSize() TableOption { return func(o *tableOptions) { o.fixed = true } }

// Earlier says how the encoding of records of an earlier version becomes that of the table's: they are read so, and are
// of the new version once they are written again. convert returns new memory, and its errors must not quote the
// content.
func Earlier(schema byte, convert func(encoding []byte) ([]byte, error)) TableOption {
	return func(o *tableOptions) { o.earlier, o.convert = schema, convert }
}

// NewTable declares a table. The name tells tables apart and is blinded with the ids; schema is the version of the
// encoding, kept with every record: one with another version is refused, but see Earlier.
//
// A T whose pointer implements encoding.BinaryUnmarshaler, and encoding.BinaryAppender or encoding.BinaryMarshaler, is
// stored as these say; their errors must not quote the content. Every other T is stored as CBOR (RFC 8949), where
// fields that are not known are refused.
func NewTable[T any](name string, schema byte, options ...TableOption) Table[T] {
	var o tableOptions
	for _, option := range options {
		option(&o)
	}
	return Table[T]{name, schema, o}
}

// In returns the table's container under parents, for example the faces of one list. It need not be made: it exists by
// what is put into it.
func (t Table[T]) In(parents ...string) Container[T] { return Container[T]{t, parents} }

// Container is a collection of records: a table under its parents. docs/formats/containers.md says what else it is the
// unit of.
type Container[T any] struct {
	table   Table[T]
	parents []string
}

// Get opens a record. Errors: ErrNotFound, *CorruptError.
func (c Container[T]) Get(r Reader, id string) (v T, err error) {
	t := r.reader()
	t.Use()
	container, record := c.blind(t, id)
	plaintext, schema, err := t.Get(nil, container, record)
	if err != nil {
		return v, err
	}
	defer clear(plaintext)
	if v, err = c.table.decode(plaintext, schema); err != nil {
		return v, t.Corrupt("record", container, record, err)
	}
	return v, nil
}

// Has reports whether there is a record, without opening it.
func (c Container[T]) Has(r Reader, id string) (bool, error) {
	t := r.reader()
	t.Use()
	container, record := c.blind(t, id)
	return t.Has(container, record)
}

// Put stores a record, new or in place of the one before.
func (c Container[T]) Put(tx Tx, id string, v T) error { return c.store(tx, id, v, records.Put) }

// Add stores a record whose id was made at random for it, so that there cannot be one: it does not look, which is most
// of what Put costs besides sealing. Adding an id twice loses the first record and looks like damage.
func (c Container[T]) Add(tx Tx, id string, v T) error { return c.store(tx, id, v, records.Add) }

func (c Container[T]) store(tx Tx, id string, v T, how func(records, format.ID, format.ID, byte, []byte) error) error {
	t := tx.writer()
	t.Use()
	plaintext, err := c.table.encode(v)
	if err != nil {
		return fmt.Errorf("encode a record of table %s: %w", c.table.name, err)
	}
	defer clear(plaintext)
	container, record := c.blind(t, id)
	return how(t, container, record, c.table.schema, plaintext)
}

// Delete removes a record and its secret. It does not open the record, so that a damaged one can be deleted. Errors:
// ErrNotFound, *CorruptError.
func (c Container[T]) Delete(tx Tx, id string) error {
	t := tx.writer()
	t.Use()
	container, record := c.blind(t, id)
	return t.Delete(container, record)
}

// All yields every record, in the order of blinded ids, which tells nothing. Large containers are opened on all
// processors, a bounded number of records ahead of the loop. A record that does not open is yielded as a *CorruptError
// and the loop may go on; after any other error it has ended. The loop must not write to the container.
func (c Container[T]) All(r Reader) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		t := r.reader()
		t.Use()
		container := t.Keyring().Container(c.table.name, c.parents)
		all, aside, err := t.Whole(container)
		if err != nil {
			var zero T
			yield(zero, err)
			return
		}
		tree.Walk(all, container, aside, c.table.decode, yield)
	}
}

func (c Container[T]) blind(t records, id string) (container, record format.ID) {
	ring := t.Keyring()
	return ring.Container(c.table.name, c.parents), format.BlindRecord(ring.Blind(), c.table.name, c.parents, id)
}

// binaryForm returns the binary encoding that v brings itself, if it has both ways.
func binaryForm[T any](v *T) (marshal func() ([]byte, error), unmarshal func([]byte) error, ok bool) {
	u, ok := any(v).(encoding.BinaryUnmarshaler)
	if !ok {
		return nil, nil, false
	}
	if a, ok := any(v).(encoding.BinaryAppender); ok {
		return func() ([]byte, error) { return a.AppendBinary(nil) }, u.UnmarshalBinary, true
	}
	if m, ok := any(v).(encoding.BinaryMarshaler); ok {
		return m.MarshalBinary, u.UnmarshalBinary, true
	}
	return nil, nil, false
}

func (t Table[T]) encode(v T) (b []byte, err error) {
	if marshal, _, ok := binaryForm(&v); ok {
		b, err = marshal()
	} else {
		b, err = format.Records.Marshal(v)
	}
	if err == nil && len(b) > MaxRecord {
		clear(b)
		err = fmt.Errorf("a record of %d bytes is over the limit of %d", len(b), MaxRecord)
	}
	if err != nil || t.fixed {
		return b, err
	}
	padded, err := pad(b)
	clear(b)
	return padded, err
}

// encoding returns what encode makes of a record before it is padded. Where that is new memory, own is true.
func (t Table[T]) encoding(plaintext []byte, schema byte) (encoding []byte, own bool, err error) {
	if schema != t.schema && (t.convert == nil || schema != t.earlier) {
		return nil, false, fmt.Errorf("%w: encoding %d of table %s, where %d is known", format.ErrMalformed, schema,
			t.name,
			t.schema)
	}
	if !t.fixed {
		if plaintext, err = unpad(plaintext); err != nil {
			return nil, false, err
		}
	}
	if schema == t.schema {
		return plaintext, false, nil
	}
	encoding, err = t.convert(plaintext)
	return encoding, true, err
}

func (t Table[T]) decode(plaintext []byte, schema byte) (v T, err error) {
	plaintext, own, err := t.encoding(plaintext, schema)
	if err != nil {
		return v, err
	}
	if own {
		defer clear(plaintext)
	}
	if _, unmarshal, ok := binaryForm(&v); ok {
		err = unmarshal(plaintext)
	} else {
		err = format.Strict.Unmarshal(plaintext, &v)
	}
	if err != nil {
		var zero T
		return zero, err
	}
	return v, nil
}

// Drop removes the whole container. It is gone for readers, and its records are erased like deleted ones, with the
// first transaction; its rows follow in transactions of bounded size, and a drop that was cut off can be repeated. It
// works on a damaged container, and dropping what is not there is no error. What somebody puts meanwhile stays.
func (c Container[T]) Drop(ctx context.Context, sp *Space) error {
	first := true
	for done := false; !done; {
		err := sp.updateAlone(ctx, func(t *tree.Tx) (err error) {
			done, err = t.Drop(t.Keyring().Container(c.table.name, c.parents), first)
			return err
		})
		if err != nil {
			return fmt.Errorf("drop a container of table %s: %w", c.table.name, err)
		}
		first = false
	}
	return nil
}
