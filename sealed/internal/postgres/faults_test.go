package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/engine/enginetest"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/postgres"
	pgtest "github.com/visage-face/visage/test/postgres"
)

// short is the patience of engines whose database stays away.
const short = 300 * time.Millisecond

// name is the database of a URL.
func name(t *testing.T, of string) string {
	t.Helper()
	u, err := url.Parse(of)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(u.Path, "/")
}

func open(t *testing.T, cfg postgres.Config) *postgres.Engine {
	t.Helper()
	e, err := postgres.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

func write(t *testing.T, e engine.Engine, key string, n int) error {
	t.Helper()
	return e.Update(t.Context(), func(w engine.Writer) error { return w.Put([]byte(key), enginetest.Value(n)) })
}

// recovers writes until the database is back, which it is, or will be in a moment.
func recovers(t *testing.T, e engine.Engine, key string) {
	t.Helper()
	for {
		err := write(t, e, key, 1)
		if err == nil {
			return
		}
		if !errors.Is(err, engine.ErrUnavailable) && !errors.Is(err, engine.ErrReadOnly) {
			t.Fatalf("when the database is back: %v", err)
		}
	}
}

func wantRow(t *testing.T, e engine.Engine, key string, want bool) {
	t.Helper()
	err := e.View(t.Context(), func(r engine.Reader) error {
		_, ok, err := r.Get([]byte(key))
		if err == nil && ok != want {
			t.Errorf("%q is there: %t", key, ok)
		}
		return err
	})
	if err != nil {
		t.Errorf("read %q: %v", key, err)
	}
}

// wantOutage checks that an error has a sentence for callers, with some words, and none of PostgreSQL's.
func wantOutage(t *testing.T, err error, words string) {
	t.Helper()
	out, ok := errors.AsType[visage.Outage](err)
	if !ok || !strings.Contains(out.Outage(), words) || strings.Contains(out.Outage(), "PostgreSQL") {
		t.Errorf("got %v (an outage: %t), want one with %q", err, ok, words)
	}
}

func TestReadOnlyDatabaseReads(t *testing.T) {
	server := pgtest.Shared(t)
	address := server.Database(t)
	e := open(t, postgres.Config{URL: address})
	if err := write(t, e, "a", 1); err != nil {
		t.Fatal(err)
	}
	set := func(to string) {
		t.Helper()
		server.Exec(t, "postgres",
			fmt.Sprintf("ALTER DATABASE %s SET default_transaction_read_only = %s", name(t, address), to))
		terminate(t, server, address)
	}
	set("on")
	err := write(t, e, "b", 1)
	wantOutage(t, err, "read-only")
	if err := e.Ping(t.Context()); !errors.Is(err, engine.ErrReadOnly) {
		t.Errorf("ping: %v", err)
	}
	wantRow(t, e, "a", true)
	wantRow(t, e, "b", false)
	if _, err := postgres.Open(t.Context(), postgres.Config{URL: address}); !errors.Is(err, engine.ErrReadOnly) ||
		!strings.Contains(err.Error(), "default_transaction_read_only") {
		t.Errorf("open: %v", err)
	}
	set("off")
	recovers(t, e, "b")
	if err := e.Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
}

// add counts the rows, and adds one with that number.
func add(ctx context.Context, e engine.Engine) error {
	return e.Update(ctx, func(w engine.Writer) error {
		n := 0
		for _, err := range w.Scan(nil, nil) {
			if err != nil {
				return err
			}
			n++
		}
		return w.Put(fmt.Append(nil, "row", n), enginetest.Value(n))
	})
}

// terminate ends all sessions of a database, as an administrator may.
func terminate(t *testing.T, server *pgtest.Server, address string) {
	t.Helper()
	server.Exec(t, "postgres", fmt.Sprintf(
		"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '%s'", name(t, address)))
}

func TestSessionsThatAreTerminatedAreReplaced(t *testing.T) {
	server := pgtest.Shared(t)
	address := server.Database(t)
	e := open(t, postgres.Config{URL: address})
	runs := 0
	err := e.Update(t.Context(), func(w engine.Writer) error {
		if runs++; runs == 1 {
			terminate(t, server, address)
		}
		if _, _, err := w.Get([]byte("x")); err != nil && runs > 1 {
			return err
		}
		return w.Put([]byte("a"), enginetest.Value(runs))
	})
	if err != nil || runs != 2 {
		t.Errorf("update: %v after %d runs, want two", err, runs)
	}
	wantRow(t, e, "a", true)
	terminate(t, server, address)
	wantRow(t, e, "a", true) // the first read of a snapshot is read again
	err = e.View(t.Context(), func(r engine.Reader) error {
		if _, _, err := r.Get([]byte("a")); err != nil {
			return err
		}
		terminate(t, server, address)
		_, _, err := r.Get([]byte("a"))
		return err
	})
	wantOutage(t, err, "cannot be used at the moment") // and of a later one nobody knows what it saw
}

// TestServerThatRestarts stops the server under an engine: it waits for its return, and while that does not come,
// everything fails soon.
func TestServerThatRestarts(t *testing.T) {
	server := pgtest.Start(t)
	patient := open(t, postgres.Config{URL: server.Database(t)})
	if err := write(t, patient, "a", 1); err != nil {
		t.Fatal(err)
	}
	server.Restart(t)
	if err := write(t, patient, "b", 1); err != nil {
		t.Errorf("write after a restart: %v", err)
	}
	wantRow(t, patient, "a", true)
	e := open(t, postgres.Config{URL: server.Database(t), Patience: short})
	server.Halt(t)
	wantOutage(t, write(t, e, "c", 1), "cannot be used at the moment")
	wantOutage(t, e.View(t.Context(), func(r engine.Reader) error { _, _, err := r.Get([]byte("a")); return err }),
		"cannot be used at the moment")
	wantOutage(t, e.Ping(t.Context()), "cannot be used at the moment")
	server.Resume(t)
	recovers(t, e, "c")
}

// TestLostCommits loses commits on their way, and answers on their way back.
func TestLostCommits(t *testing.T) {
	server := pgtest.Shared(t)
	database := name(t, server.Database(t))
	proxy := server.Proxy(t)
	e := open(t, postgres.Config{URL: proxy.URL(pgtest.Superuser, database), Patience: 2 * time.Second})
	count := func() error { return add(t.Context(), e) }
	if err := count(); err != nil { // it prepares the statements
		t.Fatal(err)
	}
	proxy.LoseCommits(2)
	if err := count(); err != nil {
		t.Errorf("commits that did not arrive: %v", err)
	}
	proxy.LoseAnswers(1)
	if err := count(); err != nil {
		t.Errorf("a commit without an answer: %v", err)
	}
	if got := server.Exec(t, database, "SELECT count(*) FROM visage.rows"); got != "3" {
		t.Errorf("%s rows after three transactions", got)
	}
	if s := e.Stats(); s.Unknown != 0 || s.Commits != 3 {
		t.Errorf("the statistics are %+v", s)
	}
}

// TestCommitOfWhichNobodyKnows has another process commit to the scope before the one whose answer was lost can look.
func TestCommitOfWhichNobodyKnows(t *testing.T) {
	server := pgtest.Shared(t)
	address := server.Database(t)
	proxy := server.Proxy(t)
	e := open(t, postgres.Config{URL: proxy.URL(pgtest.Superuser, name(t, address)), Patience: short})
	if err := write(t, e, "a", 1); err != nil {
		t.Fatal(err)
	}
	err := e.Update(t.Context(), func(w engine.Writer) error {
		proxy.LoseAnswerForLong()
		return w.Put([]byte("b"), enginetest.Value(1))
	})
	wantOutage(t, err, "it is unknown whether")
	if errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("%v says that nothing was done", err)
	}
	proxy.Unbar()
	wantRow(t, e, "b", true)
}

// TestSlowDatabase has another session keep what the engine needs.
func TestSlowDatabase(t *testing.T) {
	server := pgtest.Shared(t)
	address := server.Database(t)
	e := open(t, postgres.Config{URL: address, Patience: short})
	holder := open(t, postgres.Config{URL: address})
	err := holder.Update(t.Context(), func(w engine.Writer) error {
		wantOutage(t, write(t, e, "a", 1), "waiting for too long")
		_, err := e.Commit(t.Context(), format.ID{1}, func(w engine.Writer) error {
			return w.Put([]byte("a"), enginetest.Value(1))
		})
		wantOutage(t, err, "waiting for too long")
		wantRow(t, e, "a", false) // reading goes on
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	recovers(t, e, "a")
}

// TestPausedWriter has a transaction do nothing, as that of a process which is paused, until another one of the same
// scope has written. A snapshot, and a transaction that may idle, last longer.
func TestPausedWriter(t *testing.T) {
	server := pgtest.Shared(t)
	address, moved := server.Database(t), server.Database(t)
	paused := open(t, postgres.Config{URL: address})
	other := open(t, postgres.Config{URL: address, Patience: 8 * time.Second})
	put := func(e *postgres.Engine, key string, do func() error) error {
		return engine.CommitAndWait(t.Context(), e, format.ID{1}, func(w engine.Writer) error {
			if err := do(); err != nil {
				return err
			}
			return w.Put([]byte(key), enginetest.Value(1))
		})
	}
	runs := 0
	write := func() error {
		return put(paused, "a", func() error {
			if runs++; runs > 1 {
				return nil
			}
			return put(other, "b", func() error { return nil })
		})
	}
	idle := func(r engine.Reader, do func() error) error {
		_, _, err := r.Get([]byte("a"))
		if err == nil {
			err = do()
		}
		if err == nil {
			_, there, read := r.Get([]byte("a"))
			if err = read; there {
				t.Error("it is not the same moment any more")
			}
		}
		return err
	}
	still := open(t, postgres.Config{URL: moved})
	err := still.Freeze(t.Context(), func(r engine.Reader) error {
		return idle(r, func() error {
			return other.View(t.Context(), func(r engine.Reader) error { return idle(r, write) })
		})
	})
	if err != nil || runs != 2 {
		t.Errorf("after %d runs: %v", runs, err)
	}
	wantRow(t, other, "a", true)
	wantRow(t, other, "b", true)
}

// TestConnectionsRunOut uses all connections of the role, and all of the engine's own.
func TestConnectionsRunOut(t *testing.T) {
	server := pgtest.Shared(t)
	address := server.Database(t)
	database := name(t, address)
	open(t, postgres.Config{URL: address}) // makes the schema
	server.Exec(t, database, `CREATE ROLE few LOGIN CONNECTION LIMIT 8;
		GRANT USAGE ON SCHEMA visage TO few; GRANT ALL ON ALL TABLES IN SCHEMA visage TO few`)
	t.Cleanup(func() { server.Exec(t, database, "DROP OWNED BY few; DROP ROLE few") })
	e := open(t, postgres.Config{URL: server.URL("few", database), Patience: short})
	server.Exec(t, database, "ALTER ROLE few CONNECTION LIMIT 0")
	terminate(t, server, address)
	wantOutage(t, write(t, e, "a", 1), "cannot be used at the moment")
	server.Exec(t, database, "ALTER ROLE few CONNECTION LIMIT -1")
	recovers(t, e, "a")
	var nested func(depth int) error
	nested = func(depth int) error {
		return e.View(t.Context(), func(r engine.Reader) error {
			if _, _, err := r.Get([]byte("a")); err != nil || depth == 0 {
				return err
			}
			return nested(depth - 1)
		})
	}
	err := nested(postgres.DefaultConnections)
	wantOutage(t, err, "cannot be used at the moment")
	if err == nil || !strings.Contains(err.Error(), "pool_max_conns") {
		t.Errorf("%v does not name the setting", err)
	}
}

func TestFullDatabaseReads(t *testing.T) {
	server := pgtest.Start(t)
	dir, err := os.MkdirTemp("", "visage-small-") // the server's user may not look into t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	mounted := func(args ...string) bool {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			t.Logf("%v: %s", args, out)
		}
		return err == nil
	}
	if !mounted("mount", "-t", "tmpfs", "-o", "size=40m,mode=0777", "tmpfs", dir) {
		t.Skip("a small volume cannot be mounted here")
	}
	t.Cleanup(func() {
		server.Stop()
		mounted("umount", dir)
	})
	space := filepath.Join(dir, "space")
	if err := os.Mkdir(space, 0o777); err != nil {
		t.Fatal(err)
	}
	if !mounted("chown", "--reference", server.Dir, space) {
		t.Fatal("no directory for the tablespace")
	}
	server.Exec(t, "postgres", fmt.Sprintf("CREATE TABLESPACE small LOCATION '%s'", space))
	server.Exec(t, "postgres", "CREATE DATABASE small TABLESPACE small")
	server.Exec(t, "small", "CREATE TABLE filler AS SELECT repeat('x', 1000) FROM generate_series(1, 10000)")
	e := open(t, postgres.Config{URL: server.URL(pgtest.Superuser, "small")})
	if err := write(t, e, "first", 1); err != nil {
		t.Fatal(err)
	}
	value := format.AuthInstance(make([]byte, format.KeySize), make([]byte, 1<<20))
	for i := 0; err == nil && i < 100; i++ {
		err = e.Update(t.Context(), func(w engine.Writer) error { return w.Put(fmt.Append(nil, "row", i), value) })
	}
	short, ok := errors.AsType[visage.Shortage](err)
	if !ok || !errors.Is(err, engine.ErrFull) || !strings.Contains(short.Shortage(), "database is full") {
		t.Fatalf("a full volume: %v", err)
	}
	wantRow(t, e, "first", true)
	server.Exec(t, "small", "DROP TABLE filler")
	if err := write(t, e, "again", 1); err != nil {
		t.Errorf("when there is room: %v", err)
	}
}

// TestDatabasesThatAreRefused opens what cannot be used, and reads the sentence.
func TestDatabasesThatAreRefused(t *testing.T) {
	server := pgtest.StartWith(t, pgtest.Options{TCP: true, HBA: "local all postgres trust\n" +
		"local all all scram-sha-256\nhost all all all scram-sha-256\n"})
	server.Exec(t, "postgres", "CREATE ROLE app LOGIN PASSWORD 'right'; CREATE DATABASE good OWNER app; "+
		"CREATE DATABASE newer OWNER app")
	password := func(text string) string {
		path := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	right := password("right")
	e := open(t, postgres.Config{URL: server.URL("app", "newer"), PasswordFile: right})
	if err := write(t, e, "a", 1); err != nil {
		t.Fatal(err)
	}
	server.Exec(t, "newer", "UPDATE visage.schema SET version = 99, since = '9.9.9'")
	tcp := func(query string) string {
		return fmt.Sprintf("postgres://app@127.0.0.1:%d/good?%s", server.Port, query)
	}
	for what, c := range map[string]struct {
		cfg  postgres.Config
		want string
	}{
		"a wrong password": {postgres.Config{URL: server.URL("app", "good"), PasswordFile: password("wrong")},
			"see store-password-file"},
		"no password": {postgres.Config{URL: server.URL("app", "good"), PasswordFile: password("")}, "is empty"},
		"no such file": {postgres.Config{URL: server.URL("app", "good"), PasswordFile: "/none"},
			"store-password-file"},
		"no database":    {postgres.Config{URL: server.URL("postgres", "none")}, "CREATE DATABASE"},
		"no TLS":         {postgres.Config{URL: tcp("sslmode=verify-full"), PasswordFile: right}, "ssl = on"},
		"a newer schema": {postgres.Config{URL: server.URL("app", "newer"), PasswordFile: right}, "9.9.9"},
		"no server": {postgres.Config{URL: "postgres://app@127.0.0.1:1/good?sslmode=disable",
			PasswordFile: right, Patience: short}, "does not answer"},
	} {
		e, err := postgres.Open(t.Context(), c.cfg)
		if err == nil {
			e.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "right") {
			t.Errorf("%s: got %v, want %q", what, err, c.want)
		}
	}
	e = open(t, postgres.Config{URL: tcp("sslmode=disable"), PasswordFile: right})
	if err := write(t, e, "a", 1); err != nil {
		t.Errorf("with SCRAM over TCP: %v", err)
	}
}

// TestPgBouncer runs the engine through a pooler, which must keep sessions.
func TestPgBouncer(t *testing.T) {
	server := pgtest.Shared(t)
	database := name(t, server.Database(t))
	for _, mode := range []string{"transaction", "statement"} {
		_, err := postgres.Open(t.Context(), postgres.Config{URL: server.Bouncer(t, pgtest.Superuser, database, mode)})
		if err == nil || !strings.Contains(err.Error(), "pool_mode=session") {
			t.Errorf("in %s mode: %v", mode, err)
		}
	}
	address := server.Bouncer(t, pgtest.Superuser, database, "session")
	engines := []engine.Engine{open(t, postgres.Config{URL: address}), open(t, postgres.Config{URL: address})}
	const writers, each = 4, 5
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			for range each {
				if err := add(t.Context(), engines[i%2]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, e := range engines {
		wantRow(t, e, fmt.Sprint("row", writers*each-1), true)
		wantRow(t, e, fmt.Sprint("row", writers*each), false)
	}
}

// TestHungServer stops the processes of the server, which then neither answers nor goes away.
func TestHungServer(t *testing.T) {
	server := pgtest.Start(t)
	e := open(t, postgres.Config{URL: server.Database(t), Patience: short})
	if err := write(t, e, "a", 1); err != nil {
		t.Fatal(err)
	}
	server.Pause(t)
	wantOutage(t, write(t, e, "b", 1), "cannot be used at the moment")
	ctx, stop := context.WithTimeout(t.Context(), short)
	defer stop()
	if err := e.Ping(ctx); err == nil {
		t.Error("ping: a server that hangs answers")
	}
	server.Unpause(t)
	recovers(t, e, "b")
}
