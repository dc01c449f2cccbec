package file_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/file"
	"github.com/visage-face/visage/keysource/sourcetest"
)

// made returns the path of a new key file and of a data directory beside it.
func made(t testing.TB) (path, data string) {
	t.Helper()
	dir := t.TempDir()
	path, data = filepath.Join(dir, "keys", "root.key"), filepath.Join(dir, "data")
	if err := open(t, path, data).Create(); err != nil {
		t.Fatal(err)
	}
	return path, data
}

func open(t testing.TB, path, data string) *file.Source {
	t.Helper()
	src, err := file.New(path, data)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// broken returns a fault that damages a good key file.
func broken(name string, class error, says string, breakIt func(path string) error) sourcetest.Fault {
	return sourcetest.Fault{Name: name, Class: class, Says: says, Source: func(t testing.TB) keysource.Source {
		path, data := made(t)
		if err := breakIt(path); err != nil {
			t.Fatal(err)
		}
		return open(t, path, data)
	}}
}

func TestSource(t *testing.T) {
	path, data := made(t)
	sourcetest.Run(t, sourcetest.Provider{
		Open:  func(t testing.TB) keysource.Source { return open(t, path, data) },
		Other: func(t testing.TB) keysource.Source { p, d := made(t); return open(t, p, d) },
		Faults: []sourcetest.Fault{
			broken("missing", keysource.ErrUnknown, "is missing: restore it from its backup", os.Remove),
			broken("readable by others", keysource.ErrDenied, "run \"chmod 600", func(p string) error {
				return os.Chmod(p,
					0o604)
			}),
			broken("readable by the group", keysource.ErrDenied, "mode 0640",
				func(p string) error { return os.Chmod(p, 0o640) }),
			broken("folder others may write to", keysource.ErrDenied, "run \"chmod go-w",
				func(p string) error { return os.Chmod(filepath.Dir(p), 0o777) }),
			broken("folder above that others may write to", keysource.ErrDenied, "run \"chmod go-w",
				func(p string) error { return os.Chmod(filepath.Dir(filepath.Dir(p)), 0o772) }),
			broken("sticky folder holds it directly", keysource.ErrDenied, "run \"chmod go-w",
				func(p string) error { return os.Chmod(filepath.Dir(p), 0o777|fs.ModeSticky) }),
			broken("zeros", keysource.ErrDenied, "is all zeros",
				func(p string) error { return os.WriteFile(p, make([]byte, 32), 0o600) }),
			broken("a link", keysource.ErrDenied, "is a symbolic link", func(p string) error {
				return errors.Join(os.Rename(p, p+".real"), os.Symlink(p+".real", p))
			}),
			broken("a link to nothing", keysource.ErrDenied, "is a symbolic link", func(p string) error {
				return errors.Join(os.Remove(p), os.Symlink(p+".no", p))
			}),
			broken("a pipe", keysource.ErrDenied, "is not a regular file", func(p string) error {
				return errors.Join(os.Remove(p), syscall.Mkfifo(p, 0o600))
			}),
			broken("short", keysource.ErrUnknown, "has 31 bytes, not 32",
				func(p string) error { return os.Truncate(p, 31) }),
			broken("long", keysource.ErrUnknown, "is longer than 32 bytes",
				func(p string) error { return os.Truncate(p, 33) }),
			broken("empty", keysource.ErrUnknown, "has 0 bytes, not 32",
				func(p string) error { return os.Truncate(p, 0) }),
			broken("a folder of that name", keysource.ErrDenied, "is not a regular file", func(p string) error {
				return errors.Join(os.Remove(p), os.Mkdir(p, 0o700))
			}),
		},
	})
}

func TestWrongKeyNamesBoth(t *testing.T) {
	path, data := made(t)
	blob, ref, err := open(t, path, data).Wrap(t.Context(), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	otherPath, otherData := made(t)
	_, err = open(t, otherPath, otherData).Unwrap(t.Context(), ref, blob)
	if err == nil || !strings.Contains(err.Error(), otherPath+" holds key ") || !strings.Contains(err.Error(),
		"sealed with key "+ref.Version) {
		t.Errorf("got %v, want both keys named", err)
	}
}

func TestMovedKeyStillOpens(t *testing.T) {
	path, data := made(t)
	blob, ref, err := open(t, path, data).Wrap(t.Context(), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(t.TempDir(), "elsewhere.key")
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, moved, data).Unwrap(t.Context(), ref, blob); err != nil {
		t.Error(err)
	}
}

func TestCreateKeepsWhatIsThere(t *testing.T) {
	path, data := made(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := open(t, path, data).Create(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second create: got %v, want fs.ErrExist", err)
	}
	after, err := os.ReadFile(path)
	if err != nil || string(after) != string(before) {
		t.Errorf("the key was replaced (%v)", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 32 {
		t.Errorf("key file is %v, %v, want mode 0600 and 32 bytes", info, err)
	}
	names, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(names) != 1 {
		t.Errorf("folder of the key holds %v, %v, want the key alone", names, err)
	}
}

func TestKeyInsideDataIsRefused(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(filepath.Join(data, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(data, "keys"), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(data, "root.key"), filepath.Join(data, "not", "there", "root.key"),
		filepath.Join(link, "root.key")} {
		if _, err := file.New(path, data); !errors.Is(err, keysource.ErrDenied) || !strings.Contains(err.Error(),
			"keep it elsewhere") {
			t.Errorf("key at %s: got %v, want a refusal", path, err)
		}
	}
	if _, err := file.New(filepath.Join(dir, "database.key"), data); err != nil {
		t.Errorf("a key beside the data directory: %v", err)
	}
}
