package server_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/visage-face/visage/internal/owned"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// TestForeignFiles replaces the server's files by links and by files with other permissions: the server does not start,
// says what to do, and starts again once the change is undone.
func TestForeignFiles(t *testing.T) {
	link := func(path string) func(dir string) (undo func() error, err error) {
		return func(dir string) (func() error, error) {
			at := filepath.Join(dir, path)
			real := filepath.Join(filepath.Dir(dir), "real")
			return func() error { return errors.Join(os.Remove(at), os.Rename(real, at)) },
				errors.Join(os.Rename(at, real), os.Symlink(real, at))
		}
	}
	mode := func(path string, mode, good fs.FileMode) func(dir string) (undo func() error, err error) {
		return func(dir string) (func() error, error) {
			at := filepath.Join(dir, path)
			return func() error { return os.Chmod(at, good) }, os.Chmod(at, mode)
		}
	}
	dir := filepath.Join(t.TempDir(), "visage")
	before := syscall.Umask(0)
	s := servertest.Start(t, server.Config{Dir: dir})
	err := s.Stop()
	syscall.Umask(before)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if err == nil && info.Mode().Perm() != want {
			t.Errorf("with a umask of 0, %s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		spoil func(dir string) (undo func() error, err error)
		says  string
	}{
		{"a link for operator.json", link("operator.json"), "operator.json is a symbolic link"},
		{"operator.json that others can read", mode("operator.json", 0o644, 0o600), "chmod 600"},
		{"a link for the root key", link("keys/root.key"), "is a symbolic link"},
		{"a link for data", link("data"), "data is a symbolic link"},
		{"a link for keys", link("keys"), "keys is a symbolic link"},
		{"data that others can change", mode("data", 0o770, 0o700), "chmod go-w"},
		{"a folder that others can change", mode(".", 0o777, 0o700), "chmod go-w"},
	} {
		t.Run(c.name, func(t *testing.T) {
			undo, err := c.spoil(dir)
			if err != nil {
				t.Fatal(err)
			}
			err = startAndFail(t, server.Config{Dir: dir, Listen: "127.0.0.1:0", Recogniser: servertest.Faces{}})
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
			if strings.HasPrefix(c.name, "a link for op") || strings.HasPrefix(c.name, "operator.json") {
				if _, err := server.ReadOperator(filepath.Join(dir, server.OperatorFile)); !errors.Is(err,
					owned.ErrNotOwned) {
					t.Errorf("a client reads it: %v", err)
				}
			}
			if err := undo(); err != nil {
				t.Fatal(err)
			}
		})
	}
	again := servertest.Start(t, server.Config{Dir: dir})
	if again.Operator().ClientSecret != s.Operator().ClientSecret {
		t.Error("the operator's secret has changed, although all changes were undone")
	}
}
