package tree

import (
	"context"
	"runtime"
	"sync"

	"github.com/visage-face/visage/sealed/internal/format"
)

// Visit is called with the plaintext of a record, which is overwritten after it has returned, and wiped in the end.
// With corrupt, its error is of the record.
type Visit func(plaintext []byte, schema byte) (corrupt bool, err error)

// Each calls visit with every record of a container, on all processors at once and in no order. See
// sealed.Container.Each.
func (t *Tx) Each(ctx context.Context, container format.ID, visit Visit) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	work := make(chan *chunk[struct{}], runtime.GOMAXPROCS(0))
	used := make(chan *chunk[struct{}], 2*cap(work)+1) // as many as there are at a time
	var workers sync.WaitGroup
	for range cap(work) {
		workers.Go(func() {
			for chunk := range work {
				if ctx.Err() == nil {
					if err := t.visitChunk(ctx, container, chunk, visit); err != nil {
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
func (t *Tx) visitChunk(ctx context.Context, container format.ID, chunk *chunk[struct{}], visit Visit) error {
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
		if err != nil {
			return t.Corrupt("record", container, it.id, err)
		}
		buffer = plaintext
		if corrupt, err := visit(plaintext, schema); corrupt {
			return t.Corrupt("record", container, it.id, err)
		} else if err != nil {
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
