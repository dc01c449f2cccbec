package sealed_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/test/postgres"
)

// TestDatabaseOfYesterday puts a whole database back as it was, as a recovery to an earlier moment does: what changed
// since is refused until the operator accepts it. An instance with another root leaves it alone.
func TestDatabaseOfYesterday(t *testing.T) {
	server := postgres.Shared(t)
	cfg := config(t, "postgres")
	cfg.AnchorDir = filepath.Join(t.TempDir(), "anchors")
	u, err := url.Parse(cfg.Engine)
	if err != nil {
		t.Fatal(err)
	}
	database := strings.TrimPrefix(u.Path, "/")
	within := func(do func(s *sealed.Store)) {
		t.Helper()
		s := open(t, cfg)
		do(s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	within(func(s *sealed.Store) {
		put(t, create(t, s, spaceA), "a", note{"1", "one"})
		create(t, s, spaceB)
	})
	yesterday := server.Dump(t, database)
	within(func(s *sealed.Store) { put(t, s.Space(spaceA), "a", note{"2", "two"}) })

	another := cfg
	another.Protectors = []sealed.Protector{{Name: "test", Kind: "fake", Source: protector(t)}}
	another.KeyDir, another.AnchorDir = t.TempDir(), ""
	_, err = sealed.Open(t.Context(), another)
	if _, ok := errors.AsType[*sealed.RootError](err); !ok {
		t.Errorf("an instance with another root: %v", err)
	}

	server.Exec(t, database, "SET client_min_messages = warning; DROP SCHEMA visage CASCADE")
	server.Exec(t, database, yesterday)
	if _, err := sealed.Open(t.Context(), cfg); !errors.Is(err, sealed.ErrOtherCopy) {
		t.Errorf("a database that is older than the place of its keys: %v", err)
	}
	var accepted []sealed.Event
	cfg.AcceptRollback, cfg.Report = true, func(e sealed.Event) {
		if e.Kind == sealed.RollbackAccepted {
			accepted = append(accepted, e)
		}
	}
	within(func(s *sealed.Store) {
		if err := s.Space(spaceB).View(t.Context(), func(sealed.Reader) error { return nil }); err != nil {
			t.Errorf("a space that has not changed since: %v", err)
		}
		if len(accepted) != 1 || !errors.Is(accepted[0].Err, sealed.ErrOtherCopy) {
			t.Errorf("accepted: %+v", accepted)
		}
		if got := fmt.Sprint(all(t, s.Space(spaceA), "a")); got != "map[1:one]" {
			t.Errorf("after it was accepted: %s", got)
		}
		if len(accepted) != 2 || accepted[1].Space != spaceA || !errors.Is(accepted[1].Err, sealed.ErrRollback) {
			t.Errorf("accepted: %+v", accepted)
		}
	})
}

// cutting ends all sessions of a database, once, when what is read from it reaches the middle.
type cutting struct {
	io.Reader
	left int
	cut  func()
}

func (c *cutting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if c.left -= n; c.left <= 0 && c.cut != nil {
		c.cut()
		c.cut = nil
	}
	return n, err
}

// TestRestoreIntoADatabaseThatEndsItsSessions writes again what may not have been written.
func TestRestoreIntoADatabaseThatEndsItsSessions(t *testing.T) {
	from := config(t, "memory")
	s := open(t, from)
	sp := create(t, s, spaceA)
	var want []note
	for i := range 3_000 {
		want = append(want, note{strconv.Itoa(i), strings.Repeat("text ", 800)})
	}
	put(t, sp, "a", want...)
	b := save(t, s)
	to := config(t, "postgres")
	to.Protectors = from.Protectors
	server := postgres.Shared(t)
	u, err := url.Parse(to.Engine)
	if err != nil {
		t.Fatal(err)
	}
	err = sealed.Restore(t.Context(), to, bytes.NewReader(b.keyring),
		&cutting{bytes.NewReader(b.data), len(b.data) / 2, func() {
			server.Exec(t, "postgres", fmt.Sprintf("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "+
				"WHERE datname = '%s'", strings.TrimPrefix(u.Path, "/")))
		}})
	if err != nil {
		t.Fatal(err)
	}
	r := open(t, to)
	if got := all(t, r.Space(spaceA), "a"); len(got) != len(want) || got["2999"] != want[2999].Text {
		t.Errorf("%d records are there, want %d", len(got), len(want))
	}
	verifyClean(t, r)
}
