// Package pebble is the storage engine on disk: Pebble, a log-structured merge tree in one directory.
package pebble

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"strings"
	"sync"
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
	// Reserve is how many bytes of the volume are kept for deletions, keys and the engine's own work; see engine.Room.
	// Zero: a share of the volume.
	Reserve uint64
	// Admit looks at the rows of a directory that has some, before anything of it is changed. Its error is Open's. May
	// be nil.
	Admit func(engine.Reader) error
}

// Engine is an open directory. One process at a time can have it open.
type Engine struct {
	db    *pebble.DB
	locks engine.Locks // see docs/decisions/0012
	// held while a batch is applied, after locks: a failure within Pebble leaves its own locks held
	applying sync.Mutex

	gate   engine.Gate
	lock   *pebble.Lock
	disk   *disk
	broken atomic.Pointer[error] // why nothing can be trusted until the directory is reopened
	failed chan struct{}         // closed when broken is set
}

const (
	cacheBytes = 32 << 20 // of blocks of tables; galleries, not this, are what makes searching fast
	blockBytes = 32 << 10 // loading a gallery reads whole ranges; small blocks would mostly cost index
)

// formatVersion is Pebble's own format, of its files. It does not follow the library: raising it makes directories that
// older programs cannot open, so that it rises with format.Store alone. docs/formats/versions.md lists both.
const formatVersion = pebble.FormatValueSeparation

// Open opens the engine's directory, and makes it if it is not there. When somebody else has it open, the error is
// engine.ErrInUse. A directory of a later format is a *format.NewerError, and is left as it is.
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
		// what else a lock can say is that somebody holds it
		return nil, fmt.Errorf("lock %s: %w", cfg.Dir, engine.ErrInUse)
	}
	exists, err := checkMarker(cfg.Dir, cfg.FS)
	if err == nil && exists && cfg.Admit != nil {
		err = admit(cfg, lock)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", cfg.Dir, cause(err)), lock.Close())
	}
	// The memory that takes what is written, and that which is kept for the next, count as part of the cache: on a
	// large volume they would leave nothing of it for blocks, and every look-up would read its block from the file.
	cache := pebble.NewCache(cacheBytes + 2*int64(disk.unit()))
	defer cache.Unref()
	opts := &pebble.Options{
		FS:            cfg.FS,
		Lock:          lock,
		Cache:         cache,
		MemTableSize:  disk.unit(),
		LBaseMaxBytes: 2 * int64(disk.unit()),
		// While compactions have no room, deletions go on; tables that wait for one only make reading slower.
		L0StopWritesThreshold: 1 << 10,
		FormatMajorVersion:    formatVersion,
		Logger:                logger{cfg.Logger},
	}
	if table := int64(disk.unit()) / 4; table < smallTable {
		// On a small volume tables are small throughout: what a compaction writes before it can remove anything has to
		// fit into the reserve.
		for i := range opts.TargetFileSizes {
			opts.TargetFileSizes[i] = table
		}
	}
	for i := range opts.Levels {
		opts.Levels[i].BlockSize = blockBytes
		// most look-ups of a nursery row find none: spare them the block
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	// What is sealed does not compress.
	opts.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	opts.EventListener = listener(cfg)
	opts.EventListener.BackgroundError = disk.failedBehind
	db, err := disk.open(func() (*pebble.DB, error) { return pebble.Open(cfg.Dir, opts) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", cfg.Dir, cause(unopened(err))), lock.Close())
	}
	disk.opened()
	return &Engine{db: db, lock: lock, disk: disk, failed: make(chan struct{})}, nil
}

// Room implements engine.Volume.
func (e *Engine) Room() engine.Room { return e.disk.Room() }

// Recent implements engine.Volume.
func (e *Engine) Recent() engine.Room { return e.disk.Recent() }

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

// fail ends the engine's use. After a failed write of the log, what was applied in memory may not be on the disk, so
// nothing may be answered from it any more.
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

// Read implements engine.Engine.
func (e *Engine) Read(ctx context.Context, fn func(engine.Reader) error) error {
	if err := e.enter(ctx); err != nil {
		return err
	}
	defer e.gate.Leave()
	return fn(reader{e.db})
}

// Update implements engine.Engine.
func (e *Engine) Update(ctx context.Context, fn func(engine.Writer) error) error {
	wait, err := e.commit(ctx, e.locks.LockAll, e.locks.UnlockAll, fn)
	if err != nil {
		return err
	}
	return wait()
}

// Commit implements engine.Engine. The wait for the disk happens outside the lock, so commits that queue up share one
// sync.
func (e *Engine) Commit(
	ctx context.Context, scope format.ID, fn func(engine.Writer) error,
) (wait func() error, err error) {
	lock := func(ctx context.Context) error { return e.locks.Lock(ctx, scope) }
	return e.commit(ctx, lock, func() { e.locks.Unlock(scope) }, fn)
}

func (e *Engine) commit(
	ctx context.Context, lock func(context.Context) error, unlock func(), fn func(engine.Writer) error,
) (wait func() error, err error) {
	if err := e.enter(ctx); err != nil {
		return nil, err
	}
	w := &writer{db: e.db}
	done := func() {
		w.close()
		e.gate.Leave()
	}
	waiting := false
	defer func() {
		if !waiting {
			done()
		}
	}()
	if err := lock(ctx); err != nil {
		return nil, err
	}
	defer unlock()
	e.disk.prepare()
	if err := fn(w); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if w.batch == nil || w.batch.Empty() {
		return func() error { return nil }, nil
	}
	if err := e.apply(w.batch); err != nil {
		return nil, err
	}
	waiting = true
	return func() error {
		defer done()
		if err := w.batch.SyncWait(); err != nil {
			return e.fail(fmt.Errorf("wait for the commit to be durable: %w", err))
		}
		return nil
	}, nil
}

// apply applies a batch, which is durable after SyncWait.
func (e *Engine) apply(batch *pebble.Batch) (err error) {
	e.applying.Lock()
	defer e.applying.Unlock()
	if broken := e.broken.Load(); broken != nil {
		return *broken
	}
	defer func() {
		if r := recover(); r != nil {
			cause, ours := r.(fatal)
			if !ours {
				panic(r)
			}
			err = e.fail(cause.err)
		}
	}()
	if err := e.db.ApplyNoSyncWait(batch, pebble.Sync); err != nil {
		return e.fail(fmt.Errorf("commit: %w", err))
	}
	return nil
}

// Shared implements engine.Engine: one process at a time can have the directory open.
func (e *Engine) Shared() bool { return false }

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
		// What stands in the log alone is not protected to its end: damage there looks like the end. Tables have
		// checksums throughout.
		flushed = e.disk.flush(e.db)
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

// unopened is damaged for the opening of a directory, in which a file that is named by another may be missing or cut.
// Pebble gives these no mark.
func unopened(err error) error {
	if err != nil && (errors.Is(err, os.ErrNotExist) || errors.Is(err, pebble.ErrDBNotPristine) ||
		strings.Contains(err.Error(), "object size mismatch")) {
		return fmt.Errorf("%w: %w", engine.ErrDamaged, oneLine{err})
	}
	return damaged(err)
}

// admit asks cfg.Admit, over the directory opened for reading alone: nothing of it is changed.
func admit(cfg Config, lock *pebble.Lock) error {
	cache := pebble.NewCache(admitCache)
	defer cache.Unref()
	db, err := pebble.Open(cfg.Dir, &pebble.Options{
		FS: cfg.FS, Lock: lock, Cache: cache, ReadOnly: true, FormatMajorVersion: formatVersion,
		Logger: logger{cfg.Logger}, EventListener: listener(cfg),
	})
	if err != nil {
		return unopened(err)
	}
	return errors.Join(cfg.Admit(reader{db}), db.Close())
}

// listener logs damaged tables. Left to itself, Pebble ends the process when it meets one. Whoever reads what is
// damaged hears of it; the rest goes on.
func listener(cfg Config) *pebble.EventListener {
	return &pebble.EventListener{DataCorruption: func(info pebble.DataCorruptionInfo) {
		cfg.Logger.Error("storage engine found damage", "file", info.Path, "err", info.Details.Error())
	}}
}

// admitCache is enough for the few blocks that lead to one row.
const admitCache = 1 << 20

// checkMarker reports whether a directory holds a database. It refuses one that holds logs or tables, and no marker
// that says which manifest names them: Pebble would take it for a new one, and remove all that is there. And it refuses
// one of a later format than ours, though the library may know it.
func checkMarker(dir string, fs vfs.FS) (exists bool, err error) {
	d, err := pebble.Peek(dir, fs)
	if err != nil {
		return false, later(damaged(err))
	}
	if d.Exists {
		if d.FormatMajorVersion > formatVersion {
			return true, newer(uint32(d.FormatMajorVersion))
		}
		return true, nil
	}
	names, err := fs.List(dir)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".log") {
			return false, fmt.Errorf("%w: there is %s, and no marker.manifest file that belongs to it",
				engine.ErrDamaged, name)
		}
	}
	return false, nil
}

// later recognises Pebble's word for a format that the library does not know either. There is no error value for it.
func later(err error) error {
	var number uint32
	_, after, found := strings.Cut(err.Error(), "written in unknown format major version ")
	if _, scanErr := fmt.Sscan(after, &number); !found || scanErr != nil {
		return err
	}
	return newer(number)
}

func newer(number uint32) error {
	return &format.NewerError{What: "store", Of: "Pebble", Format: number, Known: uint32(formatVersion)}
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
		if len(from) == 0 {
			from = nil // no bound; with an empty one, Pebble's own checks in builds with the race detector fail
		}
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

// writer is a transaction. No other transaction writes to what it reads, so it reads the database as it is until it has
// written something itself: only then is its batch indexed. Most transactions read first, and an index costs as much as
// the rest of a batch.
type writer struct {
	db      *pebble.DB
	batch   *pebble.Batch // nil: nothing was written
	indexed bool
}

func (w *writer) reader() (reader, error) {
	if w.batch == nil {
		return reader{w.db}, nil
	}
	if !w.indexed {
		index := w.db.NewIndexedBatch()
		if err := index.Apply(w.batch, nil); err != nil {
			return reader{}, errors.Join(fmt.Errorf("index a batch: %w", err), index.Close())
		}
		plain := w.batch
		w.batch, w.indexed = index, true
		if err := plain.Close(); err != nil {
			return reader{}, fmt.Errorf("close a batch: %w", err)
		}
	}
	return reader{w.batch}, nil
}

func (w *writer) Get(key []byte) ([]byte, bool, error) {
	r, err := w.reader()
	if err != nil {
		return nil, false, err
	}
	return r.Get(key)
}

func (w *writer) Scan(from, to []byte) iter.Seq2[engine.Row, error] {
	r, err := w.reader()
	if err != nil {
		return func(yield func(engine.Row, error) bool) { yield(engine.Row{}, err) }
	}
	return r.Scan(from, to)
}

func (w *writer) Put(key []byte, value format.Sealed) error {
	if len(value.Bytes()) == 0 {
		return engine.ErrUnsealed
	}
	w.begin()
	return w.batch.Set(key, value.Bytes(), nil)
}

func (w *writer) Delete(key []byte) error {
	w.begin()
	return w.batch.Delete(key, nil)
}

func (w *writer) begin() {
	if w.batch == nil {
		w.batch = w.db.NewBatch()
	}
}

// close gives the batch back: one that was applied and synced, or never was.
func (w *writer) close() {
	if w.batch != nil {
		_ = w.batch.Close() // it always returns nil
	}
}

// logger hands what Pebble says to slog. It says nothing of rows but their blinded keys, and those only in errors.
type logger struct{ log *slog.Logger }

func (l logger) Infof(format string, args ...any) {
	l.log.Debug("storage engine", "said", fmt.Sprintf(format, args...))
}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error("storage engine", "said", fmt.Sprintf(format, args...))
}

// fatal is what Fatalf throws. In a goroutine of ours it becomes an error; in one of Pebble's own nobody can catch it
// and the process ends, as it must: Pebble cannot go on and holds its locks. Nothing was acknowledged that is not
// durable, and a restart recovers.
type fatal struct{ err error }

func (f fatal) Error() string { return f.err.Error() }

func (l logger) Fatalf(format string, args ...any) {
	err := fmt.Errorf("storage engine cannot go on: "+format, args...)
	l.log.Error("storage engine cannot go on", "err", err)
	panic(fatal{err})
}
