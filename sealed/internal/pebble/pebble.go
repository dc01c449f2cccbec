// Package pebble is the embedded engine: Pebble, a log-structured merge tree in one directory.
package pebble

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
)

// Config says where and how the engine keeps its files.
type Config struct {
	Dir    string
	FS     vfs.FS       // nil: the operating system's
	Logger *slog.Logger // nil: silent
}

// Engine is an open directory. One process at a time can have it open.
type Engine struct {
	db      *pebble.DB
	writing chan struct{} // holds a token while a transaction's function runs; see docs/decisions/0002

	mu     sync.RWMutex // held for reading by everything that uses db; guards closed
	closed bool
}

const (
	cacheBytes    = 64 << 20 // of decoded blocks; galleries, not this, are what makes searching fast
	memTableBytes = 32 << 20
	blockBytes    = 32 << 10 // loading a gallery reads whole ranges; small blocks would mostly cost index
)

// Open opens the engine's directory, and makes it if it is not there.
func Open(cfg Config) (*Engine, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cache := pebble.NewCache(cacheBytes)
	defer cache.Unref()
	opts := &pebble.Options{
		FS:                 cfg.FS,
		Cache:              cache,
		MemTableSize:       memTableBytes,
		FormatMajorVersion: pebble.FormatNewest,
		Logger:             logger{cfg.Logger},
	}
	for i := range opts.Levels {
		opts.Levels[i].BlockSize = blockBytes
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // most look-ups of a nursery row find none: spare them the block
	}
	// What is sealed does not compress.
	opts.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	db, err := pebble.Open(cfg.Dir, opts)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", cfg.Dir, err)
	}
	return &Engine{db: db, writing: make(chan struct{}, 1)}, nil
}

// View implements engine.Engine.
func (e *Engine) View(ctx context.Context, fn func(engine.Reader) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return engine.ErrClosed
	}
	snap := e.db.NewSnapshot()
	defer snap.Close()
	return fn(reader{snap})
}

// Update implements engine.Engine. The wait for the disk happens outside the writers' lock, so commits that queue up share one sync.
func (e *Engine) Update(ctx context.Context, fn func(engine.Writer) error) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return engine.ErrClosed
	}
	batch := e.db.NewIndexedBatch()
	defer batch.Close()
	wait, err := e.apply(ctx, batch, fn)
	if err != nil || !wait {
		return err
	}
	if err := batch.SyncWait(); err != nil {
		return fmt.Errorf("wait for the commit to be durable: %w", err)
	}
	return nil
}

// apply runs fn and applies what it wrote, under the writers' lock. It reports whether there is something to wait for.
func (e *Engine) apply(ctx context.Context, batch *pebble.Batch, fn func(engine.Writer) error) (bool, error) {
	select {
	case e.writing <- struct{}{}:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	defer func() { <-e.writing }()
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err := fn(writer{reader{batch}, batch}); err != nil {
		return false, err
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if batch.Empty() {
		return false, nil
	}
	if err := e.db.ApplyNoSyncWait(batch, pebble.Sync); err != nil {
		return false, fmt.Errorf("commit: %w", err)
	}
	return true, nil
}

// Close implements engine.Engine.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	return e.db.Close()
}

// reader reads from a snapshot, or from a batch over the database.
type reader struct{ src pebble.Reader }

func (r reader) Get(key []byte) ([]byte, bool, error) {
	value, closer, err := r.src.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read a row: %w", err)
	}
	out := append([]byte(nil), value...)
	return out, true, closer.Close()
}

func (r reader) Scan(from, to []byte) iter.Seq2[engine.Row, error] {
	return func(yield func(engine.Row, error) bool) {
		it, err := r.src.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
		if err != nil {
			yield(engine.Row{}, fmt.Errorf("scan rows: %w", err))
			return
		}
		defer it.Close()
		for ok := it.First(); ok; ok = it.Next() {
			value, err := it.ValueAndErr()
			if err != nil {
				yield(engine.Row{}, fmt.Errorf("scan rows: %w", err))
				return
			}
			if !yield(engine.Row{Key: it.Key(), Value: value}, nil) {
				return
			}
		}
		if err := it.Error(); err != nil {
			yield(engine.Row{}, fmt.Errorf("scan rows: %w", err))
		}
	}
}

type writer struct {
	reader
	batch *pebble.Batch
}

func (w writer) Put(key []byte, value format.Sealed) error {
	return w.batch.Set(key, value.Bytes(), nil)
}

func (w writer) Delete(key []byte) error { return w.batch.Delete(key, nil) }

// logger hands what Pebble says to slog. It says nothing of rows but their blinded keys, and those only in errors.
type logger struct{ log *slog.Logger }

func (l logger) Infof(format string, args ...any) {
	l.log.Debug("storage engine", "said", fmt.Sprintf(format, args...))
}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error("storage engine", "said", fmt.Sprintf(format, args...))
}

// Fatalf is called when Pebble cannot go on, for example because its log cannot be written. Nothing was acknowledged that is not durable; the
// process must end, and a restart recovers.
func (l logger) Fatalf(format string, args ...any) {
	l.log.Error("storage engine cannot go on", "said", fmt.Sprintf(format, args...))
	panic("storage engine cannot go on: " + fmt.Sprintf(format, args...))
}
