package prove_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/keysource/file"
	"github.com/visage-face/visage/sealed"
)

// fill creates a store under dir, writes things to it, opens it again so that they are in the engine's tables as well
// as its log, and returns them by id and token.
func fill(t *testing.T, dir string, count int) map[string]string {
	t.Helper()
	want := make(map[string]string)
	for half := range 2 {
		store, err := openStore(t.Context(), dir)
		if err != nil {
			t.Fatalf("open the store: %v", err)
		}
		space, err := openSpace(t.Context(), store)
		if err != nil {
			t.Fatalf("open the space: %v", err)
		}
		for i := half * count / 2; i < (half+1)*count/2; i++ {
			id, token := fmt.Sprintf("thing-%05d", i), fmt.Sprintf("canary-%05d", i)
			err := space.Update(t.Context(), func(tx sealed.Tx) error {
				for _, table := range []sealed.Table[thing]{things, twins} {
					if err := table.In(container(0)).
						Put(tx, id, thing{ID: id, Token: token, Text: expand(token)}); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatalf("write a thing: %v", err)
			}
			want[id] = token
		}
		if err := store.Close(); err != nil {
			t.Fatalf("close the store: %v", err)
		}
	}
	return want
}

// TestStolenDataOpensNothing takes copies of the disk as thieves would, each lacking something, and checks that they do
// not open and contain nothing readable.
func TestStolenDataOpensNothing(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 500)

	searchDisk(t, dir, []string{"canary-", "thing-", container(0), "prove/things"})

	for _, theft := range []struct {
		name  string
		taken []string // of dir
		key   string   // the replacement of the root key: "none", "another"
		want  string   // part of the error
	}{
		{"data alone, no key", []string{"data"}, "none", "root.key"},
		{"data alone, another key", []string{"data"}, "another", "root"},
		{"data and epoch keys, no root key", []string{"data", "keys"}, "none", "root.key"},
		{"data and epoch keys, another root key", []string{"data", "keys"}, "another", "root"},
	} {
		t.Run(theft.name, func(t *testing.T) {
			loot := t.TempDir()
			for _, part := range theft.taken {
				if err := os.CopyFS(filepath.Join(loot, part), os.DirFS(filepath.Join(dir, part))); err != nil {
					t.Fatalf("copy %s: %v", part, err)
				}
			}
			data, keys := filepath.Join(loot, "data"), filepath.Join(loot, "keys")
			if err := os.MkdirAll(keys, 0o700); err != nil {
				t.Fatalf("make a directory: %v", err)
			}
			rootKey := filepath.Join(keys, "root.key")
			if err := os.Remove(rootKey); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("leave the root key behind: %v", err)
			}
			source, err := file.New(rootKey, data)
			if err != nil {
				t.Fatalf("name the root key: %v", err)
			}
			if theft.key == "another" {
				if err := source.Create(); err != nil {
					t.Fatalf("make another root key: %v", err)
				}
			}
			store, err := sealed.Open(t.Context(), sealed.Config{
				Engine: "pebble:" + data, KeyDir: keys,
				Protectors: []sealed.Protector{{Name: "file", Kind: "file", Source: source}},
			})
			if err == nil {
				t.Fatalf("the store opened: %v", store.Close())
			}
			if _, ok := errors.AsType[*sealed.RootError](err); !ok || !strings.Contains(err.Error(), theft.want) {
				t.Fatalf("the error is %q, which does not contain %q", err, theft.want)
			}
		})
	}
}

// TestLostEpochKeysOpenNothing keeps the root key and loses the epoch keys: then no data opens, deleted or not.
func TestLostEpochKeysOpenNothing(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 50)
	entries, err := os.ReadDir(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatalf("read the key directory: %v", err)
	}
	removed := 0
	for _, e := range entries {
		if e.Name() == "root.key" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, "keys", e.Name())); err != nil {
			t.Fatalf("remove an epoch key: %v", err)
		}
		removed++
	}
	if removed == 0 {
		t.Fatal("no epoch keys beside the root key")
	}
	if found, err := readStore(t.Context(), dir); err == nil {
		t.Fatalf("%d things opened without their epoch key", len(found))
	}
}

// TestFlippedByteIsNeverWrongData changes single bits of the engine's files. In a table of the engine that is always an
// error, in its log usually. Near the end of the log the engine treats damage as a write that a crash cut off: it drops
// the rest silently, which leaves an earlier state. Only an anchor outside of the store can distinguish that from a
// crash; this test checks that it is never more.
func TestFlippedByteIsNeverWrongData(t *testing.T) {
	r := chance(t)
	dir := t.TempDir()
	want := fill(t, dir, 2000)
	files := storedFiles(t, filepath.Join(dir, "data"))
	if found, err := readStore(t.Context(), copyStore(t, dir)); err != nil || !maps.Equal(found, want) {
		t.Fatalf("a copy without damage gives %d of %d things, %v", len(found), len(want), err)
	}
	noticed, silent := make(map[string]int), make(map[string]int)
	for range rounds(t, 25) {
		damaged := copyStore(t, dir)
		name, offset, bit := flip(t, filepath.Join(damaged, "data"), files, r)
		found, err := readStore(t.Context(), damaged)
		kind := filepath.Ext(name)
		if err != nil {
			noticed[kind]++
			continue
		}
		silent[kind]++
		for id, token := range found {
			if want[id] != token {
				t.Fatalf("bit %d of byte %d of %s flipped: thing %s reads %q, want %q", bit, offset, name, id, token,
					want[id])
			}
		}
		if kind == ".log" {
			for i := range len(found) {
				if _, ok := found[fmt.Sprintf("thing-%05d", i)]; !ok {
					t.Fatalf("bit %d of byte %d of %s flipped: thing %d is lost but later ones are there", bit, offset,
						name, i)
				}
			}
			continue
		}
		if len(found) != len(want) {
			t.Errorf("bit %d of byte %d of %s flipped: %d of %d things, and no error", bit, offset, name, len(found),
				len(want))
		}
	}
	t.Logf("flips noticed, by kind of file: %v; not noticed: %v", noticed, silent)
}

// copyStore copies a store with its keys, which remain readable by their owner only.
func copyStore(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatalf("copy the store: %v", err)
	}
	err := filepath.WalkDir(filepath.Join(to, "keys"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatalf("protect the copied keys: %v", err)
	}
	return to
}

// readStore opens a store and reads everything in it.
func readStore(ctx context.Context, dir string) (found map[string]string, err error) {
	store, err := openStore(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return readThings(ctx, store.Space(proveSpace), 0)
}

// storedFiles lists the engine's files with rows, and their sizes.
func storedFiles(t *testing.T, data string) map[string]int64 {
	t.Helper()
	files := make(map[string]int64)
	err := filepath.WalkDir(data, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if ext := filepath.Ext(path); (ext == ".sst" || ext == ".log") && info.Size() > 0 {
			name, err := filepath.Rel(data, path)
			if err != nil {
				return err
			}
			files[name] = info.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatalf("list the engine's files: %v", err)
	}
	if len(files) < 2 {
		t.Fatalf("the engine's files are %v: want at least a table and a log", files)
	}
	return files
}

// flip changes one random bit of one of the files.
func flip(t *testing.T, data string, files map[string]int64, r *rand.Rand) (name string, offset int64, bit int) {
	t.Helper()
	n := r.IntN(len(files))
	for _, candidate := range sortedKeys(files) {
		if n == 0 {
			name = candidate
		}
		n--
	}
	offset, bit = r.Int64N(files[name]), r.IntN(8)
	f, err := os.OpenFile(filepath.Join(data, name), os.O_RDWR, 0)
	if err != nil {
		t.Fatalf("damage %s: %v", name, err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], offset); err != nil {
		t.Fatalf("damage %s: %v", name, err)
	}
	b[0] ^= 1 << bit
	if _, err := f.WriteAt(b[:], offset); err != nil {
		t.Fatalf("damage %s: %v", name, err)
	}
	return name, offset, bit
}
