package postgres_test

import (
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/engine/enginetest"
	"github.com/visage-face/visage/sealed/internal/postgres"
	pgtest "github.com/visage-face/visage/test/postgres"
)

func TestConformance(t *testing.T) {
	server := pgtest.Shared(t)
	enginetest.Run(t, func(t *testing.T) enginetest.Place { return place(server.Database(t)) })
}

func place(url string) enginetest.Place {
	return enginetest.Place{Shared: true, Open: func(tb testing.TB) (engine.Engine, error) {
		return opened(postgres.Open(tb.Context(), postgres.Config{URL: url}))
	}}
}

// TestReplicasThatStartTogetherMakeOneSchema has two processes look for the schema before either has made it.
func TestReplicasThatStartTogetherMakeOneSchema(t *testing.T) {
	server := pgtest.Shared(t)
	url := server.Database(t)
	database := name(t, url)
	// The schema is made while one holds a lock, for which the other one waits; the test has it first.
	server.Exec(t, database, `CREATE FUNCTION wait_for_lock() RETURNS event_trigger LANGUAGE plpgsql
		AS 'BEGIN PERFORM pg_advisory_xact_lock(1); END';
		CREATE EVENT TRIGGER alone ON ddl_command_start WHEN TAG IN ('CREATE SCHEMA')
		EXECUTE FUNCTION wait_for_lock()`)
	t.Cleanup(func() { server.Exec(t, database, "DROP FUNCTION wait_for_lock CASCADE") })
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock(1)"); err != nil {
		t.Fatal(err)
	}

	var starts sync.WaitGroup
	var errs [2]error
	for i := range errs {
		starts.Go(func() {
			e, err := postgres.Open(t.Context(), postgres.Config{URL: url})
			if err == nil {
				err = e.Close()
			}
			errs[i] = err
		})
	}
	for waiting := 0; waiting < len(errs); {
		err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event = 'advisory'`).Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_unlock(1)"); err != nil {
		t.Fatal(err)
	}
	starts.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("process %d: %v", i, err)
		}
	}
}

// opened keeps a nil *postgres.Engine from becoming an engine that is not nil.
func opened(e *postgres.Engine, err error) (engine.Engine, error) {
	if err != nil {
		return nil, err
	}
	return e, nil
}
