package sealed_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/test/postgres"
)

type note struct {
	ID   string
	Text string
}

var notes = sealed.NewTable[note]("notes", 1)

var spaceA = sealed.SpaceID{1, 2, 3}

// onPostgres has the suite run over PostgreSQL in place of the embedded engines: VISAGE_TEST_ENGINE=postgres.
var onPostgres = os.Getenv("VISAGE_TEST_ENGINE") == "postgres"

// engines are the configurations every behaviour must hold on.
func engines(t *testing.T, run func(t *testing.T, cfg sealed.Config)) {
	t.Helper()
	names := []string{"memory", "pebble"}
	if onPostgres {
		names = []string{"postgres"}
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) { run(t, config(t, name)) })
	}
}

// config returns the configuration of an empty store: over "memory", "pebble", "postgres", or "lasting", which is the
// one of the last two that the run is about.
func config(t *testing.T, engine string) sealed.Config {
	t.Helper()
	if engine == "lasting" {
		engine = "pebble"
		if onPostgres {
			engine = "postgres"
		}
	}
	cfg := sealed.Config{Engine: "memory:",
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: protector(t)}}}
	if engine == "pebble" {
		dir := t.TempDir()
		cfg.Engine, cfg.KeyDir = "pebble:"+filepath.Join(dir, "data"), filepath.Join(dir, "keys")
	}
	if engine == "postgres" {
		cfg.Engine, cfg.KeyDir = postgres.Shared(t).Database(t), t.TempDir()
	}
	return cfg
}

func protector(t *testing.T) keysource.Source {
	t.Helper()
	return sourcetest.NewFake("test")
}

func open(t *testing.T, cfg sealed.Config) *sealed.Store {
	t.Helper()
	s, err := sealed.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}

func create(t *testing.T, s *sealed.Store, id sealed.SpaceID) *sealed.Space {
	t.Helper()
	if err := s.Spaces().Create(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	return s.Space(id)
}

func update(t *testing.T, sp *sealed.Space, fn func(tx sealed.Tx) error) {
	t.Helper()
	if err := sp.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, sp *sealed.Space, parent string, list ...note) {
	t.Helper()
	update(t, sp, func(tx sealed.Tx) error {
		for _, n := range list {
			if err := notes.In(parent).Put(tx, n.ID, n); err != nil {
				return err
			}
		}
		return nil
	})
}

func all(t *testing.T, sp *sealed.Space, parent string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := sp.View(t.Context(), func(r sealed.Reader) error {
		for n, err := range notes.In(parent).All(r) {
			if err != nil {
				return err
			}
			got[n.ID] = n.Text
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestRecordsLiveInContainers(t *testing.T) {
	engines(t, func(t *testing.T, cfg sealed.Config) {
		sp := create(t, open(t, cfg), spaceA)
		put(t, sp, "a", note{"1", "one"}, note{"2", "two"})
		put(t, sp, "b", note{"1", "uno"})
		put(t, sp, "a", note{"2", "two, again"})
		if got := fmt.Sprint(all(t, sp, "a"), all(t, sp, "b")); got != "map[1:one 2:two, again] map[1:uno]" {
			t.Fatalf("got %s", got)
		}
		update(t, sp, func(tx sealed.Tx) error { return notes.In("a").Delete(tx, "1") })
		err := sp.View(t.Context(), func(r sealed.Reader) error {
			_, err := notes.In("a").Get(r, "1")
			return err
		})
		if !errors.Is(err, sealed.ErrNotFound) {
			t.Fatalf("get of a deleted record: %v, want %v", err, sealed.ErrNotFound)
		}
		if err := notes.In("a").Drop(t.Context(), sp); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(all(t, sp, "a"), all(t, sp, "b")); got != "map[] map[1:uno]" {
			t.Fatalf("after drop: got %s", got)
		}
	})
}

func TestTransactionsReadTheirWritesAndRollBack(t *testing.T) {
	engines(t, func(t *testing.T, cfg sealed.Config) {
		sp := create(t, open(t, cfg), spaceA)
		put(t, sp, "a", note{"1", "one"})
		if err := sp.Fold(t.Context()); err != nil {
			t.Fatal(err)
		}
		stop := errors.New("stop")
		err := sp.Update(t.Context(), func(tx sealed.Tx) error {
			c := notes.In("a")
			if err := errors.Join(c.Delete(tx, "1"), c.Put(tx, "2", note{"2", "two"})); err != nil {
				return err
			}
			if _, err := c.Get(tx, "1"); !errors.Is(err, sealed.ErrNotFound) {
				t.Errorf("deleted in this transaction: %v", err)
			}
			if err := c.Put(tx, "1", note{"1", "again"}); err != nil {
				return err
			}
			n := 0
			for v, err := range c.All(tx) {
				if err != nil {
					return err
				}
				if v.Text != "again" && v.Text != "two" {
					t.Errorf("All shows %v", v)
				}
				n++
			}
			if n != 2 {
				t.Errorf("All shows %d records, want 2", n)
			}
			return stop
		})
		if !errors.Is(err, stop) {
			t.Fatalf("got %v, want what the function returned", err)
		}
		if got := fmt.Sprint(all(t, sp, "a")); got != "map[1:one]" {
			t.Fatalf("after a rollback: %s", got)
		}
	})
}

func TestManyRecordsFoldAndSurviveRestart(t *testing.T) {
	cfg := config(t, "lasting")
	want := map[string]string{}
	func() {
		s := open(t, cfg)
		defer s.Close()
		sp := create(t, s, spaceA)
		for round := range 6 {
			var list []note
			for i := range 1_500 {
				n := note{fmt.Sprint(round*1_000 + i), strings.Repeat("x", i%90) + fmt.Sprint(round)}
				want[n.ID] = n.Text
				list = append(list, n)
			}
			put(t, sp, "a", list...)
			if round%2 == 0 {
				if err := sp.Fold(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			update(t, sp, func(tx sealed.Tx) error {
				for i := range 100 {
					id := fmt.Sprint(round*1_000 + i*7)
					delete(want, id)
					if err := notes.In("a").Delete(tx, id); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}()
	s := open(t, cfg)
	sp := s.Space(spaceA)
	for range 2 {
		got := all(t, sp, "a")
		if len(got) != len(want) {
			t.Fatalf("got %d records, want %d", len(got), len(want))
		}
		for id, text := range want {
			if got[id] != text {
				t.Fatalf("record %s: got %q, want %q", id, got[id], text)
			}
		}
		tally, err := s.Maintenance().Verify(t.Context(), func(f sealed.Finding) { t.Error(f.Err) })
		if err != nil || tally.Records != len(want) || tally.Findings != 0 {
			t.Fatalf("verify: %+v, %v, want %d records", tally, err, len(want))
		}
		if err := sp.Fold(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLockedSpaceAnswersNothingAndOpensAgain(t *testing.T) {
	engines(t, func(t *testing.T, cfg sealed.Config) {
		s := open(t, cfg)
		sp := create(t, s, spaceA)
		put(t, sp, "a", note{"1", "one"})
		lease := sp.Lease()
		cause := errors.New("the key was refused")
		s.Bundle(spaceA).Lock(cause)
		if err := context.Cause(lease); !errors.Is(err, cause) {
			t.Errorf("cause of the lease's end: %v, want %v", err, cause)
		}
		if err := sp.View(t.Context(), func(sealed.Reader) error { return nil }); !errors.Is(err, sealed.ErrLocked) ||
			!errors.Is(err, cause) {
			t.Errorf("View of a locked space: %v", err)
		}
		if err := sp.Update(t.Context(), func(sealed.Tx) error { return nil }); !errors.Is(err, sealed.ErrLocked) {
			t.Errorf("Update of a locked space: %v", err)
		}
		if err := s.Bundle(spaceA).Load(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(all(t, sp, "a")); got != "map[1:one]" || sp.Lease().Err() != nil {
			t.Errorf("after Load: %s, lease %v", got, sp.Lease().Err())
		}
	})
}
