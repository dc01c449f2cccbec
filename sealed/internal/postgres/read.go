package postgres

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/visage-face/visage/sealed/internal/engine"
)

// The statements that read. A scan is pages of rows, each with a statement of its own: no cursor is open between them,
// so that whoever scans may read other rows meanwhile.
const (
	getRow   = "SELECT value FROM visage.rows WHERE key = $1"
	getRows  = "SELECT key, value FROM visage.rows WHERE key = ANY($1::bytea[])"
	pageTo   = "SELECT key, value FROM visage.rows WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3"
	pageRest = "SELECT key, value FROM visage.rows WHERE key >= $1 ORDER BY key LIMIT $2"
)

// The statements that begin a snapshot. It may idle: what is done with its rows, such as a backup to a slow disk, takes
// as long as it takes, and it holds no lock that a writer waits for.
const (
	beginView = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
	mayIdle   = "SET LOCAL idle_in_transaction_session_timeout = 0"
	idleView  = "SELECT pg_is_in_recovery(), set_config('idle_in_transaction_session_timeout', '0', true)"
)

// isStandby tells whether a session is one of a standby, which reads what was there some time ago. No session of
// PostgreSQL becomes one, and connecting refuses those that are; but a pooler that sends reads to standbys may change
// the server behind a connection. So each first read asks as well, in its own round trip.
const isStandby = "SELECT pg_is_in_recovery()"

// The first page of a scan is small, as most scans end in it. Later ones grow until they hold about pageBytes.
const (
	firstPage = 32
	lastPage  = 8192
	pageBytes = 2 << 20
)

// source runs a statement that reads, and gives its rows to collect.
type source interface {
	query(sql string, args []any, collect func(pgx.Rows) error) error
}

// View implements engine.Engine. The transaction begins together with its first read.
func (e *Engine) View(ctx context.Context, fn func(engine.Reader) error) error {
	if err := e.enter(ctx); err != nil {
		return err
	}
	v := &view{e: e, ctx: ctx}
	defer v.end()
	return fn(reader{v})
}

// view is a snapshot. It has a connection from its first read on.
type view struct {
	e     *Engine
	ctx   context.Context
	conn  *pgxpool.Conn // nil: nothing was read yet
	err   error         // why the snapshot is lost
	ahead prefetched

	helpers sync.WaitGroup // those who read parts of scans
}

func (v *view) end() {
	if v.conn == nil {
		v.e.gate.Leave()
		return
	}
	go func() { // nobody waits for the end of a snapshot, save Close
		v.helpers.Wait()
		finish(v.conn)
		<-v.e.views
		v.e.gate.Leave()
	}()
}

func (v *view) query(sql string, args []any, collect func(pgx.Rows) error) error {
	if v.err != nil {
		return v.err
	}
	if v.conn == nil {
		v.err = v.begin(sql, args, collect)
	} else {
		v.err = failed(v.ctx, v.e.run(v.ctx, v.conn, sql, args, collect))
	}
	return v.err
}

// begin begins the snapshot and reads for the first time, in one round trip. Until that succeeds it runs again when the
// database was lost, as after a restart.
func (v *view) begin(sql string, args []any, collect func(pgx.Rows) error) error {
	if err := v.e.slot(v.ctx, v.e.views, errBusy); err != nil {
		return err
	}
	err := v.e.again(v.ctx, func() error {
		conn, err := v.e.acquire(v.ctx)
		if err != nil {
			return err
		}
		b := &pgx.Batch{}
		b.Queue(beginView)
		b.Queue(idleView)
		b.Queue(sql, args...)
		if err := v.e.runFirst(v.ctx, conn, b, collect); err != nil {
			finish(conn)
			return cause(err)
		}
		v.conn = conn
		return nil
	})
	if err != nil {
		<-v.e.views
	}
	return err
}

// Read implements engine.Engine: each read is a transaction of its own, and has a connection for as long as it takes.
func (e *Engine) Read(ctx context.Context, fn func(engine.Reader) error) error {
	if err := e.enter(ctx); err != nil {
		return err
	}
	defer e.gate.Leave()
	return fn(reader{live{e, ctx}})
}

// live reads what is there at the moment.
type live struct {
	e   *Engine
	ctx context.Context
}

func (l live) query(sql string, args []any, collect func(pgx.Rows) error) error {
	return l.e.again(l.ctx, func() error {
		conn, err := l.e.acquire(l.ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		b := &pgx.Batch{}
		b.Queue(isStandby)
		b.Queue(sql, args...)
		return cause(l.e.runFirst(l.ctx, conn, b, collect))
	})
}

// runFirst runs statements in one round trip. The last one reads; the one before it says whether the session is one of
// a standby, whose rows nobody gets: its connection is closed.
func (e *Engine) runFirst(
	ctx context.Context, conn *pgxpool.Conn, b *pgx.Batch, collect func(pgx.Rows) error,
) (err error) {
	ctx, stop := e.bound(ctx)
	defer stop()
	results := conn.SendBatch(ctx, b)
	for n := b.Len() - 2; n > 0 && err == nil; n-- {
		_, err = results.Exec()
	}
	var asked, rows pgx.Rows
	standby := false
	if err == nil {
		if asked, err = results.Query(); err == nil {
			err = drain(asked, func(found pgx.Rows) error {
				standby = !found.Next() || !bytes.Equal(found.RawValues()[0], []byte{0})
				return nil
			})
		}
	}
	if err == nil && !standby {
		if rows, err = results.Query(); err == nil {
			err = drain(rows, collect)
		}
	}
	if closed := results.Close(); err == nil {
		err = closed
	}
	if err == nil && standby {
		err = outage(errStandby)
		_ = conn.Conn().Close(ctx) // it is of no use any more, and the pool takes it for closed
	}
	return err
}

// run runs one statement.
func (e *Engine) run(
	ctx context.Context, conn *pgxpool.Conn, sql string, args []any, collect func(pgx.Rows) error,
) error {
	ctx, stop := e.bound(ctx)
	defer stop()
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	return drain(rows, collect)
}

// bound bounds a statement, so that a server that hangs is given up. The server ends what it still can before that.
func (e *Engine) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, (statementPatience+1)*e.patience)
}

func drain(rows pgx.Rows, collect func(pgx.Rows) error) error {
	err := collect(rows)
	rows.Close()
	if failed := rows.Err(); failed != nil {
		return failed
	}
	return err
}

// failed is the cause of an error, or of the end of the context that led to it.
func failed(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return cause(err)
}

// reader is an engine.Reader.
type reader struct{ source }

// prefetched is rows that a transaction has read before they were asked for, without a value where there is none. They
// are of its snapshot, as what it reads later is.
type prefetched struct {
	rows map[string][]byte
	size int // of keys and values
}

// What a transaction keeps of such rows at most, save for those that it has just read.
const (
	maxPrefetched  = 256
	prefetchedSize = 1 << 20
)

// snapshot is a source that reads one moment. It is lost with the error of a read: every other one has that too.
type snapshot interface {
	source
	state() (ahead *prefetched, e *Engine, ctx context.Context, lost *error)
}

func (v *view) state() (*prefetched, *Engine, context.Context, *error) {
	return &v.ahead, v.e, v.ctx, &v.err
}

// Prefetch has a transaction read rows in one round trip. What reads without one sees each row as it is when it is
// asked for.
func (r reader) Prefetch(keys ...[]byte) {
	s, ok := r.source.(snapshot)
	if !ok {
		return
	}
	found, e, ctx, lost := s.state()
	missing := keys[:0:0]
	for _, key := range keys {
		if _, there := found.rows[string(key)]; !there {
			missing = append(missing, key)
		}
	}
	if len(missing) == 0 {
		return
	}
	if found.rows == nil || len(found.rows)+len(missing) > maxPrefetched || found.size > prefetchedSize {
		*found = prefetched{rows: make(map[string][]byte, len(missing))}
	}
	err := r.query(getRows, []any{missing}, func(rows pgx.Rows) error {
		for _, key := range missing {
			found.rows[string(key)] = nil
			found.size += len(key)
		}
		for rows.Next() {
			raw := rows.RawValues()
			found.rows[string(raw[0])] = bytes.Clone(raw[1])
			found.size += len(raw[1])
		}
		return nil
	})
	if err == nil {
		return
	}
	*found = prefetched{} // the next read says why
	if !errors.Is(err, engine.ErrDamaged) {
		return
	}
	for _, key := range missing { // which is it?
		if _, _, err := (reader{live{e, ctx}}).Get(key); errors.Is(err, engine.ErrDamaged) {
			*lost = &engine.RowError{Key: key, Err: err}
			return
		}
	}
}

// Get implements engine.Reader.
func (r reader) Get(key []byte) (value []byte, ok bool, err error) {
	if s, ok := r.source.(snapshot); ok {
		ahead, _, _, _ := s.state()
		if value, known := ahead.rows[string(key)]; known {
			return value, value != nil, nil
		}
	}
	err = r.query(getRow, []any{key}, func(rows pgx.Rows) error {
		value, ok = nil, false
		if rows.Next() {
			value, ok = bytes.Clone(rows.RawValues()[0]), true
		}
		return nil
	})
	return value, ok, err
}

// Scan implements engine.Reader.
func (r reader) Scan(from, to []byte) iter.Seq2[engine.Row, error] {
	return func(yield func(engine.Row, error) bool) {
		if to != nil && bytes.Compare(from, to) >= 0 {
			return
		}
		p := page{limit: firstPage, from: append([]byte{}, from...), to: to}
		v, splits := r.source.(*view)
		var first []byte
		for read := 0; ; {
			if err := p.read(r.source); err != nil {
				yield(engine.Row{}, err)
				return
			}
			if first == nil && len(p.rows) > 0 {
				first = bytes.Clone(p.rows[0].Key)
			}
			read += len(p.rows)
			for _, row := range p.rows {
				if !yield(row, nil) {
					return
				}
			}
			if !p.next() {
				return
			}
			if splits && read >= splitFrom {
				splits = false
				s, err := v.split(first, read, &p)
				if err != nil {
					yield(engine.Row{}, err)
					return
				}
				if s != nil {
					s.all(yield)
					return
				}
			}
		}
	}
}

// page is a part of a scan, in memory that is used for one page after the other.
type page struct {
	from, to []byte
	limit    int
	rows     []engine.Row
	memory   []byte
}

// read fills the page.
func (p *page) read(from source) error {
	sql, args := pageRest, []any{p.from, p.limit}
	if p.to != nil {
		sql, args = pageTo, []any{p.from, p.to, p.limit}
	}
	return from.query(sql, args, func(rows pgx.Rows) error {
		p.rows, p.memory = p.rows[:0], p.memory[:0]
		for rows.Next() {
			raw := rows.RawValues()
			p.rows = append(p.rows, engine.Row{Key: p.keep(raw[0]), Value: p.keep(raw[1])})
		}
		return nil
	})
}

// keep copies bytes into the page's memory. Memory that is full stays with the rows that lie in it.
func (p *page) keep(b []byte) []byte {
	if len(p.memory)+len(b) > cap(p.memory) {
		p.memory = make([]byte, 0, max(2*cap(p.memory), 16<<10, len(b)))
	}
	at := len(p.memory)
	p.memory = append(p.memory, b...)
	return p.memory[at:len(p.memory):len(p.memory)]
}

// next reports whether there is another page, and prepares to read it.
func (p *page) next() bool {
	if len(p.rows) < p.limit {
		return false
	}
	size := 1
	for _, row := range p.rows {
		size += len(row.Key) + len(row.Value)
	}
	last := p.rows[len(p.rows)-1].Key
	p.from = append(append(p.from[:0], last...), 0) // the first key behind it
	p.limit = max(1, min(lastPage, 4*p.limit, pageBytes*len(p.rows)/size))
	return true
}
