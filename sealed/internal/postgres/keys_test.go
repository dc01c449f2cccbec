package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keystore"
	"github.com/visage-face/visage/sealed/internal/keystore/keystoretest"
	"github.com/visage-face/visage/sealed/internal/postgres"
	pgtest "github.com/visage-face/visage/test/postgres"
)

func openKeys(t testing.TB, url string, instance format.ID) *postgres.Keys {
	t.Helper()
	k, err := postgres.OpenKeys(t.Context(), postgres.Config{URL: url, Patience: 5 * time.Second}, instance, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

func TestKeysConform(t *testing.T) {
	address := pgtest.Shared(t).Database(t)
	keystoretest.Run(t, keystoretest.Provider{
		Open:  func(t testing.TB, instance format.ID) keystore.Place { return openKeys(t, address, instance) },
		Grade: keystore.GradeDatabase,
	})
}

// TestKeysLostAnswers loses the answers to statements that were done: what is asked again has the result that it would
// have had.
func TestKeysLostAnswers(t *testing.T) {
	server := pgtest.Shared(t)
	database := name(t, server.Database(t))
	proxy := server.Proxy(t)
	k := openKeys(t, proxy.URL(pgtest.Superuser, database), format.RandomID())
	ctx, space, one, two := t.Context(), format.RandomID(), []byte("one"), []byte("two")
	for _, step := range []struct {
		tag string
		do  func() error
	}{
		{"INSERT 0 1", func() error { return k.Put(ctx, space, 1, one) }},
		{"UPDATE 1", func() error { return k.Replace(ctx, space, 1, one, two) }},
		{"INSERT 0 1", func() error { return k.SetAnchor(ctx, space, nil, one) }},
		{"UPDATE 1", func() error { return k.SetAnchor(ctx, space, one, two) }},
	} {
		proxy.LoseAnswersTo(step.tag, 1)
		if err := step.do(); err != nil {
			t.Errorf("the answer %q was lost: %v", step.tag, err)
		}
	}
	if got, err := k.Get(ctx, space, 1); err != nil || !bytes.Equal(got, two) {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := k.Anchor(ctx, space); err != nil || !bytes.Equal(got, two) {
		t.Errorf("the anchor is %q, %v", got, err)
	}
	if err := k.Put(ctx, space, 1, two); !errors.Is(err, keystore.ErrExists) {
		t.Errorf("a key of another writer was taken for the own: %v", err)
	}
	proxy.LoseAnswersTo("DELETE 1", 1)
	if err := k.DestroyEpoch(ctx, space, 1); err != nil {
		t.Error(err)
	}
	if _, err := k.Get(ctx, space, 1); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("destroyed: %v", err)
	}
}

// TestKeysWaitForTheStandby: while no standby confirms, nothing counts as kept or destroyed, although the server has
// it: neither with the first attempt, whose answer does not come, nor with one that finds what that has done.
func TestKeysWaitForTheStandby(t *testing.T) {
	server := pgtest.Start(t)
	address := server.Database(t)
	k, err := postgres.OpenKeys(t.Context(), postgres.Config{URL: address, Patience: short}, format.RandomID(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	ctx, space, one, two := t.Context(), format.RandomID(), []byte("one"), []byte("two")
	if err := errors.Join(k.Put(ctx, space, 1, one), k.Put(ctx, space, 2, one)); err != nil {
		t.Fatal(err)
	}
	// The server commits, and waits for a standby that there is not. Whoever waits is cut off, so that the next attempt
	// finds what was committed.
	server.Exec(t, "postgres", "ALTER SYSTEM SET synchronous_standby_names = 'none'")
	server.Exec(t, "postgres", "SELECT pg_reload_conf()")
	t.Cleanup(func() { // or the server would wait when the database is given back
		server.Exec(t, "postgres", "ALTER SYSTEM RESET synchronous_standby_names")
		server.Exec(t, "postgres", "SELECT pg_reload_conf()")
	})
	cut := make(chan struct{})
	defer func() { <-cut }()
	ended, end := context.WithCancel(ctx)
	defer end()
	go func() {
		defer close(cut)
		for ended.Err() == nil {
			_ = server.Try("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "+
				"WHERE wait_event = 'SyncRep'")
		}
	}()
	for server.Try("postgres", "CREATE TABLE seen (); DROP TABLE seen") == nil && ctx.Err() == nil {
	} // until the server waits
	for what, do := range map[string]func() error{
		"put":        func() error { return k.Put(ctx, space, 3, one) },
		"replace":    func() error { return k.Replace(ctx, space, 1, one, two) },
		"destroy":    func() error { return k.DestroyEpoch(ctx, space, 2) },
		"set anchor": func() error { return k.SetAnchor(ctx, space, nil, one) },
	} {
		if err := do(); err == nil {
			t.Errorf("%s: no error, while no standby has it", what)
		}
	}
}

// TestKeysOutage: a server that is away is an outage with a sentence, and never the word that a key is missing.
func TestKeysOutage(t *testing.T) {
	server := pgtest.Start(t)
	k, err := postgres.OpenKeys(t.Context(), postgres.Config{URL: server.Database(t), Patience: short},
		format.RandomID(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	space := format.RandomID()
	if err := k.Put(t.Context(), space, 1, []byte("key")); err != nil {
		t.Fatal(err)
	}
	server.Halt(t)
	_, getErr := k.Get(t.Context(), space, 1)
	_, listErr := k.List(t.Context(), space)
	for what, err := range map[string]error{"get": getErr, "list": listErr,
		"put": k.Put(t.Context(), space, 2, []byte("key")), "destroy": k.DestroyEpoch(t.Context(), space, 1)} {
		if _, ok := errors.AsType[visage.Outage](err); !ok || errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	server.Resume(t)
	for {
		got, err := k.Get(t.Context(), space, 1)
		if _, away := errors.AsType[visage.Outage](err); away && t.Context().Err() == nil {
			continue
		}
		if err != nil || string(got) != "key" {
			t.Errorf("afterwards: %q, %v", got, err)
		}
		break
	}
}

// TestKeyServersThatAreRefused: a server that keeps its write-ahead log keeps what was destroyed.
func TestKeyServersThatAreRefused(t *testing.T) {
	for setting, says := range map[string]string{
		"archive_mode = on":   "archive_mode = on",
		"wal_level = logical": "wal_level = logical",
	} {
		server := pgtest.StartWith(t, pgtest.Options{Settings: []string{setting, "archive_command = '/bin/true'"}})
		k, err := postgres.OpenKeys(t.Context(), postgres.Config{URL: server.Database(t)}, format.RandomID(), nil)
		if err == nil {
			k.Close()
		}
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v", setting, err)
		}
	}
	server := pgtest.Start(t)
	address := server.Database(t)
	k := openKeys(t, address, format.RandomID())
	// What begins later lowers the grade, from the next destruction on.
	server.Exec(t, "postgres", "SELECT pg_create_physical_replication_slot('copy')")
	err := k.DestroyEpoch(t.Context(), format.RandomID(), 1)
	if grade, why := k.Grade(); err != nil || grade != keystore.GradeStore || why != "1 replication slots" {
		t.Errorf("with a slot: grade %s (%s), %v", grade, why, err)
	}
	_, err = postgres.OpenKeys(t.Context(), postgres.Config{URL: address}, format.RandomID(), nil)
	if err == nil || !strings.Contains(err.Error(), "1 replication slots") {
		t.Errorf("with a slot: %v", err)
	}
	server.Exec(t, "postgres", "SELECT pg_drop_replication_slot('copy')")
	data := open(t, postgres.Config{URL: server.Database(t)})
	_, err = postgres.OpenKeys(t.Context(), postgres.Config{URL: address}, format.RandomID(), data)
	if err == nil || !strings.Contains(err.Error(), "the data lies on the same server") {
		t.Errorf("beside the data: %v", err)
	}
	server.Exec(t, name(t, address), "CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA visage_keys TO guest")
	_, err = postgres.OpenKeys(t.Context(), postgres.Config{URL: server.URL("guest", name(t, address))},
		format.RandomID(), nil)
	if err == nil || !strings.Contains(err.Error(), `"guest" does not own the schema`) {
		t.Errorf("as another role: %v", err)
	}
	server.Exec(t, name(t, address), "UPDATE visage_keys.schema SET version = 99")
	_, err = postgres.OpenKeys(t.Context(), postgres.Config{URL: address}, format.RandomID(), nil)
	if newer, ok := errors.AsType[*format.NewerError](err); !ok || newer.Format != 99 {
		t.Errorf("a newer schema: %v", err)
	}
}

// TestKeysThatWereExposed: what was there while somebody else got the log, or while statements were logged, is not
// promised to be gone, also when that is over before it is destroyed; what is put afterwards is.
func TestKeysThatWereExposed(t *testing.T) {
	server := pgtest.Start(t)
	address, instance, space := server.Database(t), format.RandomID(), format.RandomID()
	ctx := t.Context()
	grades := func(k *postgres.Keys, want ...keystore.Grade) {
		t.Helper()
		for i, want := range want {
			if grade, err := k.GradeOf(ctx, space, uint32(i+1)); err != nil || grade != want {
				t.Errorf("epoch %d has %s, %v; want %s", i+1, grade, err, want)
			}
		}
	}
	k := openKeys(t, address, instance)
	if err := k.Put(ctx, space, 1, []byte("one")); err != nil {
		t.Fatal(err)
	}
	grades(k, keystore.GradeDatabase)
	server.Exec(t, name(t, address), "ALTER ROLE CURRENT_USER SET log_statement = 'mod'")
	logs := openKeys(t, address, instance)
	if grade, why := logs.Grade(); grade != keystore.GradeStore || why != "log_statement = mod, which logs keys" {
		t.Errorf("while statements are logged: %s (%s)", grade, why)
	}
	if err := logs.Put(ctx, space, 2, []byte("two")); err != nil {
		t.Fatal(err)
	}
	server.Exec(t, name(t, address), "ALTER ROLE CURRENT_USER RESET log_statement")
	k = openKeys(t, address, instance)
	err := errors.Join(k.Put(ctx, space, 3, []byte("three")), k.DestroyEpoch(ctx, space, 1),
		k.DestroyEpoch(ctx, space, 2), k.DestroyEpoch(ctx, space, 3))
	if err != nil {
		t.Fatal(err)
	}
	grades(k, keystore.GradeStore, keystore.GradeStore, keystore.GradeDatabase)
	grades(openKeys(t, address, instance), keystore.GradeStore, keystore.GradeStore, keystore.GradeDatabase)
	if grade, err := openKeys(t, address, format.RandomID()).GradeOf(ctx, space, 1); grade != keystore.GradeDatabase {
		t.Errorf("of another instance: %s, %v", grade, err)
	}
}

// TestKeysOfTheFirstSchema are there after it was brought to the newest one, by several processes at once.
func TestKeysOfTheFirstSchema(t *testing.T) {
	server := pgtest.Shared(t)
	address, instance, space := server.Database(t), format.RandomID(), format.RandomID()
	if err := openKeys(t, address, instance).Put(t.Context(), space, 1, []byte("one")); err != nil {
		t.Fatal(err)
	}
	server.Exec(t, name(t, address), "DROP TABLE visage_keys.places, visage_keys.exposed; "+
		"UPDATE visage_keys.schema SET version = 1")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			k, err := postgres.OpenKeys(t.Context(), postgres.Config{URL: address}, instance, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer k.Close()
			if got, err := k.Get(t.Context(), space, 1); err != nil || string(got) != "one" {
				t.Errorf("got %q, %v", got, err)
			}
			if _, err := k.Mark(t.Context()); !errors.Is(err, keystore.ErrNotFound) {
				t.Errorf("the mark: %v", err)
			}
		})
	}
	all.Wait()
}
