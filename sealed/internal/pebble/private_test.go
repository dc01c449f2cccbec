package pebble_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/visage-face/visage/internal/owned"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/engine/enginetest"
	"github.com/visage-face/visage/sealed/internal/pebble"
)

// fill opens the engine of a directory, writes to it and closes it, three times: opening makes a table of what the log
// before held.
func fill(dir string) error {
	for i := range 3 {
		e, err := pebble.Open(pebble.Config{Dir: dir})
		if err != nil {
			return err
		}
		err = e.Update(context.Background(),
			func(w engine.Writer) error { return w.Put([]byte{byte(i)}, enginetest.Value(i)) })
		if err := errors.Join(err, e.Close()); err != nil {
			return err
		}
	}
	return nil
}

func modes(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]fs.FileMode{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = info.Mode()
	}
	return all
}

// TestFilesAreTheirOwnersAlone: no umask gives others a right, or takes one from the owner.
func TestFilesAreTheirOwnersAlone(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o277} {
		dir := filepath.Join(t.TempDir(), "data")
		before := syscall.Umask(umask)
		err := fill(dir)
		syscall.Umask(before)
		if err != nil {
			t.Fatalf("umask %o: %v", umask, err)
		}
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("umask %o: the directory: %v, %v", umask, info.Mode(), err)
		}
		all := modes(t, dir)
		if len(all) < 4 {
			t.Errorf("umask %o: %d files: nothing was looked at", umask, len(all))
		}
		for name, mode := range all {
			if mode != 0o600 {
				t.Errorf("umask %o: %s has mode %v", umask, name, mode)
			}
		}
	}
}

// TestFilesOfEarlierBuilds: what was made with the rights that the umask left loses them when it is opened.
func TestFilesOfEarlierBuilds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	for name := range modes(t, dir) {
		if err := os.Chmod(filepath.Join(dir, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := fill(dir); err != nil {
		t.Fatal(err)
	}
	for name, mode := range modes(t, dir) {
		if mode != 0o600 {
			t.Errorf("%s has mode %v", name, mode)
		}
	}
}

// TestForeignData: what leads elsewhere, or is another's to change, is not opened.
func TestForeignData(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"a link for the directory": func(dir string) error {
			return errors.Join(os.Rename(dir, dir+".real"), os.Symlink(dir+".real", dir))
		},
		"a directory that all may change": func(dir string) error { return os.Chmod(dir, 0o777) },
		"a link for the lock": func(dir string) error {
			lock := filepath.Join(dir, "LOCK")
			return errors.Join(os.Rename(lock, dir+".victim"), os.Symlink(dir+".victim", lock))
		},
		"a link that nobody made": func(dir string) error {
			return os.Symlink("/etc/passwd",
				filepath.Join(dir, "000099.sst"))
		},
		"a pipe": func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "OPTIONS-999999"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := fill(dir); err != nil {
				t.Fatal(err)
			}
			if err := spoil(dir); err != nil {
				t.Fatal(err)
			}
			if err := fill(dir); !errors.Is(err, owned.ErrNotOwned) {
				t.Errorf("got %v", err)
			}
		})
	}
}
