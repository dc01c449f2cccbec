package file_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/visage-face/visage/keysource"
)

// TestCredentialOfSystemd takes a key file that systemd has passed to the service: it belongs to root, and its mode
// shows a right of the group where an access control list names the service's user.
func TestCredentialOfSystemd(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make files that belong to root")
	}
	path, data := made(t)
	if err := os.Chmod(path, 0o440); err != nil {
		t.Fatal(err)
	}
	if _, _, err := open(t, path, data).Wrap(t.Context(), []byte("secret")); !errors.Is(err, keysource.ErrDenied) {
		t.Errorf("a file that its group can read: %v, want a refusal", err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(path))
	if _, _, err := open(t, path, data).Wrap(t.Context(), []byte("secret")); err != nil {
		t.Errorf("a credential: %v", err)
	}
	// Root may write anywhere, so what shows that a start writes nothing beside a credential is the folder's time.
	before, err := os.Stat(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if err := open(t, path, data).Create(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("make a key that is there: %v, want fs.ErrExist", err)
	}
	if after, err := os.Stat(filepath.Dir(path)); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the folder of credentials was written to (%v)", err)
	}
	for _, mode := range []os.FileMode{0o444, 0o460} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, _, err := open(t, path, data).Wrap(t.Context(), []byte("secret")); !errors.Is(err, keysource.ErrDenied) {
			t.Errorf("a credential of mode %04o: %v, want a refusal", mode, err)
		}
	}
}
