package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/visage-face/visage/sealed/internal/format"
)

// migrations leads from an empty database to the newest schema: migrations[i] makes version i+1. One that was released
// is never changed, and a new one may only be added together with a new format.Store if older programs could not read
// what it leaves.
var migrations = []string{`
CREATE SCHEMA visage;
CREATE TABLE visage.schema (version integer NOT NULL, since text NOT NULL);
INSERT INTO visage.schema VALUES (0, '');
-- What is sealed does not compress.
CREATE TABLE visage.rows (key bytea PRIMARY KEY, value bytea NOT NULL);
ALTER TABLE visage.rows ALTER COLUMN value SET STORAGE EXTERNAL;
ALTER TABLE visage.rows SET (autovacuum_vacuum_scale_factor = 0.05);
-- Half of each page stays free, so that a new version of a row lies beside the old one, and no index changes.
CREATE TABLE visage.scopes (scope bytea PRIMARY KEY, version bigint NOT NULL, writer bytea NOT NULL)
	WITH (fillfactor = 50);
`}

// since is the version of the program that knows the newest schema first.
const since = "0.2.0"

// SchemaError says that the schema is missing or old, and that the role may not change that.
type SchemaError struct {
	Role          string
	Version, Want int // Version is 0 for a database without the schema
}

// Error says which command to run.
func (e *SchemaError) Error() string {
	is := fmt.Sprintf("has version %d of the schema \"visage\", and this program needs version %d", e.Version, e.Want)
	if e.Version == 0 {
		is = "has no schema \"visage\" yet"
	}
	return fmt.Sprintf("the database %s, and the role %q may not change that: run \"visage database migrate --store "+
		"postgres://OWNER@HOST/DATABASE\" with a role that may, and then grant this one what "+
		"docs/operations/postgres.md lists", is, e.Role)
}

// version returns the version of the schema, 0 when there is none. A later one than the program knows is a
// *format.NewerError.
func (e *Engine) version(ctx context.Context) (version int, err error) {
	err = e.again(ctx, func() error {
		version = 0
		var there bool
		err := e.pool.QueryRow(ctx, `SELECT count(*) > 0 FROM pg_catalog.pg_class c
			JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = 'visage' AND c.relname = 'schema'`).Scan(&there)
		if err != nil || !there {
			return cause(err)
		}
		version, err = versionOf(ctx, e.pool)
		return err
	})
	return version, err
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func versionOf(ctx context.Context, q querier) (version int, err error) {
	var from string
	if err := q.QueryRow(ctx, "SELECT version, since FROM visage.schema").Scan(&version, &from); err != nil {
		return 0, fmt.Errorf("read the version of the schema: %w", cause(err))
	}
	if version > len(migrations) {
		return 0, &format.NewerError{What: "database", Of: "schema", Format: uint32(version),
			Known: uint32(len(migrations)), Since: from}
	}
	return version, nil
}

// migrate brings the schema to its newest version, in one transaction.
func (e *Engine) migrate(ctx context.Context) (before, after int, err error) {
	err = e.again(ctx, func() (err error) {
		before, err = e.migrateOnce(ctx)
		return err
	})
	return before, len(migrations), err
}

func (e *Engine) migrateOnce(ctx context.Context) (before int, err error) {
	conn, err := e.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer finish(conn)
	if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
		return 0, cause(err)
	}
	var role string
	var there, owns, may bool
	err = conn.QueryRow(ctx, `SELECT current_user, n.oid IS NOT NULL,
		coalesce(pg_has_role(n.nspowner, 'USAGE'), false), has_database_privilege(current_database(), 'CREATE')
		FROM (SELECT 'visage'::name AS name) AS it LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = it.name`,
	).Scan(&role, &there, &owns, &may)
	if err != nil {
		return 0, cause(err)
	}
	if there {
		if owns { // of two that migrate at the same time, one waits
			if _, err := conn.Exec(ctx, "LOCK TABLE visage.schema IN ACCESS EXCLUSIVE MODE"); err != nil {
				return 0, cause(err)
			}
		}
		if before, err = versionOf(ctx, conn); err != nil {
			return 0, err
		}
	}
	if before == len(migrations) {
		return before, nil
	}
	if there && !owns || !there && !may {
		return before, &SchemaError{Role: role, Version: before, Want: len(migrations)}
	}
	for _, m := range migrations[before:] {
		if _, err := conn.Exec(ctx, m, pgx.QueryExecModeSimpleProtocol); err != nil {
			return before, fmt.Errorf("migrate the database: %w", cause(err))
		}
	}
	_, err = conn.Exec(ctx, "UPDATE visage.schema SET version = $1, since = $2", len(migrations), since)
	if err == nil {
		_, err = conn.Exec(ctx, "COMMIT")
	}
	if err != nil {
		return before, fmt.Errorf("migrate the database: %w", cause(err))
	}
	e.logger.Info("the schema of the database was migrated", "from", before, "to", len(migrations))
	return before, nil
}
