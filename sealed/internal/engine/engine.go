// Package engine defines what sealed needs of a storage engine: ordered bytes, serial transactions and durable commits.
// An engine stores only what the format package sealed, and sees only blinded keys.
package engine

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/visage-face/visage/sealed/internal/format"
)

// What an engine says in words of its own; every other error is a failure of the machine below it.
var (
	ErrClosed   = errors.New("the storage engine is closed")
	ErrInUse    = errors.New("the data directory is in use by another process")
	ErrDamaged  = errors.New("the storage engine's own files are damaged")
	ErrUnsealed = errors.New("refused to store what is not sealed")
	// ErrUnavailable: the database does not answer now, and may later; nothing was done
	ErrUnavailable = errors.New("the database does not answer")
	ErrReadOnly    = errors.New("the database is read-only")
	// Open: there is too little room to open what is there
	ErrFull   = errors.New("the disk is full")
	ErrBroken = errors.New("the disk failed, and the store must be opened anew") // nothing is answered any more
)

// RowError is an ErrDamaged of the row at Key, which need not be the one that was asked for.
type RowError struct {
	Key []byte
	Err error
}

// Error says what the engine says.
func (e *RowError) Error() string { return e.Err.Error() }

// Unwrap returns what the engine says.
func (e *RowError) Unwrap() error { return e.Err }

// Room is what the volume of an engine has left, in bytes. What is not known is zero, save for Free, which then is
// without bound.
type Room struct {
	Free    uint64 // what may be used, with what is kept in reserve
	Total   uint64
	Reserve uint64 // what is to be left for deletions, keys and the engine's own work
}

// Volume is an engine that lives on a volume which can be full.
type Volume interface {
	// Room looks at the volume.
	Room() Room
	// Recent is Room, and cheap enough for every transaction: while there is plenty of room, what it says may be some
	// milliseconds old.
	Recent() Room
	// Tend takes what is kept in reserve back into keeping once there is room again. It is called now and then.
	Tend()
	// Broken is closed when the disk has failed: see ErrBroken.
	Broken() <-chan struct{}
}

// Engine stores rows. All methods may be called at the same time.
//
// A scope is the rows whose keys begin with an id. What is of one scope alone does not wait for what is of others.
//
// Where processes share the rows, a transaction that writes excludes those of other processes as it does those of its
// own. It may be found out only while it reads, or at its commit, that it does not: whatever its function returns then,
// even the error of a read, it runs again, or the transaction fails.
type Engine interface {
	// View runs fn on a snapshot: what was committed at one moment, between the beginning of View and its first read.
	View(ctx context.Context, fn func(Reader) error) error

	// Read runs fn on rows as they are at each moment, which costs less than a snapshot. The caller keeps others from
	// writing to what fn reads, which nobody can who shares them.
	Read(ctx context.Context, fn func(Reader) error) error

	// Commit runs fn as a transaction that writes rows of one scope alone: no other one of the scope, and no Update,
	// runs meanwhile. Rows of other scopes it may read as they were committed at one moment since it began. When it
	// returns nil, everybody sees what fn wrote, and wait says when that is durable. wait must be called once, on any
	// goroutine; the engine does not close before. Else it is as Update.
	Commit(ctx context.Context, scope format.ID, fn func(Writer) error) (wait func() error, err error)

	// Update runs fn as a transaction: alone, or as if alone. When it returns nil, all of fn's writes are durable; when
	// fn or ctx ends it with an error, none of them happens. An error of the commit itself leaves open which of the two
	// it is. fn may run more than once before the commit, so it must not keep what it read in an earlier run. ctx is
	// not looked at once the commit has begun.
	Update(ctx context.Context, fn func(Writer) error) error

	// Shared reports whether other processes may have the same rows open: what this one does not write can change too.
	Shared() bool

	// Close waits for running transactions and gives back what the engine holds. Only the first call does anything.
	Close() error
}

// Clock is an engine whose server, on another machine maybe, has a clock.
type Clock interface {
	// Now returns what it shows, at some moment of the call.
	Now(ctx context.Context) (time.Time, error)
}

// Reader reads rows. It is valid until the function it was passed to returns, and for one goroutine.
type Reader interface {
	// Get returns the value at key, and whether there is one. The caller must not change it, and may keep it only until
	// the function returns.
	Get(key []byte) (value []byte, ok bool, err error)

	// Scan yields the rows from from (inclusive) to to (exclusive; nil means to the end) in the order of their keys, as
	// they were when the loop began. A row's slices are valid until the next one is yielded. After an error the scan
	// has ended.
	Scan(from, to []byte) iter.Seq2[Row, error]
}

// prefetcher is a Reader for which several rows cost hardly more than one.
type prefetcher interface{ Prefetch(keys ...[]byte) }

// within is a Reader that reads from another one.
type within interface{ Within() Reader }

// Prefetcher returns what reads rows together that a Reader is about to Get; what fails then fails with these. It
// returns nil where that would gain nothing. The function is valid for as long as the Reader.
func Prefetcher(r Reader) func(keys ...[]byte) {
	for {
		switch now := r.(type) {
		case prefetcher:
			return now.Prefetch
		case within:
			r = now.Within()
		default:
			return nil
		}
	}
}

// Row is a key and its value.
type Row struct{ Key, Value []byte }

// Writer reads and writes rows; it reads its own writes. The engine copies keys.
type Writer interface {
	Reader
	Put(key []byte, value format.Sealed) error // the zero value: ErrUnsealed
	Delete(key []byte) error                   // of a key that has no row: no error
}

// Batch is rows to be written. Keys and Values are equally many.
type Batch struct {
	Keys   [][]byte
	Values []format.Sealed
}

// Loader is an engine that writes many new rows faster than an Update does.
type Loader interface {
	// Load writes rows, none of which is there, all or nothing. They are durable when it returns nil. An error leaves
	// open whether they were written.
	Load(ctx context.Context, rows Batch) error
}

// Freezer is an engine that ends a transaction which writes when nothing happens in it for seconds.
type Freezer interface {
	// Freeze runs fn, which may take its time, on the rows as they are, while no other transaction writes.
	Freeze(ctx context.Context, fn func(Reader) error) error
}

// CommitAndWait is Commit, and returns when what fn wrote is durable.
func CommitAndWait(ctx context.Context, e Engine, scope format.ID, fn func(Writer) error) error {
	wait, err := e.Commit(ctx, scope, fn)
	if err != nil {
		return err
	}
	return wait()
}
