package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keystore"
)

// Keys keeps epoch keys and anchors of one instance in a database apart from the data, in a schema of its own. Its
// server must not keep its write-ahead log: a key that is deleted is in there until the server has written over it.
//
// It is a keystore.Place and keystore.Anchors.
type Keys struct {
	e        *Engine
	instance format.ID
	name     string
	exposed  atomic.Pointer[string] // why keys that were deleted may last elsewhere, as of the last look; empty: not
}

// keysSchema is the schema of epoch keys; keysVersion is its version. The sealed values do not compress.
const (
	keysVersion = 2
	keysSchema  = `
CREATE SCHEMA visage_keys;
CREATE TABLE visage_keys.schema (version integer NOT NULL);
INSERT INTO visage_keys.schema VALUES (2);
CREATE TABLE visage_keys.epochs (instance bytea, space bytea, epoch bigint, sealed bytea NOT NULL,
	PRIMARY KEY (instance, space, epoch));
CREATE TABLE visage_keys.anchors (instance bytea, space bytea, value bytea NOT NULL, PRIMARY KEY (instance, space));` +
		keysSchema2
	// keysSchema2 is what version 2 has added: the marks, and the keys that somebody else may have got.
	keysSchema2 = `
CREATE TABLE visage_keys.places (instance bytea PRIMARY KEY, mark bytea NOT NULL);
CREATE TABLE visage_keys.exposed (instance bytea, space bytea, epoch bigint, PRIMARY KEY (instance, space, epoch));`
	// fromKeysSchema1 brings version 1 to version 2.
	fromKeysSchema1 = `
UPDATE visage_keys.schema SET version = 2 WHERE version = 1;` + keysSchema2
)

// keyConnections is how many connections a key store opens at most: its transactions are single statements.
const keyConnections = 8

// OpenKeys opens the epoch keys of an instance in the database that cfg.URL names, and makes the schema there, which
// its role has to own. data is the engine of the data, when that is a database as well: the two must not be of one
// server. One whose server archives or hands on its write-ahead log is refused.
func OpenKeys(ctx context.Context, cfg Config, instance format.ID, data *Engine) (*Keys, error) {
	if cfg.Connections == 0 {
		cfg.Connections = keyConnections
	}
	e, err := connect(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("the database of epoch keys: %w", err)
	}
	c := e.pool.Config().ConnConfig
	k := &Keys{e: e, instance: instance, name: "postgres://" + c.Host + "/" + c.Database}
	if err := k.open(ctx, data); err != nil {
		e.pool.Close()
		return nil, fmt.Errorf("the database of epoch keys at %s: %w", k.name, err)
	}
	return k, nil
}

// Data connects to the database of the data, so that OpenKeys compares the servers. Its schema is not looked at, and
// nothing in it is changed. The caller closes the engine.
func Data(ctx context.Context, cfg Config) (*Engine, error) {
	cfg.Connections = keyConnections
	e, err := connect(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("the database of the data: %w", err)
	}
	return e, nil
}

func (k *Keys) open(ctx context.Context, data *Engine) error {
	if err := k.e.checkServer(ctx); err != nil {
		return err
	}
	if data != nil {
		theirs, err := data.system(ctx)
		if err != nil {
			return err
		}
		ours, err := k.e.system(ctx)
		if err != nil {
			return err
		}
		if ours == theirs {
			return errors.New("the data lies on the same server, whose write-ahead log and backups would hold the " +
				"keys together with the data: use another server")
		}
	}
	if err := k.admit(ctx); err != nil {
		return err
	}
	if err := k.prepare(ctx); err != nil {
		return err
	}
	return k.Inspect(ctx)
}

// system returns what identifies the cluster of databases.
func (e *Engine) system(ctx context.Context) (id int64, err error) {
	err = e.again(ctx, func() error {
		return cause(e.pool.QueryRow(ctx, "SELECT system_identifier FROM pg_control_system()").Scan(&id))
	})
	if err != nil {
		return 0, fmt.Errorf("ask for the identity of the server: %w", err)
	}
	return id, nil
}

// exposure is what a server does with what is written to it.
type exposure struct {
	archive, level, log string
	duration            string // that a statement takes until it is logged
	slots, senders      int
}

func (k *Keys) look(ctx context.Context, conn *pgxpool.Conn) (x exposure, err error) {
	err = conn.QueryRow(ctx, `SELECT current_setting('archive_mode'), current_setting('wal_level'),
		current_setting('log_statement'), current_setting('log_min_duration_statement'),
		(SELECT count(*) FROM pg_catalog.pg_replication_slots),
		(SELECT count(*) FROM pg_catalog.pg_stat_replication)`).
		Scan(&x.archive, &x.level, &x.log, &x.duration, &x.slots, &x.senders)
	return x, err
}

// refused says why a server is none to keep keys on. What it says can be changed before there are keys.
func (x exposure) refused() error {
	const kept = ", so that keys which were destroyed stay in its write-ahead log: "
	switch {
	case x.archive != "off":
		return fmt.Errorf("the server has archive_mode = %s%sset archive_mode = off, and keep copies of the keys with "+
			"\"visage keyring export\"", x.archive, kept)
	case x.level == "logical":
		return fmt.Errorf("the server has wal_level = logical%sset wal_level = replica or minimal", kept)
	case x.slots > 0:
		return fmt.Errorf("the server has %d replication slots%sdrop them; a standby can do without", x.slots, kept)
	}
	return nil
}

// why says what lets keys last elsewhere when they are deleted; empty: nothing.
func (x exposure) why() string {
	switch {
	case x.archive != "off":
		return "archive_mode = " + x.archive
	case x.level == "logical":
		return "wal_level = logical"
	case x.slots > 0:
		return fmt.Sprintf("%d replication slots", x.slots)
	case x.senders > 0:
		return fmt.Sprintf("%d receivers of the write-ahead log", x.senders)
	case x.log != "none" && x.log != "ddl":
		return "log_statement = " + x.log + ", which logs keys"
	case x.duration != "-1":
		return "log_min_duration_statement = " + x.duration + ", which logs keys"
	}
	return ""
}

// Inspect looks where the server's write-ahead log and the text of statements go, and remembers, durably, the keys that
// are there while somebody else may get them: see GradeOf.
func (k *Keys) Inspect(ctx context.Context) error {
	return k.run(ctx, func(ctx context.Context, conn *pgxpool.Conn, _ bool) error {
		x, err := k.look(ctx, conn)
		if err != nil {
			return err
		}
		why := x.why()
		k.exposed.Store(&why)
		if why == "" {
			return nil
		}
		_, err = conn.Exec(ctx, `INSERT INTO visage_keys.exposed SELECT instance, space, epoch FROM visage_keys.epochs
			WHERE instance = $1 ON CONFLICT DO NOTHING`, k.instance[:])
		return err
	})
}

// admit refuses a server that is none to keep keys on. What begins later lowers the grade.
func (k *Keys) admit(ctx context.Context) error {
	var x exposure
	err := k.run(ctx, func(ctx context.Context, conn *pgxpool.Conn, _ bool) (err error) {
		x, err = k.look(ctx, conn)
		return err
	})
	if err != nil {
		return err
	}
	return x.refused()
}

// prepare makes the schema where it is missing.
func (k *Keys) prepare(ctx context.Context) error {
	var role string
	var owns bool
	var version int
	err := k.run(ctx, func(ctx context.Context, conn *pgxpool.Conn, _ bool) error {
		var there bool
		err := conn.QueryRow(ctx, `SELECT current_user, n.oid IS NOT NULL,
			coalesce(pg_has_role(n.nspowner, 'USAGE'), false) FROM (SELECT 'visage_keys'::name AS name) AS it LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = it.name`,
		).Scan(&role, &there, &owns)
		if err != nil {
			return err
		}
		if !there {
			if err := k.make(ctx, conn, keysSchema); err != nil {
				return err
			}
			owns = true
		}
		if !owns {
			return nil
		}
		err = conn.QueryRow(ctx, "SELECT version FROM visage_keys.schema").Scan(&version)
		if err != nil || version != 1 {
			return err
		}
		return k.make(ctx, conn, fromKeysSchema1)
	})
	switch {
	case err != nil:
		return fmt.Errorf("make the schema visage_keys: %w", err)
	case !owns:
		return fmt.Errorf("the role %q does not own the schema visage_keys, which it has to: the space of what was "+
			"deleted is freed by the owner alone", role)
	case version > keysVersion:
		return &format.NewerError{What: "database", Of: "schema of epoch keys", Format: uint32(version),
			Known: keysVersion, Since: "a later version"}
	}
	return nil
}

const duplicateTable = "42P07"

// make runs the statements that make a schema, all or nothing. Another process may be quicker: what it made is as good.
func (k *Keys) make(ctx context.Context, conn *pgxpool.Conn, statements string) error {
	_, err := conn.Exec(ctx, "BEGIN;"+statements+"COMMIT;", pgx.QueryExecModeSimpleProtocol)
	pg, is := errors.AsType[*pgconn.PgError](err)
	if is && (pg.Code == duplicateSchema || pg.Code == duplicateTable || pg.Code == uniqueViolation) {
		_, _ = conn.Exec(ctx, "ROLLBACK") // it ends the transaction that failed
		return nil
	}
	return err
}

// run runs a function on a connection until the database answers, for as long as the engine is patient. first tells the
// first attempt: what a later one finds may be what an earlier one has done.
func (k *Keys) run(ctx context.Context, fn func(_ context.Context, _ *pgxpool.Conn, first bool) error) error {
	first := true
	return k.e.again(ctx, func() error {
		conn, err := k.e.acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		bounded, stop := k.e.bound(ctx)
		defer stop()
		err = fn(bounded, conn, first)
		first = false
		if own := errors.Is(err, keystore.ErrNotFound) || errors.Is(err, keystore.ErrExists) ||
			errors.Is(err, keystore.ErrChanged); own {
			return err
		}
		return failed(ctx, err)
	})
}

// Grade implements keystore.Place. Where others get the write-ahead log or the statements, nothing is promised.
func (k *Keys) Grade() (grade keystore.Grade, why string) {
	if why := k.exposed.Load(); why != nil && *why != "" {
		return keystore.GradeStore, *why
	}
	return keystore.GradeDatabase, ""
}

// GradeOf implements keystore.Place: nothing is promised of a key that was there while others got what is written.
func (k *Keys) GradeOf(ctx context.Context, space format.ID, epoch uint32) (keystore.Grade, error) {
	var exposed bool
	err := k.run(ctx, func(ctx context.Context, conn *pgxpool.Conn, _ bool) error {
		return conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM visage_keys.exposed
			WHERE instance = $1 AND space = $2 AND epoch = $3)`, k.instance[:], space[:], int64(epoch)).Scan(&exposed)
	})
	grade, _ := k.Grade()
	if exposed {
		grade = keystore.GradeStore
	}
	return grade, err
}

// Name implements keystore.Place.
func (k *Keys) Name() string { return k.name }

// Close implements keystore.Place.
func (k *Keys) Close() { k.e.pool.Close() }

// Put implements keystore.Store.
func (k *Keys) Put(ctx context.Context, space format.ID, epoch uint32, sealed []byte) error {
	if err := k.put(ctx, space, epoch, sealed); err != nil {
		return err
	}
	return k.Inspect(ctx)
}

func (k *Keys) put(ctx context.Context, space format.ID, epoch uint32, sealed []byte) error {
	return k.run(ctx, func(ctx context.Context, conn *pgxpool.Conn, first bool) error {
		tag, err := conn.Exec(ctx, `INSERT INTO visage_keys.epochs (instance, space, epoch, sealed)
			VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`, k.instance[:], space[:], int64(epoch), sealed)
		if err != nil || tag.RowsAffected() == 1 {
			return err
		}
		if !first { // the answer to the attempt before may have been lost
			if own, err := k.confirm(ctx, conn, space, epoch, sealed); err != nil || own {
				return err
			}
		}
		return fmt.Errorf("%w: %d of %s in %s", keystore.ErrExists, epoch, space, k.name)
	})
}

// confirm reports whether a value is the one of an epoch, and writes it once more if it is. A commit whose answer was
// lost may not have reached a synchronous standby that the server waits for; one that follows it waits for both.
func (k *Keys) confirm(
	ctx context.Context, conn *pgxpool.Conn, space format.ID, epoch uint32, sealed []byte,
) (bool, error) {
	tag, err := conn.Exec(ctx, `UPDATE visage_keys.epochs SET sealed = sealed
		WHERE instance = $1 AND space = $2 AND epoch = $3 AND sealed = $4`, k.instance[:], space[:], int64(epoch), sealed)
	return tag.RowsAffected() == 1, err
}

// confirmNothing makes durable that something is not there, as confirm does for what is there: it writes a row that
// says nothing.
func confirmNothing(ctx context.Context, conn *pgxpool.Conn) error {
	_, err := conn.Exec(ctx, "UPDATE visage_keys.schema SET version = version")
	return err
}

func (k *Keys) get(ctx context.Context, conn *pgxpool.Conn, space format.ID, epoch uint32) (sealed []byte, err error) {
	err = conn.QueryRow(ctx, "SELECT sealed FROM visage_keys.epochs WHERE instance = $1 AND space = $2 AND epoch = $3",
		k.instance[:], space[:], int64(epoch)).Scan(&sealed)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("%w: %d of %s in %s", keystore.ErrNotFound, epoch, space, k.name)
	}
	return sealed, err
}

// Get implements keystore.Store.
func (k *Keys) Get(ctx context.Context, space format.ID, epoch uint32) (sealed []byte, err error) {
	err = k.run(ctx, func(ctx context.Context, conn *pgxpool.Conn, _ bool) error {
		sealed, err = k.get(ctx, conn, space, epoch)
		return err
	})
	return sealed, err
}

// Replace implements keystore.Store.
func (k *Keys) Replace(ctx context.Context, space format.ID, epoch uint32, from, to []byte) error {
	return k.run(ctx, func(ctx context.Context, conn *pgxpool.Conn, _ bool) error {
		tag, err := conn.Exec(ctx, `UPDATE visage_keys.epochs SET sealed = $5
			WHERE instance = $1 AND space = $2 AND epoch = $3 AND sealed = $4`,
			k.instance[:], space[:], int64(epoch), from, to)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			own, err := k.confirm(ctx, conn, space, epoch, to) // nobody else makes these bytes
			if err != nil {
				return err
			}
			if !own {
				if _, err := k.get(ctx, conn, space, epoch); err != nil {
					return err
				}
				return fmt.Errorf("%w: %d of %s in %s", keystore.ErrChanged, epoch, space, k.name)
			}
		}
		return vacuum(ctx, conn)
	})
}

// vacuum gives the space of what was deleted free, so that it is written over.
func vacuum(ctx context.Context, conn *pgxpool.Conn) error {
	_, err := conn.Exec(ctx, "VACUUM visage_keys.epochs")
	return err
}

// Tidy implements keystore.Store.
func (k *Keys) Tidy(ctx context.Context, _ format.ID) error {
	return k.run(ctx, func(ctx context.Context, conn *pgxpool.Conn, _ bool) error { return vacuum(ctx, conn) })
}

// List implements keystore.Store.
func (k *Keys) List(ctx context.Context, space format.ID) (epochs []uint32, err error) {
	err = k.run(ctx, func(ctx context.Context, conn *pgxpool.Conn, _ bool) error {
		rows, err := conn.Query(ctx, "SELECT epoch FROM visage_keys.epochs WHERE instance = $1 AND space = $2",
			k.instance[:], space[:])
		if err != nil {
			return err
		}
		numbers, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		epochs = nil
		for _, n := range numbers {
			epochs = append(epochs, uint32(n))
		}
		return err
	})
	return epochs, err
}

// DestroyEpoch implements keystore.Store.
func (k *Keys) DestroyEpoch(ctx context.Context, space format.ID, epoch uint32) error {
	return k.destroy(ctx, "DELETE FROM visage_keys.epochs WHERE instance = $1 AND space = $2 AND epoch = $3",
		k.instance[:], space[:], int64(epoch))
}

// Destroy implements keystore.Store.
func (k *Keys) Destroy(ctx context.Context, space format.ID) error {
	return k.destroy(ctx, "DELETE FROM visage_keys.epochs WHERE instance = $1 AND space = $2",
		k.instance[:], space[:])
}

// destroy deletes rows, and looks what that is worth, before they are gone and afterwards.
func (k *Keys) destroy(ctx context.Context, statement string, args ...any) error {
	if err := k.Inspect(ctx); err != nil {
		return err
	}
	err := k.run(ctx, func(ctx context.Context, conn *pgxpool.Conn, _ bool) error {
		tag, err := conn.Exec(ctx, statement, args...)
		if err == nil && tag.RowsAffected() == 0 { // whatever has deleted it may not have waited for its durability
			err = confirmNothing(ctx, conn)
		}
		if err != nil {
			return err
		}
		return vacuum(ctx, conn)
	})
	if err != nil {
		return err
	}
	return k.Inspect(ctx)
}

// Spaces implements keystore.Place.
func (k *Keys) Spaces(ctx context.Context) ([]format.ID, error) {
	return k.ids(ctx, "SELECT DISTINCT space FROM visage_keys.epochs WHERE instance = $1")
}

func (k *Keys) ids(ctx context.Context, statement string) (ids []format.ID, err error) {
	err = k.run(ctx, func(ctx context.Context, conn *pgxpool.Conn, _ bool) error {
		rows, err := conn.Query(ctx, statement, k.instance[:])
		if err != nil {
			return err
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		ids = nil
		for _, id := range found {
			if len(id) == len(format.ID{}) {
				ids = append(ids, format.ID(id))
			}
		}
		return err
	})
	return ids, err
}

// small is a small value of the instance, with the statements that change it.
type small struct {
	name                        string // for people
	get, insert, delete, update string
	args                        []any // those that name it; the statements take a value, or two, after them
}

func (k *Keys) anchorOf(space format.ID) small {
	return small{
		name:   "anchor of " + space.String(),
		get:    "SELECT value FROM visage_keys.anchors WHERE instance = $1 AND space = $2",
		insert: "INSERT INTO visage_keys.anchors (instance, space, value) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
		delete: "DELETE FROM visage_keys.anchors WHERE instance = $1 AND space = $2 AND value = $3",
		update: "UPDATE visage_keys.anchors SET value = $4 WHERE instance = $1 AND space = $2 AND value = $3",
		args:   []any{k.instance[:], space[:]},
	}
}

func (k *Keys) markOf() small {
	return small{
		name:   "mark",
		get:    "SELECT mark FROM visage_keys.places WHERE instance = $1",
		insert: "INSERT INTO visage_keys.places (instance, mark) VALUES ($1, $2) ON CONFLICT DO NOTHING",
		delete: "DELETE FROM visage_keys.places WHERE instance = $1 AND mark = $2",
		update: "UPDATE visage_keys.places SET mark = $3 WHERE instance = $1 AND mark = $2",
		args:   []any{k.instance[:]},
	}
}

// read reads a small value. Error: keystore.ErrNotFound.
func (k *Keys) read(ctx context.Context, s small) (value []byte, err error) {
	err = k.run(ctx, func(ctx context.Context, conn *pgxpool.Conn, _ bool) error {
		value, err = k.readOn(ctx, conn, s)
		return err
	})
	return value, err
}

func (k *Keys) readOn(ctx context.Context, conn *pgxpool.Conn, s small) (value []byte, err error) {
	err = conn.QueryRow(ctx, s.get, s.args...).Scan(&value)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("%w: no %s in %s", keystore.ErrNotFound, s.name, k.name)
	}
	return value, err
}

// set puts a small value in place of another one; nil: there is none. Error: keystore.ErrChanged.
func (k *Keys) set(ctx context.Context, s small, from, to []byte) error {
	return k.run(ctx, func(ctx context.Context, conn *pgxpool.Conn, first bool) error {
		statement, args := s.update, append(slices.Clone(s.args), from, to)
		if from == nil {
			statement, args = s.insert, append(slices.Clone(s.args), to)
		} else if to == nil {
			statement, args = s.delete, append(slices.Clone(s.args), from)
		}
		tag, err := conn.Exec(ctx, statement, args...)
		if err != nil || tag.RowsAffected() == 1 {
			return err
		}
		there, err := k.readOn(ctx, conn, s)
		if errors.Is(err, keystore.ErrNotFound) {
			there, err = nil, nil
		}
		switch {
		case err != nil:
			return err
		case first || !bytes.Equal(there, to):
			return fmt.Errorf("%w: the %s in %s", keystore.ErrChanged, s.name, k.name)
		}
		return confirmNothing(ctx, conn) // a commit that waits for the one before as well
	})
}

// Anchor implements keystore.Anchors.
func (k *Keys) Anchor(ctx context.Context, space format.ID) ([]byte, error) {
	return k.read(ctx, k.anchorOf(space))
}

// SetAnchor implements keystore.Anchors.
func (k *Keys) SetAnchor(ctx context.Context, space format.ID, from, to []byte) error {
	return k.set(ctx, k.anchorOf(space), from, to)
}

// Mark implements keystore.Marks.
func (k *Keys) Mark(ctx context.Context) ([]byte, error) { return k.read(ctx, k.markOf()) }

// SetMark implements keystore.Marks.
func (k *Keys) SetMark(ctx context.Context, from, to []byte) error {
	return k.set(ctx, k.markOf(), from, to)
}

// Anchored implements keystore.Anchors.
func (k *Keys) Anchored(ctx context.Context) ([]format.ID, error) {
	return k.ids(ctx, "SELECT space FROM visage_keys.anchors WHERE instance = $1")
}

var _ interface {
	keystore.Place
	keystore.Anchors
} = (*Keys)(nil)
