package sealed

import (
	"context"

	"github.com/visage-face/visage/sealed/internal/commit"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// Reader is a snapshot of a space, or a transaction. It is valid until the function it was passed to returns, and for
// one goroutine.
type Reader interface{ reader() records }

// Tx is a transaction on a space: a Reader that may also be written to.
type Tx interface {
	Reader
	writer() records
}

// records is what a Reader or Tx stands for: a transaction on a tree, or a member of a group of those.
type records interface {
	// Use panics when the transaction is over.
	Use()
	Keyring() *keys.Ring
	Get(dst []byte, container, id format.ID) (plaintext []byte, schema byte, err error)
	Has(container, id format.ID) (bool, error)
	Put(container, id format.ID, schema byte, plaintext []byte) error
	Add(container, id format.ID, schema byte, plaintext []byte) error
	Delete(container, id format.ID) error
	// Whole prepares a container to be read as a whole.
	Whole(container format.ID) (all *tree.Tx, aside bool, err error)
	Corrupt(what string, container, id format.ID, err error) error
	// Below calls fn with the rows that the transaction reads, as the engine has them.
	Below(fn func(engine.Reader) error) error
}

// tx is a Reader and a Tx.
type tx struct{ records }

func (t tx) reader() records { return t.records }
func (t tx) writer() records { return t.records }

func (sp *Space) update(ctx context.Context, fn func(Tx) error) (c tree.Changes, err error) {
	alone := false
	for again := true; again && err == nil; {
		again = false
		err = sp.within(ctx, func(ring *keys.Ring, fence uint64) (err error) {
			if alone {
				c, err = sp.writing.Alone(ctx, ring, fence, func(t *tree.Tx) error { return fn(tx{t}) })
			} else {
				c, alone, err = sp.writing.Shared(ctx, ring, fence, func(m *commit.Member) error { return fn(tx{m}) })
				again = alone
			}
			return err
		})
	}
	return c, err
}

// updateAlone is update for what changes trees itself, or much at once.
func (sp *Space) updateAlone(ctx context.Context, fn func(*tree.Tx) error) error {
	return sp.within(ctx, func(ring *keys.Ring, fence uint64) error {
		_, err := sp.writing.Alone(ctx, ring, fence, fn)
		return err
	})
}

// View runs fn on a snapshot of the space. The Reader is valid until fn returns, and for one goroutine.
// Errors: ErrNoSpace, ErrLocked, ErrGrace, ErrClosed, what fn returns, the cause of an ended ctx.
func (sp *Space) View(ctx context.Context, fn func(Reader) error) error {
	return sp.view(ctx, func(t *tree.Tx) error { return fn(tx{t}) })
}

func (sp *Space) view(ctx context.Context, fn func(*tree.Tx) error) error {
	return sp.within(ctx, func(ring *keys.Ring, _ uint64) error {
		return sp.store.engine.View(ctx, func(r engine.Reader) error {
			t := tree.NewReader(sp.store.env, sp.id, ring, r)
			defer t.Finish()
			t.Prefetch()
			if err := sp.compare(ring, r); err != nil {
				return err
			}
			if err := t.OpenRoot(); err != nil {
				return err
			}
			return fn(t)
		})
	})
}

// Update runs fn as a transaction: when it returns nil, all that fn wrote is durable; on any other end nothing of it
// is, save that an error of the disk itself may leave that open. fn sees its own writes, those of transactions before
// it, and the space alone. It runs on the caller's goroutine; it may run twice, so it keeps nothing from an earlier
// run, and it is short: other writers of the space wait. Those that wait for each other share one commit. fn must not
// begin another transaction that writes to the space, or change its keys: it would wait for itself. The lease is
// checked before fn, and after it inside the commit. Errors: as View, and a *FullError when fn writes and deletes
// nothing while the volume is full; see FromReserve.
func (sp *Space) Update(ctx context.Context, fn func(Tx) error) error {
	_, err := sp.update(ctx, fn)
	return err
}
