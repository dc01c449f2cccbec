package sealed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// texts returns the texts of notes in plaintexts of any containers.
func holds(plaintexts [][]byte, text string) bool {
	return slices.ContainsFunc(plaintexts, func(p []byte) bool { return bytes.Contains(p, []byte(text)) })
}

func erase(t *testing.T, sp *sealed.Space, parent string, ids ...string) sealed.Receipt {
	t.Helper()
	r, err := sp.Erase(t.Context(), func(tx sealed.Tx) error {
		for _, id := range ids {
			if err := notes.In(parent).Delete(tx, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestWhatWasErasedOpensInNoCopy keeps a copy of every row after each of many random steps, and in the end tries every
// key that still exists on all of them, with every key that this brings: whoever lives is found, whoever was erased is
// not, in none of the copies.
func TestWhatWasErasedOpensInNoCopy(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 3))
	ctx := t.Context()
	cfg := config(t, "lasting")
	s := open(t, cfg)
	s.SmallPages()
	sp := create(t, s, spaceA)
	loot := sealed.NewLoot()
	alive, gone := map[string]string{}, map[string]bool{} // text by container and id
	name := func(parent, id string) string { return parent + "/" + id }
	for round := range 60 {
		parent := []string{"x", "y", "z"}[random.IntN(3)]
		switch random.IntN(10) {
		case 0:
			if err := sp.Fold(ctx); err != nil {
				t.Fatal(err)
			}
		case 1:
			if err := notes.In(parent).Drop(ctx, sp); err != nil {
				t.Fatal(err)
			}
			for key := range alive {
				if strings.HasPrefix(key, parent+"/") {
					gone[alive[key]] = true
					delete(alive, key)
				}
			}
		case 2:
			b := s.Bundle(spaceA)
			generation, err := b.Wrap(ctx, nil)
			if err == nil {
				err = errors.Join(b.Turn(ctx, generation, nil), b.Retire(ctx, nil))
			}
			if err != nil {
				t.Fatal(err)
			}
		case 3, 4:
			var ids []string
			for key := range alive {
				if of, id, _ := strings.Cut(key, "/"); of == parent && random.IntN(3) == 0 {
					ids = append(ids, id)
				}
			}
			if len(ids) > 0 {
				r := erase(t, sp, parent, ids...)
				if len(r.Erased) != 1 || r.Erased[0].Count != len(ids) || r.Epoch == 0 ||
					r.Grade != sealed.GradeKeyStore {
					t.Fatalf("receipt %+v for %d records", r, len(ids))
				}
			}
			for _, id := range ids {
				gone[alive[name(parent, id)]] = true
				delete(alive, name(parent, id))
			}
		default:
			var list []note
			for range random.IntN(20) {
				id := fmt.Sprint(random.IntN(60))
				n := note{id, fmt.Sprintf("<%s %s %d>", parent, id, round)}
				list = append(list, n)
				// Every version of a record has the same secret: an older text of who lives may be found.
				alive[name(parent, id)] = n.Text
			}
			put(t, sp, parent, list...)
		}
		loot.Copy(t, s)
	}
	update(t, sp, func(tx sealed.Tx) error { return notes.In("x").Put(tx, "last", note{"last", "<x last>"}) })
	alive["x/last"] = "<x last>"
	erase(t, sp, "x", "last")
	gone["<x last>"] = true
	delete(alive, "x/last")

	loot.Keys(t, sp)
	found := loot.Open(t, s, spaceA)
	for _, text := range alive {
		if !holds(found, text) {
			t.Errorf("%s lives and does not open in any copy", text)
		}
	}
	for text := range gone {
		if holds(found, text) {
			t.Errorf("%s was erased and opens", text)
		}
	}
	if len(gone) < 5 || len(alive) == 0 {
		t.Logf("%d erased, %d alive", len(gone), len(alive))
	}
	verifyClean(t, s)
}

// TestTheProofFindsWhatIsThere: without the turn, the same search finds what was deleted.
func TestTheProofFindsWhatIsThere(t *testing.T) {
	s := open(t, config(t, "memory"))
	sp := create(t, s, spaceA)
	put(t, sp, "a", note{"1", "<deleted>"}, note{"2", "<alive>"})
	loot := sealed.NewLoot()
	loot.Copy(t, s)
	update(t, sp, func(tx sealed.Tx) error { return notes.In("a").Delete(tx, "1") })
	loot.Keys(t, sp)
	if found := loot.Open(t, s, spaceA); !holds(found, "<deleted>") || !holds(found, "<alive>") {
		t.Error("the search does not find what the epoch's key still opens")
	}
}

// TestYesterdaysCopyOpensNothingErased copies the whole data directory, erases, and opens the copy with today's key
// directory.
func TestYesterdaysCopyOpensNothingErased(t *testing.T) {
	cfg := config(t, "pebble")
	s := open(t, cfg)
	sp := create(t, s, spaceA)
	put(t, sp, "a", note{"1", "erased later"}, note{"2", "stays"})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(strings.TrimPrefix(cfg.Engine, "pebble:"))); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg)
	erase(t, s.Space(spaceA), "a", "1")
	if got := fmt.Sprint(all(t, s.Space(spaceA), "a")); got != "map[2:stays]" {
		t.Errorf("got %s", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	old := cfg
	old.Engine = "pebble:" + backup
	err := open(t, old).Space(spaceA).View(t.Context(), func(r sealed.Reader) error {
		_, err := notes.In("a").Get(r, "1")
		return err
	})
	if corrupt, ok := errors.AsType[*sealed.CorruptError](err); !ok || corrupt.What != "epoch key" {
		t.Errorf("the old copy: %v, want its epoch key to be gone", err)
	}
}

// TestOldKeyringsEndWithTheKey: an epoch key from before the customer changed keys, or the version of the key, needs
// the data key of that time.
func TestOldKeyringsEndWithTheKey(t *testing.T) {
	ctx := t.Context()
	cfg := config(t, "lasting")
	s := open(t, cfg)
	sp := create(t, s, spaceA)
	put(t, sp, "a", note{"1", "one"})
	b, vault := s.Bundle(spaceA), sourcetest.NewFake("customer")
	file := func() (name string, value []byte) {
		files, err := filepath.Glob(filepath.Join(cfg.KeyDir, "epochs", "*", fmt.Sprintf("%x", spaceA[:]), "*"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%v, %v", files, err)
		}
		if value, err = os.ReadFile(files[0]); err != nil {
			t.Fatal(err)
		}
		return files[0], value
	}
	for name, change := range map[string]func() error{
		"another key": func() error {
			generation, err := b.Wrap(ctx, vault)
			if err == nil {
				err = errors.Join(b.Turn(ctx, generation, vault), b.Retire(ctx, vault))
			}
			return err
		},
		"another version": func() error { return b.Rewrap(ctx, vault) },
	} {
		_, old := file()
		if err := change(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		path, current := file()
		// In place of the current one, under its number too, it does not open.
		for i, value := range [][]byte{old, slices.Concat(old[:4], current[4:8], old[8:])} {
			if err := os.WriteFile(path, value, 0o600); err != nil {
				t.Fatal(err)
			}
			b.Lock(errors.New("read again"))
			if err := b.Load(ctx, vault); !isCorruption(err) {
				t.Errorf("%s, %d: an old epoch key opens: %v", name, i, err)
			}
		}
		if err := os.WriteFile(path, current, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := b.Load(ctx, vault); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(all(t, sp, "a")); got != "map[1:one]" {
		t.Errorf("got %s", got)
	}
}

func isCorruption(err error) bool {
	_, ok := errors.AsType[*sealed.CorruptError](err)
	return ok
}

// TestRunErasesWhatNobodyWaitsFor: what Update deletes is erased as well, and so is what was deleted before a restart.
func TestRunErasesWhatNobodyWaitsFor(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart ", restart), func(t *testing.T) {
			cfg := config(t, "lasting")
			s := open(t, cfg)
			sp := create(t, s, spaceA)
			put(t, sp, "a", note{"1", "one"}, note{"2", "two"})
			update(t, sp, func(tx sealed.Tx) error { return notes.In("a").Delete(tx, "1") })
			if restart {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, cfg)
				sp = s.Space(spaceA)
				if got := fmt.Sprint(all(t, sp, "a")); got != "map[2:two]" {
					t.Fatalf("got %s", got)
				}
			}
			first := epochs(t, cfg)
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- s.Run(ctx) }()
			for {
				if now := epochs(t, cfg); len(now) == 1 && now[0] != first[0] {
					break
				}
				if ctx.Err() != nil {
					t.Fatal("the test ended first")
				}
			}
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
			verifyClean(t, s)
		})
	}
}

// TestErasuresShareTurns: many at once need few turns, and each returns after its own.
func TestErasuresShareTurns(t *testing.T) {
	cfg := config(t, "lasting")
	s := open(t, cfg)
	sp := create(t, s, spaceA)
	const n = 64
	var list []note
	for i := range n {
		list = append(list, note{fmt.Sprint(i), fmt.Sprint(i)})
	}
	put(t, sp, "a", list...)
	failed := make(chan error, n)
	for i := range n {
		go func() {
			_, err := sp.Erase(t.Context(), func(tx sealed.Tx) error { return notes.In("a").Delete(tx, fmt.Sprint(i)) })
			failed <- err
		}()
	}
	for range n {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if got := all(t, sp, "a"); len(got) > 0 {
		t.Errorf("left: %v", maps.Keys(got))
	}
	if list := epochs(t, cfg); len(list) != 1 {
		t.Errorf("epochs %v", list)
	} else {
		t.Logf("%d erasures, epoch %s in the end", n, list[0])
	}
	verifyClean(t, s)
}
