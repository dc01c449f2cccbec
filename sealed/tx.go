package sealed

import (
	"context"

	"github.com/visage-face/visage/sealed/internal/commit"
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
	// use panics when the transaction is over.
	Use()
	Keyring() *keys.Ring
	Get(dst []byte, container, id format.ID) (plaintext []byte, schema byte, err error)
	Has(container, id format.ID) (bool, error)
	Put(container, id format.ID, schema byte, plaintext []byte) error
	Add(container, id format.ID, schema byte, plaintext []byte) error
	Delete(container, id format.ID) error
	// whole prepares a container to be read as a whole.
	Whole(container format.ID) (all *tree.Tx, aside bool, err error)
	Corrupt(what string, container, id format.ID, err error) error
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
