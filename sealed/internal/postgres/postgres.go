// Package postgres is the storage engine over PostgreSQL, which several processes may have open at a time. Rows lie in
// one table of a schema of their own; every transaction that writes is SERIALIZABLE and runs again when it conflicts
// with another. docs/decisions/0024 says why it is as it is, docs/operations/postgres.md how it is run.
package postgres

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/visage-face/visage/sealed/internal/engine"
)

// Config says which database the engine keeps its rows in.
type Config struct {
	// URL is postgres://role@host:port/database?parameters, as PostgreSQL's own programs take it, without a password.
	// Where a parameter is missing, the environment variables of those programs hold.
	URL string
	// PasswordFile has the role's password as its first line. It is read for every new connection, so that a password
	// may change while the engine is open. Empty: PGPASSWORD, the file that PGPASSFILE names, or none.
	PasswordFile string
	// Connections is how many connections the engine opens at most. Zero: as the URL says, at least
	// MinConnections, or DefaultConnections.
	Connections int
	// Patience is how long a database that does not answer, or a place among the connections, is awaited before an
	// *OutageError. Zero: DefaultPatience.
	Patience time.Duration
	Logger   *slog.Logger // nil: silent
	// Admit looks at the rows of a database that has some, before anything of it is changed. Its error is Open's. May
	// be nil.
	Admit func(engine.Reader) error
}

// How many connections an engine opens. Half of them are for transactions that write, half for snapshots, but four are
// left for reads of one statement, which never wait for another transaction while they have one. Of the fewest
// snapshots, a backup and a load leave two to those that are short.
const (
	DefaultConnections = 24
	MinConnections     = 12
	singleReads        = 4
)

// DefaultPatience is enough for a database that restarts, or fails over to its standby.
const DefaultPatience = 15 * time.Second

// How long the engine tries before it gives up.
const (
	connectTimeout = 5 * time.Second // for one address; connect_timeout in the URL
	commitTimeout  = time.Minute     // for what a transaction wrote to be sent, and its commit answered
	// so many times its patience the engine waits for a lock that another process's transaction holds, and for a
	// statement
	lockPatience, statementPatience = 2, 4
	// so long a transaction that writes may do nothing before the server ends it and it runs again: less than passes
	// between the renewal of a claim and its end, so that a process that is paused within one takes no claim of others
	idleTime = 5 * time.Second
	// so often a transaction runs that was refused because the server is read-only: it may be the former primary
	maxReadOnly = 3
	// so often a transaction that conflicts with others runs, with a growing delay between
	maxRuns    = 100
	firstDelay = time.Millisecond
	lastDelay  = 100 * time.Millisecond
)

// Engine is an open database.
type Engine struct {
	pool     *pgxpool.Pool
	logger   *slog.Logger
	patience time.Duration
	lost     atomic.Int64 // the uptime since which nothing answers; 0: it did when it was last asked
	reset    atomic.Int64 // the uptime when connections were given up for the last time
	gate     engine.Gate
	locks    engine.Locks  // of this process: transactions of one scope conflict with other processes alone
	writers  chan struct{} // filled by transactions that write
	views    chan struct{} // filled by snapshots
	long     longViews
	exports  bool // a snapshot can be seen on other connections too

	stats stats
}

// stats counts what happened since the engine was opened.
type stats struct {
	commits, conflicts, reconnects, unknown atomic.Uint64
	waited                                  atomic.Int64 // nanoseconds, between the start and the end of commits
}

// Stats is what an engine and its connections have done since it was opened.
type Stats struct {
	Connections, Busy, Max int           // open, in use, and allowed
	Waiting                int           // snapshots that last and wait for the end of others
	Commits                uint64        // transactions that were committed
	Conflicts              uint64        // runs of transactions that conflicted with others, and ran again
	Reconnects             uint64        // runs that lost the database, and ran again
	Unknown                uint64        // commits of which the engine could not find out what became
	Committing             time.Duration // spent in commits, between sending them and their answer
}

// Open opens the engine's database, and makes the schema in it or brings it to its newest version if the role may. A
// database that a later version of the program has written to is a *format.NewerError, and is left as it is. A schema
// that the role may not change is a *SchemaError.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	e, err := connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := e.prepare(ctx, cfg.Admit); err != nil {
		e.pool.Close()
		return nil, err
	}
	return e, nil
}

// Migrate makes the schema, or brings it to its newest version, and reports the version before and after. It is for a
// role that owns the schema, when the one that the program runs as does not.
func Migrate(ctx context.Context, cfg Config) (before, after int, err error) {
	e, err := connect(ctx, cfg)
	if err != nil {
		return 0, 0, err
	}
	defer e.pool.Close()
	return e.migrate(ctx)
}

// IsEmpty reports whether a database has no rows, or no schema. It changes nothing.
func IsEmpty(ctx context.Context, cfg Config) (empty bool, err error) {
	e, err := connect(ctx, cfg)
	if err != nil {
		return false, err
	}
	defer e.pool.Close()
	version, err := e.version(ctx)
	if err != nil || version == 0 {
		return version == 0, err
	}
	err = e.View(ctx, func(r engine.Reader) error {
		empty = true
		for _, err := range r.Scan(nil, nil) {
			empty = false
			return err
		}
		return nil
	})
	e.gate.Close() // the snapshot's connection is given back
	return empty, err
}

// prepare checks the server, what is in the database, and its schema, in that order: nothing is changed before.
func (e *Engine) prepare(ctx context.Context, admit func(engine.Reader) error) error {
	if err := e.checkServer(ctx); err != nil {
		return err
	}
	if err := e.checkSessions(ctx); err != nil {
		return err
	}
	if err := e.checkSnapshots(ctx); err != nil {
		return err
	}
	version, err := e.version(ctx)
	if err != nil {
		return err
	}
	if version > 0 && admit != nil {
		if err := e.View(ctx, admit); err != nil {
			return err
		}
	}
	if version < len(migrations) {
		_, _, err = e.migrate(ctx)
	}
	return err
}

// Shared reports that other processes may have the same rows open.
func (e *Engine) Shared() bool { return true }

// Stats returns what happened since the engine was opened.
func (e *Engine) Stats() Stats {
	s := e.pool.Stat()
	return Stats{
		Connections: int(s.TotalConns()), Busy: int(s.AcquiredConns()), Max: int(s.MaxConns()),
		Waiting: int(e.long.waiting.Load()),
		Commits: e.stats.commits.Load(), Conflicts: e.stats.conflicts.Load(), Reconnects: e.stats.reconnects.Load(),
		Unknown: e.stats.unknown.Load(), Committing: time.Duration(e.stats.waited.Load()),
	}
}

// Close implements engine.Engine.
func (e *Engine) Close() error {
	if e.gate.Close() {
		e.pool.Close()
	}
	return nil
}

// enter lets a transaction in.
func (e *Engine) enter(ctx context.Context) error {
	if err := e.gate.Enter(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		e.gate.Leave()
		return context.Cause(ctx)
	}
	return nil
}

// acquire returns a connection, for which it waits a bounded time.
func (e *Engine) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	bounded, stop := context.WithTimeout(ctx, e.patience)
	defer stop()
	conn, err := e.pool.Acquire(bounded)
	switch {
	case err == nil:
		return conn, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case bounded.Err() != nil && e.pool.Stat().AcquiredConns() >= e.pool.Config().MaxConns:
		return nil, outage(errBusy)
	}
	return nil, cause(err)
}

// slot waits for one of a kind of places, a bounded time, after which its error is an outage with busy as its class.
// The caller gives the place back by receiving.
func (e *Engine) slot(ctx context.Context, of chan struct{}, busy error) error {
	select {
	case of <- struct{}{}:
		return nil
	default:
	}
	limit := time.NewTimer(e.patience)
	defer limit.Stop()
	select {
	case of <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-limit.C:
		return outage(busy)
	}
}

// again runs a function until it succeeds, or fails for good. One that lost the database runs again until the engine's
// patience ends, which began when the first one lost it: while nothing answers, everybody tries once and fails. One
// that conflicted with others runs maxRuns times; one that was outrun before it began, for as long as it would wait for
// a lock.
func (e *Engine) again(ctx context.Context, run func() error) error {
	conflicts, refused, delay := 0, 0, firstDelay
	var outrun time.Time // since when it is, without having begun
	for {
		began := time.Now()
		err := run()
		if !errors.Is(err, errOutrun) {
			outrun = time.Time{}
		} else if outrun.IsZero() {
			outrun = began
		}
		again := errors.Is(err, errConflict) || errors.Is(err, errLost) || errors.Is(err, engine.ErrReadOnly)
		switch {
		case err == nil:
			e.lost.Store(0)
			return nil
		case again && ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errOutrun):
			e.stats.conflicts.Add(1)
			if time.Since(outrun) > lockPatience*e.patience {
				return outage(err)
			}
			continue // it has waited, and whoever waits longer is outrun again
		case errors.Is(err, errConflict):
			e.stats.conflicts.Add(1)
			if conflicts++; conflicts >= maxRuns {
				return outage(err)
			}
		case errors.Is(err, errLost):
			e.stats.reconnects.Add(1)
			e.giveUpConnections()
			now := uptime()
			if since := e.lost.Load(); since == 0 {
				e.lost.CompareAndSwap(0, now) // or another one has just said so
			} else if now-since > int64(e.patience) {
				return err
			}
		case errors.Is(err, engine.ErrReadOnly):
			e.giveUpConnections() // new ones may lead to another server
			if refused++; refused >= maxReadOnly {
				return err
			}
		default:
			return err
		}
		if err := pause(ctx, delay); err != nil {
			return err
		}
		delay = min(2*delay, lastDelay)
	}
}

// started is a moment whose distance does not depend on how the machine's clock is set.
var started = time.Now()

// uptime returns the nanoseconds since started, never 0.
func uptime() int64 { return int64(time.Since(started)) + 1 }

// giveUpConnections gives up those that are idle, at most once a second: what they lead to is of no use any more.
func (e *Engine) giveUpConnections() {
	now, last := uptime(), e.reset.Load()
	if now-last > int64(time.Second) && e.reset.CompareAndSwap(last, now) {
		e.pool.Reset()
	}
}

// Now implements engine.Clock.
func (e *Engine) Now(ctx context.Context) (now time.Time, err error) {
	if err := e.enter(ctx); err != nil {
		return now, err
	}
	defer e.gate.Leave()
	err = e.pool.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now)
	return now, cause(err)
}

// Ping asks the database whether it answers, and whether it can be written to. Errors: *OutageError.
func (e *Engine) Ping(ctx context.Context) error {
	if err := e.enter(ctx); err != nil {
		return err
	}
	defer e.gate.Leave()
	err := e.ping(ctx)
	if errors.Is(err, errLost) && ctx.Err() == nil {
		e.pool.Reset() // the connection may have ended while nobody used it
		err = e.ping(ctx)
	}
	return err
}

func (e *Engine) ping(ctx context.Context) error {
	conn, err := e.acquire(ctx)
	if err != nil {
		return failed(ctx, err)
	}
	defer conn.Release()
	var standby, only bool
	err = conn.QueryRow(ctx, isStandby+", current_setting('transaction_read_only') = 'on'").Scan(&standby, &only)
	switch {
	case err == nil && standby:
		return outage(errStandby)
	case err == nil && only:
		return outage(engine.ErrReadOnly)
	}
	return failed(ctx, err)
}

// finish ends a transaction whose result nobody waits for, and gives its connection back.
func finish(conn *pgxpool.Conn) {
	ctx, stop := context.WithTimeout(context.Background(), connectTimeout)
	defer stop()
	if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
		_ = conn.Conn().Close(ctx) // it is of no use any more, and the pool takes it for closed
	}
	conn.Release()
}

var _ interface {
	engine.Engine
	Shared() bool
} = (*Engine)(nil)
