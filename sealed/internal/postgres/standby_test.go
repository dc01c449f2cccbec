package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/postgres"
	pgtest "github.com/visage-face/visage/test/postgres"
)

// hosts is the URL of a database at several servers.
func hosts(database string, servers ...*pgtest.Server) string {
	var dirs, ports []string
	for _, s := range servers {
		dirs, ports = append(dirs, s.Dir), append(ports, strconv.Itoa(s.Port))
	}
	u := url.URL{Scheme: "postgres", User: url.User(pgtest.Superuser), Path: "/" + database, RawQuery: url.Values{
		"host": {strings.Join(dirs, ",")}, "port": {strings.Join(ports, ",")},
	}.Encode()}
	return u.String()
}

// readWith is a View, or a Read, that looks for a row.
type readWith func(ctx context.Context, fn func(engine.Reader) error) error

func (with readWith) has(t *testing.T, key string) (there bool, err error) {
	err = with(t.Context(), func(r engine.Reader) (err error) {
		_, there, err = r.Get([]byte(key))
		return err
	})
	return there, err
}

// TestStandbyIsPassedOver has the first host of several come back as a standby that is behind: nobody reads there.
func TestStandbyIsPassedOver(t *testing.T) {
	primary := pgtest.Start(t)
	address := primary.Database(t)
	direct := open(t, postgres.Config{URL: address})
	standby := primary.Standby(t)
	standby.ShutDown(t)
	e := open(t, postgres.Config{URL: hosts(name(t, address), standby, primary)})
	standby.Resume(t)
	standby.Exec(t, "postgres", "SELECT pg_wal_replay_pause()")
	for standby.Exec(t, "postgres", "SELECT pg_get_wal_replay_pause_state()") != "paused" {
	}
	if err := write(t, direct, "a", 1); err != nil {
		t.Fatal(err)
	}
	for _, with := range []readWith{e.View, e.Read} {
		terminate(t, primary, address)
		if there, err := with.has(t, "a"); err != nil || !there {
			t.Errorf("a row that was written before: %t, %v", there, err)
		}
	}
	terminate(t, primary, address)
	if err := write(t, e, "b", 1); err != nil {
		t.Errorf("write: %v", err)
	}
	if err := e.Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
}

// TestAddressThatLeadsToAStandby has the only address of the database lead to a standby: that is an outage.
func TestAddressThatLeadsToAStandby(t *testing.T) {
	primary := pgtest.Start(t)
	database := name(t, primary.Database(t))
	proxy := primary.Proxy(t)
	cfg := postgres.Config{URL: proxy.URL(pgtest.Superuser, database), Patience: short}
	e := open(t, cfg)
	if err := write(t, e, "a", 1); err != nil {
		t.Fatal(err)
	}
	standby := primary.Standby(t)
	proxy.LeadTo(standby)
	for _, with := range []readWith{e.View, e.Read} {
		_, err := with.has(t, "a")
		wantOutage(t, err, "cannot be used at the moment")
	}
	wantOutage(t, write(t, e, "b", 1), "cannot be used at the moment")
	err := e.Ping(t.Context())
	wantOutage(t, err, "cannot be used at the moment")
	if errors.Is(err, engine.ErrReadOnly) {
		t.Errorf("ping: %v, which says that reading goes on", err)
	}
	other, err := postgres.Open(t.Context(), cfg)
	if err == nil {
		other.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "the server is a standby") {
		t.Errorf("open: %v", err)
	}
	primary.ShutDown(t)
	standby.Promote(t)
	recovers(t, e, "b")
	wantRow(t, e, "a", true)
}

// TestSessionThatMovesToAStandby has what the server says of itself change within sessions, as behind a pooler that
// sends reads to standbys.
func TestSessionThatMovesToAStandby(t *testing.T) {
	server := pgtest.Shared(t)
	address := server.Database(t)
	database := name(t, address)
	server.Exec(t, database, `CREATE SCHEMA fake; CREATE TABLE fake.standby AS SELECT false AS yes;
		CREATE FUNCTION fake.pg_is_in_recovery() RETURNS bool LANGUAGE sql AS 'SELECT yes FROM fake.standby'`)
	server.Exec(t, "postgres", "ALTER DATABASE "+database+" SET search_path = fake, pg_catalog")
	t.Cleanup(func() {
		server.Exec(t, "postgres", "ALTER DATABASE "+database+" RESET search_path")
		server.Exec(t, database, "DROP SCHEMA fake CASCADE")
	})
	e := open(t, postgres.Config{URL: address, Patience: short})
	if err := write(t, e, "a", 1); err != nil {
		t.Fatal(err)
	}
	for _, with := range []readWith{e.View, e.Read} {
		server.Exec(t, database, "UPDATE fake.standby SET yes = true")
		there, err := with.has(t, "a")
		wantOutage(t, err, "cannot be used at the moment")
		if there {
			t.Error("it reads what a standby has")
		}
		server.Exec(t, database, "UPDATE fake.standby SET yes = false")
		recovers(t, e, "a")
		wantRow(t, e, "a", true)
	}
}

func TestURLsThatMayLeadToAStandby(t *testing.T) {
	const address = "postgres://visage@/visage?host=/run/a,/run/b&target_session_attrs="
	for attribute, ok := range map[string]bool{
		"": true, "primary": true, "read-write": true, "any": false, "read-only": false, "standby": false,
		"prefer-standby": false,
	} {
		err := postgres.CheckURL(strings.TrimSuffix(address+attribute, "&target_session_attrs="))
		if (err == nil) != ok || !ok && !strings.Contains(err.Error(), "standby, whose data are old") {
			t.Errorf("target_session_attrs=%s: %v", attribute, err)
		}
	}
}
