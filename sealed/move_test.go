package sealed_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/visage-face/visage/sealed"
)

// TestMove moves a store into a database and back to a disk, with an interruption on each way, and opens it there.
func TestMove(t *testing.T) {
	const records = 6_000
	first, database, last := config(t, "pebble"), config(t, "postgres"), config(t, "pebble")
	database.KeyDir, database.Protectors = first.KeyDir, first.Protectors
	last.KeyDir, last.Protectors = first.KeyDir, first.Protectors
	s := open(t, first)
	sp := create(t, s, spaceA)
	var list []note
	for i := range records {
		list = append(list, note{fmt.Sprint(i), "text"})
	}
	put(t, sp, "a", list...)
	if _, err := sealed.Move(t.Context(), first, database, nil); !errors.Is(err, sealed.ErrInUse) {
		t.Errorf("a store that is open: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var digest [32]byte
	for i, way := range [][2]sealed.Config{{first, database}, {database, last}} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := sealed.Move(ctx, way[0], way[1], func(sealed.Moved) { cancel() }) // there are several parts
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("way %d: interrupted: %v", i, err)
		}
		if s, err := sealed.Open(t.Context(), way[1]); err == nil {
			s.Close()
			t.Errorf("way %d: what is left of an interrupted move opens as a store", i)
		}
		moved, err := sealed.Move(t.Context(), way[0], way[1], nil)
		if err != nil || moved.Records < records || moved.Found == 0 || moved.Found >= moved.Records {
			t.Fatalf("way %d: %+v, %v", i, moved, err)
		}
		if again, err := sealed.Move(t.Context(), way[0], way[1], nil); err != nil || again.Found != moved.Records {
			t.Errorf("way %d: moved again: %+v, %v", i, again, err)
		}
		if i == 1 && moved.Digest != digest {
			t.Errorf("moved back, the records have another digest")
		}
		digest = moved.Digest
	}
	s = open(t, last)
	if got := all(t, s.Space(spaceA), "a"); len(got) != records {
		t.Errorf("%d records after two moves, want %d", len(got), records)
	}
	verifyClean(t, s)
}

func TestMoveRefuses(t *testing.T) {
	from, other := config(t, "pebble"), config(t, "pebble")
	for _, cfg := range []sealed.Config{from, other} {
		s := open(t, cfg)
		put(t, create(t, s, spaceA), "a", note{"1", "one"})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	missing, empty := config(t, "pebble"), config(t, "memory")
	missing.Engine = sealed.Pebble(filepath.Join(t.TempDir(), "none"))
	for what, c := range map[string]struct {
		from, to sealed.Config
		want     error
	}{
		"another store in the target": {from, other, sealed.ErrNotMovable},
		"no source":                   {missing, empty, fs.ErrNotExist},
		"no store in the source":      {config(t, "memory"), empty, fs.ErrNotExist},
	} {
		if _, err := sealed.Move(t.Context(), c.from, c.to, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", what, err, c.want)
		}
	}
	s := open(t, other)
	if got := fmt.Sprint(all(t, s.Space(spaceA), "a")); got != "map[1:one]" {
		t.Errorf("the store in the target has %s", got)
	}
}

// TestMoveOfADatabaseInUse moves from a database that a server has open.
func TestMoveOfADatabaseInUse(t *testing.T) {
	cfg := config(t, "postgres")
	cfg.Shared = true
	s := open(t, cfg)
	create(t, s, spaceA)
	if _, err := sealed.Move(t.Context(), cfg, config(t, "memory"), nil); !errors.Is(err, sealed.ErrInUse) {
		t.Errorf("got %v, want that a server works with it", err)
	}
}
