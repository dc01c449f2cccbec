package archive_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/sealed/archive"
	"github.com/visage-face/visage/sealed/internal/stream"
)

// rows makes a backup stream of rows with random-looking keys; those whose number is in changed have another value.
func rows(t *testing.T, n int, at time.Time, changed ...int) []byte {
	t.Helper()
	random := rand.NewChaCha8([32]byte{1})
	return written(t, n, at, func(i int) (key, value []byte) {
		key, value = make([]byte, 49), make([]byte, 1000)
		random.Read(key)
		random.Read(value)
		for _, c := range changed {
			if c == i {
				value[0]++
			}
		}
		return key, value
	})
}

// written makes a backup stream of n rows.
func written(t *testing.T, n int, at time.Time, row func(i int) (key, value []byte)) []byte {
	t.Helper()
	var out bytes.Buffer
	head := stream.Header{Content: stream.Data, Instance: "abc", Taken: at}
	_, err := stream.Write(t.Context(), &out, make([]byte, 32), head, func(add func(stream.Frame) error) error {
		for i := range n {
			key, value := row(i)
			if err := add(stream.Frame{Kind: stream.Row, Key: key, Value: value}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func open(t *testing.T) (*archive.Archive, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "archive")
	a, err := archive.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return a, dir
}

func add(t *testing.T, a *archive.Archive, b []byte) archive.Added {
	t.Helper()
	added, err := a.Add(t.Context(), bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return added
}

func chunks(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "chunks"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestBackupsShareWhatDidNotChange: what comes out is what went in, byte for byte, and a second backup costs what
// changed.
func TestBackupsShareWhatDidNotChange(t *testing.T) {
	a, dir := open(t)
	day := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	first, second := rows(t, 40_000, day), rows(t, 40_000, day.Add(24*time.Hour), 17, 30_000)
	one := add(t, a, first)
	two := add(t, a, second)
	if one.NewChunks < 5 || one.NewChunks != len(one.Chunks) || two.NewChunks < 1 || two.NewChunks > 2 {
		t.Errorf("the first took %d new chunks of %d, the second %d", one.NewChunks, len(one.Chunks), two.NewChunks)
	}
	a, err := archive.Open(dir) // another process
	if err != nil {
		t.Fatal(err)
	}
	all, err := a.List()
	if err != nil || len(all) != 2 {
		t.Fatalf("%d backups, %v", len(all), err)
	}
	for i, want := range [][]byte{first, second} {
		got, err := io.ReadAll(a.Read(all[i]))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("backup %d: %d bytes, want %d, %v", i, len(got), len(want), err)
		}
		if err := a.Verify(t.Context(), all[i]); err != nil {
			t.Error(err)
		}
	}
	if latest, err := a.Backup("latest"); err != nil || latest.Name != two.Name {
		t.Errorf("the latest is %s, %v", latest.Name, err)
	}
	gone, bytesGone, err := a.Prune(1)
	if err != nil || gone != 1 || bytesGone == 0 {
		t.Errorf("pruned %d backups, %d bytes, %v", gone, bytesGone, err)
	}
	latest, err := a.Backup("latest")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Verify(t.Context(), latest); err != nil {
		t.Errorf("after pruning: %v", err)
	}
	if files := chunks(t, dir); len(files) != len(two.Chunks) {
		t.Errorf("%d chunks are left of %d", len(files), len(two.Chunks))
	}
	if _, err := a.Backup(one.Name); !errors.Is(err, archive.ErrNoBackup) {
		t.Errorf("the pruned backup: %v", err)
	}
}

func TestDamageIsFound(t *testing.T) {
	a, dir := open(t)
	b := add(t, a, rows(t, 10_000, time.Unix(1, 0))).Backup
	files := chunks(t, dir)
	for name, damage := range map[string]func(path string, content []byte) error{
		"changed": func(p string, c []byte) error {
			c[len(c)/2] ^= 1
			return os.WriteFile(p, c, 0o600)
		},
		"cut":     func(p string, c []byte) error { return os.WriteFile(p, c[:len(c)-1], 0o600) },
		"missing": func(p string, _ []byte) error { return os.Remove(p) },
	} {
		t.Run(name, func(t *testing.T) {
			content, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			defer os.WriteFile(files[0], content, 0o600)
			if err := damage(files[0], bytes.Clone(content)); err != nil {
				t.Fatal(err)
			}
			if err := a.Verify(t.Context(), b); !errors.Is(err, archive.ErrDamaged) {
				t.Errorf("got %v", err)
			}
			if _, err := io.ReadAll(a.Read(b)); !errors.Is(err, archive.ErrDamaged) {
				t.Errorf("reading: %v", err)
			}
		})
	}
	swapped := b
	swapped.Chunks = append([]archive.Chunk{b.Chunks[1], b.Chunks[0]}, b.Chunks[2:]...)
	swapped.Rows++
	if err := a.Verify(t.Context(), swapped); !errors.Is(err, archive.ErrDamaged) {
		t.Errorf("a list that was changed: %v", err)
	}
	if err := a.Verify(t.Context(), b); err != nil {
		t.Errorf("mended: %v", err)
	}
}

func TestWhatIsNoBackupIsNotAdded(t *testing.T) {
	a, dir := open(t)
	whole := rows(t, 60_000, time.Unix(1, 0))
	for name, b := range map[string][]byte{"nothing": nil, "something else": []byte(strings.Repeat("x", 100)),
		"most of one": whole[:len(whole)*9/10]} {
		if _, err := a.Add(t.Context(), bytes.NewReader(b)); !errors.Is(err, archive.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if all, err := a.List(); err != nil || len(all) != 0 {
		t.Errorf("%d backups are listed, %v", len(all), err)
	}
	// Of the chunks before the cut, at most ten were on their way.
	if added := add(t, a, whole); added.NewChunks == len(added.Chunks) {
		t.Error("what the interrupted backup had written is not used")
	}
	for _, name := range []string{"", "..", "../backups/x", "none"} {
		if _, err := a.Backup(name); !errors.Is(err, archive.ErrNoBackup) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := archive.Open(filepath.Dir(dir)); !errors.Is(err, archive.ErrNotArchive) {
		t.Errorf("a folder with something in it: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "visage-archive"), []byte("visage archive 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := archive.Open(dir)
	if newer, ok := errors.AsType[*archive.NewerError](err); !ok || newer.Format != 3 || newer.Known != 2 {
		t.Errorf("an archive of a later format: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "visage-archive"), []byte("visage archive x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Open(dir); !errors.Is(err, archive.ErrNotArchive) {
		t.Errorf("an archive of no format: %v", err)
	}
}

// TestManyChunksKeepTheirOrder cuts by size where keys do not.
func TestManyChunksKeepTheirOrder(t *testing.T) {
	a, _ := open(t)
	whole := written(t, 40, time.Unix(1, 0),
		func(i int) (key, value []byte) { return fmt.Append(nil, i), bytes.Repeat([]byte{byte(i)}, 1<<20) })
	b := add(t, a, whole)
	if got, err := io.ReadAll(a.Read(b.Backup)); err != nil || !bytes.Equal(got, whole) || len(b.Chunks) < 5 {
		t.Errorf("%d bytes of %d in %d chunks, %v", len(got), len(whole), len(b.Chunks), err)
	}
}
