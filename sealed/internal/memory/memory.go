// Package memory is an engine that forgets: for tests, which want neither a disk nor background work.
package memory

import (
	"bytes"
	"context"
	"iter"
	"sync"

	"github.com/tidwall/btree"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
)

// Engine keeps rows in a tree that is copied on write: a snapshot is a copy of its root.
type Engine struct {
	writing chan struct{} // holds a token while a transaction runs

	gate engine.Gate

	mu   sync.Mutex // guards all below
	rows *btree.BTreeG[engine.Row]
}

// New returns an empty engine.
func New() *Engine {
	less := func(a, b engine.Row) bool { return bytes.Compare(a.Key, b.Key) < 0 }
	return &Engine{
		writing: make(chan struct{}, 1),
		rows:    btree.NewBTreeGOptions(less, btree.Options{NoLocks: true}),
	}
}

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

// Update implements engine.Engine.
func (e *Engine) Update(ctx context.Context, fn func(engine.Writer) error) error {
	if err := e.gate.Enter(); err != nil {
		return err
	}
	defer e.gate.Leave()
	select {
	case e.writing <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-e.writing }()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	rows := e.snapshot()
	if err := fn(txn{rows}); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rows = rows
	return nil
}

// Close implements engine.Engine.
func (e *Engine) Close() error {
	e.gate.Close()
	return nil
}

func (e *Engine) snapshot() *btree.BTreeG[engine.Row] {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rows.Copy()
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

func (t txn) Put(key []byte, value format.Sealed) error {
	if len(value.Bytes()) == 0 {
		return engine.ErrUnsealed
	}
	t.rows.Set(engine.Row{Key: bytes.Clone(key), Value: value.Bytes()})
	return nil
}

func (t txn) Delete(key []byte) error {
	t.rows.Delete(engine.Row{Key: key})
	return nil
}
