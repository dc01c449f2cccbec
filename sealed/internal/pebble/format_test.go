package pebble_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	engineof "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/engine/enginetest"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/pebble"
)

// pinned is the format of Pebble's files that goes with format 1 of stores.
const pinned = 24

// contents returns the files of a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(dir, n.Name()))
		if err != nil {
			t.Fatal(err)
		}
		found[n.Name()] = string(b)
	}
	return found
}

// TestFormatOfFilesIsPinned: it is what the documents say, whatever the library's newest is, and a directory of a later
// one is refused and left as it is.
func TestFormatOfFilesIsPinned(t *testing.T) {
	dir := t.TempDir()
	e, err := pebble.Open(pebble.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	found, err := engineof.Peek(dir, vfs.Default)
	if err != nil || found.FormatMajorVersion != pinned {
		t.Fatalf("the files have format %d (%v), not %d: docs/formats/versions.md says when that may change",
			found.FormatMajorVersion, err, pinned)
	}
	for name := range contents(t, dir) {
		if strings.HasPrefix(name, "marker.format-version.") {
			later := strings.TrimSuffix(name, filepath.Ext(name)) + ".025"
			if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, later)); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := contents(t, dir)
	_, err = pebble.Open(pebble.Config{Dir: dir})
	if newer, ok := errors.AsType[*format.NewerError](err); !ok || newer.Format != pinned+1 || newer.Known != pinned {
		t.Errorf("a directory of a later format: %v", err)
	}
	if !maps.Equal(contents(t, dir), before) {
		t.Error("the refusal has changed files")
	}
}

// TestWhatIsNotAdmittedStaysAsItIs: Admit sees all rows, those in the log alone among them, and its error keeps
// everything from being changed.
func TestWhatIsNotAdmittedStaysAsItIs(t *testing.T) {
	dir := t.TempDir()
	asked := 0
	never := func(engine.Reader) error { asked++; return nil }
	e, err := pebble.Open(pebble.Config{Dir: dir, Admit: never})
	if err != nil || asked != 0 {
		t.Fatalf("a new directory: %v, asked %d times", err, asked)
	}
	key := []byte("key")
	if err := e.Update(t.Context(),
		func(w engine.Writer) error { return w.Put(key, format.AuthInstance(make([]byte, 32), nil)) }); err != nil {
		t.Fatal(err)
	}
	unclean := t.TempDir() // as a killed process leaves it: the row is in the log alone
	for name, b := range contents(t, dir) {
		if err := os.WriteFile(filepath.Join(unclean, name), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("not this one")
	for what, dir := range map[string]string{"closed": dir, "killed": unclean} {
		before := contents(t, dir)
		_, err := pebble.Open(pebble.Config{Dir: dir, Admit: func(r engine.Reader) error {
			if _, ok, err := r.Get(key); !ok || err != nil {
				t.Errorf("%s: the row is not there: %v", what, err)
			}
			return refused
		}})
		if !errors.Is(err, refused) {
			t.Errorf("%s: %v", what, err)
		}
		if !maps.Equal(contents(t, dir), before) {
			t.Errorf("%s: the refusal has changed files", what)
		}
		e, err := pebble.Open(pebble.Config{Dir: dir, Admit: func(engine.Reader) error { return nil }})
		if err != nil {
			t.Fatalf("%s: admitted: %v", what, err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestAskedOverADamagedTable: a damaged table that is met while Admit reads is an error, and not the end of the
// process, which is what Pebble makes of it by itself.
func TestAskedOverADamagedTable(t *testing.T) {
	dir := t.TempDir()
	e, err := pebble.Open(pebble.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	key := []byte("key")
	err = e.Update(t.Context(), func(w engine.Writer) error { return w.Put(key, enginetest.Value(1)) })
	if err := errors.Join(err, e.Close()); err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no table was written: %v", err)
	}
	for _, name := range tables {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err = pebble.Open(pebble.Config{Dir: dir, Admit: func(r engine.Reader) error {
		_, _, err := r.Get(key)
		return err
	}})
	if !errors.Is(err, engine.ErrDamaged) {
		t.Errorf("got %v, want %v", err, engine.ErrDamaged)
	}
}
