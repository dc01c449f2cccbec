package sealed

import (
	"context"
	"errors"
)

// Each calls visit with the encoding of every record, as the table's T would marshal it, on all processors at once and
// in no order. It is for callers that copy the bytes without decoding a T. The bytes are overwritten after visit has
// returned, and wiped in the end. Each ends with the first error, of visit or a *CorruptError, or with the cause of
// ctx; calls of visit have returned by then. If visit's error wraps ErrRecord, Each returns a *CorruptError that names
// the record.
func (c Container[T]) Each(ctx context.Context, r Reader, visit func(encoded []byte) error) error {
	t := r.reader()
	t.Use()
	container := t.Keyring().Container(c.table.name, c.parents)
	all, _, err := t.Whole(container)
	if err != nil {
		return err
	}
	return all.Each(ctx, container, func(plaintext []byte, schema byte) (corrupt bool, err error) {
		encoding, own, err := c.table.encoding(plaintext, schema)
		if err != nil {
			return true, err
		}
		err = visit(encoding)
		if own {
			clear(encoding)
		}
		return errors.Is(err, ErrRecord), err
	})
}
