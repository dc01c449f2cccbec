package owned_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/visage-face/visage/internal/owned"
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// private returns a directory that others cannot change, whatever the umask.
func private(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	ok(t, os.Chmod(dir, 0o700))
	return dir
}

func write(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	ok(t, os.WriteFile(path, []byte("secret"), 0o600))
	ok(t, os.Chmod(path, mode))
}

func TestReadSecret(t *testing.T) {
	for _, c := range []struct {
		name  string
		place func(t *testing.T, path string)
		says  string // empty: it is read
	}{
		{"a private file", func(t *testing.T, p string) { write(t, p, 0o600) }, ""},
		{"a file that is read alone", func(t *testing.T, p string) { write(t, p, 0o400) }, ""},
		{"readable by the group", func(t *testing.T, p string) { write(t, p, 0o640) }, "chmod 600"},
		{"readable by all", func(t *testing.T, p string) { write(t, p, 0o604) }, "chmod 600"},
		{"writable by all", func(t *testing.T, p string) { write(t, p, 0o602) }, "chmod 600"},
		{"a link to a private file", func(t *testing.T, p string) {
			write(t, p+".real", 0o600)
			ok(t, os.Symlink(p+".real", p))
		}, "is a symbolic link"},
		{"a link to nothing", func(t *testing.T, p string) { ok(t, os.Symlink(p+".no", p)) }, "is a symbolic link"},
		{"a directory", func(t *testing.T, p string) { ok(t, os.Mkdir(p, 0o700)) }, "is not a regular file"},
		{"a pipe", func(t *testing.T, p string) { ok(t, syscall.Mkfifo(p, 0o600)) }, "is not a regular file"},
		{"too long", func(t *testing.T, p string) { ok(t, os.WriteFile(p, make([]byte, 101), 0o600)) },
			"longer than 100"},
		{"another user's", func(t *testing.T, p string) { write(t, p, 0o600); give(t, p) }, "belongs to user 12345"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(private(t), "secret")
			c.place(t, path)
			b, err := owned.ReadSecret(path, 100)
			if c.says == "" {
				if err != nil || string(b) != "secret" {
					t.Errorf("got %q, %v", b, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
			if b != nil {
				t.Error("content was returned with the error")
			}
		})
	}
	if _, err := owned.ReadSecret(filepath.Join(private(t), "none"), 100); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestDirectories(t *testing.T) {
	dir := private(t)
	ok(t, owned.CheckDir(dir))
	ok(t, owned.CheckFolder(dir))
	link := filepath.Join(private(t), "link")
	ok(t, os.Symlink(dir, link))
	ok(t, owned.CheckFolder(link))
	for _, spelled := range []string{link, link + "/", link + "/."} {
		if err := owned.CheckDir(spelled); !errors.Is(err, owned.ErrNotOwned) {
			t.Errorf("%s: %v", spelled, err)
		}
	}
	for _, mode := range []fs.FileMode{0o720, 0o702, 0o777} {
		ok(t, os.Chmod(dir, mode))
		for _, err := range []error{owned.CheckDir(dir), owned.CheckFolder(dir), owned.CheckFolder(link)} {
			if !errors.Is(err, owned.ErrNotOwned) {
				t.Errorf("mode %o: %v", mode, err)
			}
		}
	}
	file := filepath.Join(private(t), "file")
	write(t, file, 0o600)
	if err := owned.CheckDir(file); !errors.Is(err, owned.ErrNotOwned) {
		t.Errorf("a file: %v", err)
	}
	if err := owned.CheckDir(file + "-no"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
	others := private(t)
	give(t, others)
	if err := owned.CheckDir(others); !errors.Is(err, owned.ErrNotOwned) {
		t.Errorf("somebody else's: %v", err)
	}
}

func TestSecure(t *testing.T) {
	dir := private(t)
	for name, mode := range map[string]fs.FileMode{"a": 0o644, "b": 0o666, "c": 0o600, "d": 0o400} {
		write(t, filepath.Join(dir, name), mode)
	}
	ok(t, os.Mkdir(filepath.Join(dir, "lost+found"), 0o755))
	ok(t, owned.Secure(dir))
	for name, want := range map[string]fs.FileMode{"a": 0o600, "b": 0o600, "c": 0o600, "d": 0o400} {
		info, err := os.Stat(filepath.Join(dir, name))
		if ok(t, err); info.Mode().Perm() != want {
			t.Errorf("%s has mode %o", name, info.Mode().Perm())
		}
	}
	for name, place := range map[string]func(*testing.T, string){
		"a link":  func(t *testing.T, p string) { ok(t, os.Symlink(filepath.Join(dir, "a"), p)) },
		"a pipe":  func(t *testing.T, p string) { ok(t, syscall.Mkfifo(p, 0o600)) },
		"another": func(t *testing.T, p string) { write(t, p, 0o600); give(t, p) },
	} {
		path := filepath.Join(dir, "odd")
		t.Run(name, func(t *testing.T) {
			defer os.Remove(path)
			place(t, path)
			if err := owned.Secure(dir); !errors.Is(err, owned.ErrNotOwned) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// give changes the owner of a file, which only root can do.
func give(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	ok(t, os.Chown(path, 12345, 12345))
}
