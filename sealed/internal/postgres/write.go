package postgres

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tidwall/btree"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
)

// The statements that write. Locks of tables come before the first statement that has a snapshot: whoever waited for
// one then sees what the others wrote, and does not conflict with it.
const (
	beginSerial = "BEGIN ISOLATION LEVEL SERIALIZABLE"
	lockOne     = "LOCK TABLE visage.scopes IN ROW EXCLUSIVE MODE"
	lockAll     = "LOCK TABLE visage.scopes IN EXCLUSIVE MODE"

	// the version of a scope counts its commits; the writer tells which of several that found the same version it was
	claimScope = `INSERT INTO visage.scopes AS s (scope, version, writer) VALUES ($1, 1, $2)
		ON CONFLICT (scope) DO UPDATE SET version = s.version + 1, writer = excluded.writer RETURNING version`
	// waits for a transaction that holds the row, and changes nothing
	lookAtScope = `INSERT INTO visage.scopes AS s (scope, version, writer) VALUES ($1, 0, '')
		ON CONFLICT (scope) DO UPDATE SET version = s.version RETURNING version, writer`

	putRows = `INSERT INTO visage.rows (key, value) SELECT * FROM unnest($1::bytea[], $2::bytea[])
		ON CONFLICT (key) DO UPDATE SET value = excluded.value`
	deleteRows = "DELETE FROM visage.rows WHERE key = ANY($1::bytea[])"
)

// What one statement writes at most.
const (
	statementRows  = 4096
	statementBytes = 4 << 20
)

// Update implements engine.Engine.
func (e *Engine) Update(ctx context.Context, fn func(engine.Writer) error) error {
	return e.write(ctx, &writer{all: true}, fn)
}

// Freeze implements engine.Freezer.
func (e *Engine) Freeze(ctx context.Context, fn func(engine.Reader) error) error {
	return e.write(ctx, &writer{all: true, idles: true}, func(w engine.Writer) error { return fn(w) })
}

// Commit implements engine.Engine. What it wrote is durable when it returns.
func (e *Engine) Commit(
	ctx context.Context, scope format.ID, fn func(engine.Writer) error,
) (wait func() error, err error) {
	if err := e.write(ctx, &writer{scope: scope}, fn); err != nil {
		return nil, err
	}
	return func() error { return nil }, nil
}

// write runs a transaction of one scope, or of all; then the row of the zero scope is its own.
func (e *Engine) write(ctx context.Context, as *writer, fn func(engine.Writer) error) error {
	if err := e.enter(ctx); err != nil {
		return err
	}
	defer e.gate.Leave()
	// Within the process, those that exclude each other wait here, in the order in which they came.
	if as.all {
		if err := e.locks.LockAll(ctx); err != nil {
			return err
		}
		defer e.locks.UnlockAll()
	} else {
		if err := e.locks.Lock(ctx, as.scope); err != nil {
			return err
		}
		defer e.locks.Unlock(as.scope)
	}
	if err := e.slot(ctx, e.writers, errBusy); err != nil {
		return err
	}
	defer func() { <-e.writers }()
	return e.again(ctx, func() error {
		w := &writer{e: e, ctx: ctx, scope: as.scope, all: as.all, idles: as.idles}
		return w.transact(fn)
	})
}

// writer is a transaction. What it writes stays here until the commit.
type writer struct {
	e     *Engine
	ctx   context.Context
	conn  *pgxpool.Conn
	scope format.ID
	all   bool
	idles bool // it may do nothing for as long as it likes

	version int64  // that the scope has when this is committed
	token   []byte // that the scope's row has then
	lost    error  // why the transaction cannot be committed any more
	written *btree.BTreeG[engine.Row]
	ahead   prefetched
}

// transact runs the transaction once.
func (w *writer) transact(fn func(engine.Writer) error) (err error) {
	if w.conn, err = w.e.acquire(w.ctx); err != nil {
		return err
	}
	released := false
	defer func() {
		if !released {
			finish(w.conn)
		}
	}()
	if err := w.begin(); err != nil {
		return err
	}
	if err := fn(w); err != nil {
		if w.lost != nil { // whatever fn made of it
			return w.lost
		}
		return err
	}
	switch {
	case w.ctx.Err() != nil:
		return context.Cause(w.ctx)
	case w.lost != nil:
		return w.lost
	case w.written == nil || w.written.Len() == 0:
		return nil
	}
	begun := time.Now()
	err = w.commit()
	w.e.stats.waited.Add(int64(time.Since(begun)))
	if err == nil {
		w.e.stats.commits.Add(1)
	}
	released = err == nil
	if released {
		w.conn.Release()
	}
	if err == nil || definite(err) {
		return cause(err)
	}
	return w.settle(err)
}

// begin begins the transaction and claims the scope, in one round trip.
func (w *writer) begin() error {
	w.token = make([]byte, 16)
	_, _ = rand.Read(w.token) // it never fails
	b := &pgx.Batch{}
	b.Queue(beginSerial)
	if w.all {
		b.Queue(lockAll)
	} else {
		b.Queue(lockOne)
	}
	if w.idles {
		b.Queue(mayIdle)
	}
	b.Queue(claimScope, w.scope[:], w.token)
	ctx, stop := w.e.bound(w.ctx)
	defer stop()
	results := w.conn.SendBatch(ctx, b)
	var err error
	for n := b.Len() - 1; n > 0 && err == nil; n-- {
		_, err = results.Exec()
	}
	if err == nil {
		err = results.QueryRow().Scan(&w.version)
	}
	if closed := results.Close(); err == nil {
		err = closed
	}
	if err = failed(w.ctx, err); errors.Is(err, errConflict) {
		return errOutrun
	}
	return err
}

// commit sends what was written, and commits it, in one round trip. ctx is not looked at any more.
func (w *writer) commit() error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(w.ctx), commitTimeout)
	defer stop()
	b := &pgx.Batch{}
	var puts, values, deletes [][]byte
	size := 0
	flush := func() {
		if len(puts) > 0 {
			b.Queue(putRows, puts, values)
		}
		if len(deletes) > 0 {
			b.Queue(deleteRows, deletes)
		}
		puts, values, deletes, size = nil, nil, nil, 0
	}
	w.written.Scan(func(row engine.Row) bool {
		if row.Value == nil {
			deletes = append(deletes, row.Key)
		} else {
			puts, values = append(puts, row.Key), append(values, row.Value)
		}
		if size += len(row.Key) + len(row.Value); size >= statementBytes || len(puts)+len(deletes) >= statementRows {
			flush()
		}
		return true
	})
	flush()
	b.Queue("COMMIT")
	results := w.conn.SendBatch(ctx, b)
	var err error
	for n := b.Len(); n > 0 && err == nil; n-- {
		_, err = results.Exec()
	}
	if closed := results.Close(); err == nil {
		err = closed
	}
	return err
}

// settle finds out what became of a commit whose answer was lost. Whoever held the scope before has ended when its row
// can be locked; then the row tells. It returns nil when the transaction was committed, errLost, which lets it run
// again, when it was not, and errUnknown when somebody else has committed since or the database does not come back.
func (w *writer) settle(lost error) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(w.ctx), w.e.patience)
	defer stop()
	var version int64
	var writer []byte
	err := w.e.again(ctx, func() error {
		conn, err := w.e.acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		return cause(conn.QueryRow(ctx, lookAtScope, w.scope[:]).Scan(&version, &writer))
	})
	switch {
	case err != nil:
	case version == w.version && bytes.Equal(writer, w.token):
		w.e.stats.commits.Add(1)
		return nil
	case version <= w.version:
		return outage(fmt.Errorf("%w: %w", errLostBy, lost))
	}
	w.e.stats.unknown.Add(1)
	// In words alone: by the class of one of the two, the transaction would run again.
	return outage(fmt.Errorf("%w: %v", errUnknown, errors.Join(lost, err)))
}

func (w *writer) query(sql string, args []any, collect func(pgx.Rows) error) error {
	if w.lost != nil {
		return w.lost
	}
	w.lost = failed(w.ctx, w.e.run(w.ctx, w.conn, sql, args, collect))
	return w.lost
}

// Get implements engine.Reader.
func (w *writer) Get(key []byte) ([]byte, bool, error) {
	if w.written != nil {
		if row, ok := w.written.Get(engine.Row{Key: key}); ok {
			return row.Value, row.Value != nil, nil
		}
	}
	return reader{w}.Get(key)
}

func (w *writer) state() (*prefetched, *Engine, context.Context, *error) {
	return &w.ahead, w.e, w.ctx, &w.lost
}

// Prefetch reads rows of the database in one round trip.
func (w *writer) Prefetch(keys ...[]byte) { reader{w}.Prefetch(keys...) }

// Scan implements engine.Reader. The rows of the database do not change before the commit, and what was written is a
// copy from when the loop began.
func (w *writer) Scan(from, to []byte) iter.Seq2[engine.Row, error] {
	return func(yield func(engine.Row, error) bool) {
		stored := reader{w}.Scan(from, to)
		if w.written == nil || w.written.Len() == 0 {
			stored(yield)
			return
		}
		merge(stored, w.written.Copy(), from, to, yield)
	}
}

// merge yields rows with those over them that were written since.
func merge(
	stored iter.Seq2[engine.Row, error], written *btree.BTreeG[engine.Row], from, to []byte,
	yield func(engine.Row, error) bool,
) {
	over := written.Iter()
	defer over.Release()
	more := over.Seek(engine.Row{Key: from})
	more = more && (to == nil || bytes.Compare(over.Item().Key, to) < 0)
	next := func() {
		more = over.Next() && (to == nil || bytes.Compare(over.Item().Key, to) < 0)
	}
	for row, err := range stored {
		if err != nil {
			yield(row, err)
			return
		}
		replaced := false
		for more && !replaced {
			at := bytes.Compare(over.Item().Key, row.Key)
			if at > 0 {
				break
			}
			if item := over.Item(); item.Value != nil && !yield(item, nil) {
				return
			}
			replaced = at == 0
			next()
		}
		if !replaced && !yield(row, nil) {
			return
		}
	}
	for ; more; next() {
		if item := over.Item(); item.Value != nil && !yield(item, nil) {
			return
		}
	}
}

// Put implements engine.Writer.
func (w *writer) Put(key []byte, value format.Sealed) error {
	if len(value.Bytes()) == 0 {
		return engine.ErrUnsealed
	}
	w.note(engine.Row{Key: bytes.Clone(key), Value: value.Bytes()})
	return nil
}

// Delete implements engine.Writer.
func (w *writer) Delete(key []byte) error {
	w.note(engine.Row{Key: bytes.Clone(key)})
	return nil
}

// note keeps a row that is to be written; without a value it is to be deleted.
func (w *writer) note(row engine.Row) {
	if w.written == nil {
		less := func(a, b engine.Row) bool { return bytes.Compare(a.Key, b.Key) < 0 }
		w.written = btree.NewBTreeGOptions(less, btree.Options{NoLocks: true})
	}
	w.written.Set(row)
}
