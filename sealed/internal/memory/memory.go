// Package memory is a storage engine that keeps everything in memory, for tests: it needs no disk and no background
// work.
package memory

import (
	"bytes"
	"context"
	"iter"
	"sync"

	"github.com/tidwall/btree"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keystore"
)

// Engine keeps rows in a tree that is copied on write: a snapshot is a copy of its root. Several engines may be of the
// same rows: see Open.
type Engine struct {
	gate   engine.Gate
	shared bool
	closed func() // gives the rows back; nil: nobody else has them
	*rows
	epochs *keystore.Memory
}

// rows is what one or several engines hold.
type rows struct {
	locks engine.Locks

	mu   sync.Mutex // guards tree
	tree *btree.BTreeG[engine.Row]
}

func newRows() *rows {
	less := func(a, b engine.Row) bool { return bytes.Compare(a.Key, b.Key) < 0 }
	return &rows{tree: btree.NewBTreeGOptions(less, btree.Options{NoLocks: true})}
}

// New returns an empty engine, whose rows nobody else has.
func New() *Engine { return &Engine{rows: newRows(), epochs: &keystore.Memory{}} }

// Shared implements engine.Engine.
func (e *Engine) Shared() bool { return e.shared }

// Epochs returns the epoch keys that belong to the rows. They are forgotten with them.
func (e *Engine) Epochs() *keystore.Memory { return e.epochs }

// View implements engine.Engine.
func (e *Engine) View(ctx context.Context, fn func(engine.Reader) error) error {
	if err := e.gate.Enter(); err != nil {
		return err
	}
	defer e.gate.Leave()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fn(txn{e.snapshot()})
}

// Read implements engine.Engine.
func (e *Engine) Read(ctx context.Context, fn func(engine.Reader) error) error {
	return e.View(ctx, func(engine.Reader) error { return fn(live{e}) })
}

// Update implements engine.Engine.
func (e *Engine) Update(ctx context.Context, fn func(engine.Writer) error) error {
	if err := e.gate.Enter(); err != nil {
		return err
	}
	defer e.gate.Leave()
	if err := e.locks.LockAll(ctx); err != nil {
		return err
	}
	defer e.locks.UnlockAll()
	return e.apply(ctx, fn)
}

// Commit implements engine.Engine.
func (e *Engine) Commit(
	ctx context.Context, scope format.ID, fn func(engine.Writer) error,
) (wait func() error, err error) {
	if err := e.gate.Enter(); err != nil {
		return nil, err
	}
	defer e.gate.Leave()
	if err := e.locks.Lock(ctx, scope); err != nil {
		return nil, err
	}
	defer e.locks.Unlock(scope)
	if err := e.apply(ctx, fn); err != nil {
		return nil, err
	}
	return func() error { return nil }, nil
}

func (e *Engine) apply(ctx context.Context, fn func(engine.Writer) error) error {
	w := &writer{txn: txn{e.snapshot()}}
	if err := fn(w); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, row := range w.written {
		if row.Value == nil {
			e.tree.Delete(row)
		} else {
			e.tree.Set(row)
		}
	}
	return nil
}

// Close implements engine.Engine.
func (e *Engine) Close() error {
	if e.gate.Close() && e.closed != nil {
		e.closed()
	}
	return nil
}

func (r *rows) snapshot() *btree.BTreeG[engine.Row] {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tree.Copy()
}

type txn struct{ rows *btree.BTreeG[engine.Row] }

func (t txn) Get(key []byte) ([]byte, bool, error) {
	row, ok := t.rows.Get(engine.Row{Key: key})
	return row.Value, ok, nil
}

func (t txn) Scan(from, to []byte) iter.Seq2[engine.Row, error] {
	return func(yield func(engine.Row, error) bool) {
		t.rows.Copy().Ascend(engine.Row{Key: from}, func(row engine.Row) bool {
			return (to == nil || bytes.Compare(row.Key, to) < 0) && yield(row, nil)
		})
	}
}

// live reads what is there at the moment.
type live struct{ e *Engine }

func (l live) Get(key []byte) ([]byte, bool, error) { return txn{l.e.snapshot()}.Get(key) }

func (l live) Scan(from, to []byte) iter.Seq2[engine.Row, error] {
	return func(yield func(engine.Row, error) bool) { txn{l.e.snapshot()}.Scan(from, to)(yield) }
}

// writer writes to its snapshot, and notes what is to be written to the rows that others have.
type writer struct {
	txn
	written []engine.Row // without a value: deleted
}

func (w *writer) Put(key []byte, value format.Sealed) error {
	if len(value.Bytes()) == 0 {
		return engine.ErrUnsealed
	}
	row := engine.Row{Key: bytes.Clone(key), Value: value.Bytes()}
	w.rows.Set(row)
	w.written = append(w.written, row)
	return nil
}

func (w *writer) Delete(key []byte) error {
	row := engine.Row{Key: bytes.Clone(key)}
	w.rows.Delete(row)
	w.written = append(w.written, row)
	return nil
}
