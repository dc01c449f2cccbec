// Package pebble is the embedded engine: Pebble, a log-structured merge tree in one directory.
package pebble

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"

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
	// Reserve is how many bytes of the volume are kept for deletions, keys and the engine's own work; see engine.Room. Zero: a share of the volume.
	Reserve uint64
}

// Engine is an open directory. One process at a time can have it open.
type Engine struct {
	db      *pebble.DB
	writing chan struct{} // holds a token while a transaction's function runs; see docs/decisions/0002

	gate   engine.Gate
	lock   *pebble.Lock
	disk   *disk
	broken atomic.Pointer[error] // why nothing can be trusted until the directory is opened anew
	failed chan struct{}         // closed when broken is set
}

const (
	cacheBytes = 64 << 20 // of decoded blocks; galleries, not this, are what makes searching fast
	blockBytes = 32 << 10 // loading a gallery reads whole ranges; small blocks would mostly cost index
)

// Open opens the engine's directory, and makes it if it is not there. When somebody else has it open, the error is engine.ErrInUse.
func Open(cfg Config) (*Engine, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.FS == nil {
		fs, err := openPrivate(cfg.Dir)
		if err != nil {
			return nil, cause(err)
		}
		cfg.FS = fs
	} else if err := cfg.FS.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", cause(err))
	}
	disk := newDisk(cfg)
	cfg.FS = disk.guarded()
	lock, err := pebble.LockDirectory(cfg.Dir, cfg.FS)
	if err != nil {
		if _, file := errors.AsType[*os.PathError](err); file {
			return nil, fmt.Errorf("lock %s: %w", cfg.Dir, cause(err))
		}
		return nil, fmt.Errorf("lock %s: %w", cfg.Dir, engine.ErrInUse) // what else a lock can say is that somebody holds it
	}
	if err := checkMarker(cfg.Dir, cfg.FS); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", cfg.Dir, cause(err)), lock.Close())
	}
	cache := pebble.NewCache(cacheBytes)
	defer cache.Unref()
	opts := &pebble.Options{
		FS:            cfg.FS,
		Lock:          lock,
		Cache:         cache,
		MemTableSize:  disk.unit(),
		LBaseMaxBytes: 2 * int64(disk.unit()),
		// While compactions have no room, deletions go on; tables that wait for one only make reading slower.
		L0StopWritesThreshold: 1 << 10,
		FormatMajorVersion:    pebble.FormatNewest,
		Logger:                logger{cfg.Logger},
	}
	if table := int64(disk.unit()) / 4; table < smallTable {
		// On a small volume tables are small throughout: what a compaction writes before it can remove anything has to fit into the reserve.
		for i := range opts.TargetFileSizes {
			opts.TargetFileSizes[i] = table
		}
	}
	for i := range opts.Levels {
		opts.Levels[i].BlockSize = blockBytes
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // most look-ups of a nursery row find none: spare them the block
	}
	// What is sealed does not compress.
	opts.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	// Left to itself, Pebble ends the process when a compaction meets a damaged table. Whoever reads what is damaged hears of it; the rest goes on.
	opts.EventListener = &pebble.EventListener{
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			cfg.Logger.Error("storage engine found damage", "file", info.Path, "err", info.Details)
		},
		BackgroundError: disk.failedBehind,
	}
	db, err := disk.open(func() (*pebble.DB, error) { return pebble.Open(cfg.Dir, opts) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", cfg.Dir, cause(unopened(err))), lock.Close())
	}
	disk.opened()
	return &Engine{db: db, lock: lock, writing: make(chan struct{}, 1), disk: disk, failed: make(chan struct{})}, nil
}

// Room implements engine.Volume.
func (e *Engine) Room() engine.Room { return e.disk.Room() }

// Tend implements engine.Volume.
func (e *Engine) Tend() { e.disk.Tend() }

// Broken implements engine.Volume.
func (e *Engine) Broken() <-chan struct{} { return e.failed }

// enter lets a transaction in.
func (e *Engine) enter(ctx context.Context) error {
	if err := e.gate.Enter(); err != nil {
		return err
	}
	var err error
	if broken := e.broken.Load(); broken != nil {
		err = *broken
	} else if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		e.gate.Leave()
	}
	return err
}

// fail ends the engine's use. After a failed write of the log, what was applied in memory may not be on the disk, so nothing may be answered from
// it any more.
func (e *Engine) fail(err error) error {
	err = fmt.Errorf("%w: %w", engine.ErrBroken, cause(err))
	if e.broken.CompareAndSwap(nil, &err) {
		close(e.failed)
	}
	return err
}

// View implements engine.Engine.
func (e *Engine) View(ctx context.Context, fn func(engine.Reader) error) (err error) {
	if err := e.enter(ctx); err != nil {
		return err
	}
	defer e.gate.Leave()
	snap := e.db.NewSnapshot()
	defer func() {
		if closeErr := snap.Close(); err == nil {
			err = closeErr
		}
	}()
	return fn(reader{snap})
}

// Update implements engine.Engine. The wait for the disk happens outside the writers' lock, so commits that queue up share one sync.
func (e *Engine) Update(ctx context.Context, fn func(engine.Writer) error) error {
	if err := e.enter(ctx); err != nil {
		return err
	}
	defer e.gate.Leave()
	e.disk.prepare()
	batch := e.db.NewIndexedBatch()
	defer batch.Close() // of a batch that was applied and synced, or never was
	wait, err := e.apply(ctx, batch, fn)
	if err != nil || !wait {
		return err
	}
	if err := batch.SyncWait(); err != nil {
		return e.fail(fmt.Errorf("wait for the commit to be durable: %w", err))
	}
	return nil
}

// apply runs fn and applies what it wrote, under the writers' lock. It reports whether there is something to wait for.
func (e *Engine) apply(ctx context.Context, batch *pebble.Batch, fn func(engine.Writer) error) (wait bool, err error) {
	select {
	case e.writing <- struct{}{}:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	defer func() { <-e.writing }()
	if broken := e.broken.Load(); broken != nil {
		return false, *broken
	}
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
	defer func() {
		if r := recover(); r != nil {
			cause, ours := r.(fatal)
			if !ours {
				panic(r)
			}
			wait, err = false, e.fail(cause.err)
		}
	}()
	if err := e.db.ApplyNoSyncWait(batch, pebble.Sync); err != nil {
		return false, e.fail(fmt.Errorf("commit: %w", err))
	}
	return true, nil
}

// Close implements engine.Engine.
func (e *Engine) Close() (err error) {
	if !e.gate.Close() {
		return nil
	}
	defer func() {
		if r := recover(); r != nil { // so Pebble says that its disk failed
			err = fmt.Errorf("close the storage engine: %v", r)
		}
	}()
	var flushed error
	if e.broken.Load() == nil {
		// What stands in the log alone is not protected to its end: damage there looks like the end. Tables have checksums throughout.
		flushed = e.db.Flush()
	}
	return errors.Join(flushed, e.db.Close(), e.lock.Close())
}

// damaged tells a failed checksum from other failures.
func damaged(err error) error {
	if pebble.IsCorruptionError(err) { // errors.Is does not see the mark that Pebble uses
		return fmt.Errorf("%w: %w", engine.ErrDamaged, oneLine{err})
	}
	return err
}

// unopened is damaged for the opening of a directory, in which a file that is named by another may be missing or cut. Pebble gives these no mark.
func unopened(err error) error {
	if err != nil && (errors.Is(err, os.ErrNotExist) || errors.Is(err, pebble.ErrDBNotPristine) || strings.Contains(err.Error(), "object size mismatch")) {
		return fmt.Errorf("%w: %w", engine.ErrDamaged, oneLine{err})
	}
	return damaged(err)
}

// checkMarker refuses a directory that holds logs or tables, and no marker that says which manifest names them: Pebble would take it for a new one, and
// remove all that is there.
func checkMarker(dir string, fs vfs.FS) error {
	d, err := pebble.Peek(dir, fs)
	if err != nil || d.Exists {
		return damaged(err)
	}
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".log") {
			return fmt.Errorf("%w: there is %s, and no marker.manifest file that belongs to it", engine.ErrDamaged, name)
		}
	}
	return nil
}

// oneLine is an error without the further lines that Pebble adds to its own.
type oneLine struct{ error }

func (e oneLine) Error() string {
	first, _, _ := strings.Cut(e.error.Error(), "\n")
	return first
}

func (e oneLine) Unwrap() error { return e.error }

// reader reads from a snapshot, or from a batch over the database.
type reader struct{ src pebble.Reader }

func (r reader) Get(key []byte) ([]byte, bool, error) {
	value, closer, err := r.src.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read a row: %w", damaged(err))
	}
	out := append([]byte(nil), value...)
	return out, true, closer.Close()
}

func (r reader) Scan(from, to []byte) iter.Seq2[engine.Row, error] {
	return func(yield func(engine.Row, error) bool) {
		it, err := r.src.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
		if err != nil {
			yield(engine.Row{}, fmt.Errorf("scan rows: %w", damaged(err)))
			return
		}
		defer it.Close()
		for ok := it.First(); ok; ok = it.Next() {
			value, err := it.ValueAndErr()
			if err != nil {
				yield(engine.Row{}, fmt.Errorf("scan rows: %w", damaged(err)))
				return
			}
			if !yield(engine.Row{Key: it.Key(), Value: value}, nil) {
				return
			}
		}
		if err := it.Error(); err != nil {
			yield(engine.Row{}, fmt.Errorf("scan rows: %w", damaged(err)))
		}
	}
}

type writer struct {
	reader
	batch *pebble.Batch
}

func (w writer) Put(key []byte, value format.Sealed) error {
	if len(value.Bytes()) == 0 {
		return engine.ErrUnsealed
	}
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

// fatal is what Fatalf throws. In a goroutine of ours it becomes an error; in one of Pebble's own nobody can catch it and the process ends, as it
// must: Pebble cannot go on and holds its locks. Nothing was acknowledged that is not durable, and a restart recovers.
type fatal struct{ err error }

func (f fatal) Error() string { return f.err.Error() }

func (l logger) Fatalf(format string, args ...any) {
	err := fmt.Errorf("storage engine cannot go on: "+format, args...)
	l.log.Error("storage engine cannot go on", "err", err)
	panic(fatal{err})
}
