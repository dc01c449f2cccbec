package sealed

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"github.com/visage-face/visage/sealed/internal/format"
)

// Each calls visit with the encoding of every record, as the table's T would marshal it, on all processors at once and
// in no order: for who wants the bytes in a place of its own without a T on the way. What visit gets is overwritten
// after it has returned, and wiped in the end. Each ends with the first error, be it of visit or a *CorruptError, or
// with the cause of ctx; calls of visit have returned by then. What visit refuses with an error that wraps ErrRecord is
// a *CorruptError that names the record.
func (c Container[T]) Each(ctx context.Context, r Reader, visit func(encoded []byte) error) error {
	t := r.txn()
	t.use()
	container := t.ring.Container(c.table.name, c.parents)
	if err := t.scannable(container); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	work := make(chan *chunk[struct{}], runtime.GOMAXPROCS(0))
	used := make(chan *chunk[struct{}], 2*cap(work)+1) // as many as there are at a time
	var workers sync.WaitGroup
	for range cap(work) {
		workers.Go(func() {
			for chunk := range work {
				if ctx.Err() == nil {
					if err := c.visitChunk(ctx, t, container, chunk, visit); err != nil {
						stop(err)
					}
				}
				chunk.wipe()
				used <- chunk
			}
		})
	}
	w, err := newWalk(t, container)
	if err != nil {
		stop(err)
	} else if w != nil {
		defer w.stop()
	}
	for more := w != nil; more && ctx.Err() == nil; {
		var next *chunk[struct{}]
		select {
		case next = <-used:
		default:
		}
		next, more = nextChunk(w, next)
		if next.failed != nil {
			stop(next.failed)
		}
		work <- next // the workers take every chunk, whatever has happened
	}
	close(work)
	workers.Wait()
	return context.Cause(ctx)
}

// visitChunk opens the records of a chunk for visit.
func (c Container[T]) visitChunk(
	ctx context.Context, t *txn, container format.ID, chunk *chunk[struct{}], visit func([]byte) error,
) error {
	var buffer []byte
	defer func() { clear(buffer[:cap(buffer)]) }()
	for _, it := range chunk.items {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if it.err != nil {
			return it.err
		}
		plaintext, schema, err := t.open(buffer[:0], container, it, chunk.values)
		var own bool
		if err == nil {
			buffer = plaintext
			plaintext, own, err = c.table.encoding(plaintext, schema)
		}
		if err != nil {
			return t.corrupt("record", container, it.id, err)
		}
		err = visit(plaintext)
		if own {
			clear(plaintext)
		}
		if errors.Is(err, ErrRecord) {
			return t.corrupt("record", container, it.id, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// wipe clears the secrets of a chunk.
func (c *chunk[T]) wipe() {
	for i := range c.items {
		clear(c.items[i].secret.Key)
	}
}
