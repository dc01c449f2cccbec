package keystore_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keystore"
)

// TestKeyThatIsBeingDestroyedIsGone: a key is overwritten before it is removed, and somebody may read it in between.
func TestKeyThatIsBeingDestroyedIsGone(t *testing.T) {
	root, instance, space := t.TempDir(), format.ID{1}, format.ID{2}
	d, err := keystore.Open(root, instance)
	if err != nil {
		t.Fatal(err)
	}
	key := bytes.Repeat([]byte{7}, 100)
	if err := d.Put(space, 3, key); err != nil {
		t.Fatal(err)
	}
	if err := d.Put(space, 3, key); err == nil {
		t.Error("a key was replaced")
	}
	if got, err := d.Get(space, 3); err != nil || !bytes.Equal(got, key) {
		t.Errorf("got %x, %v", got, err)
	}
	path := filepath.Join(root, "epochs", instance.String(), space.String(), "3")
	if err := os.WriteFile(path, make([]byte, len(key)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Get(space, 3); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("got %x, %v; want ErrNotFound", got, err)
	}
	if epochs, err := d.List(space); err != nil || len(epochs) != 1 { // whoever tidies up finds it
		t.Errorf("epochs %v, %v; want one", epochs, err)
	}
	other := bytes.Repeat([]byte{8}, 100)
	if err := d.Put(space, 3, other); err != nil {
		t.Errorf("in the place of what was overwritten: %v", err)
	}
	if got, err := d.Get(space, 3); err != nil || !bytes.Equal(got, other) {
		t.Errorf("got %x, %v", got, err)
	}
	if err := d.DestroyEpoch(space, 3); err != nil {
		t.Error(err)
	}
	if _, err := d.Get(space, 3); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("after it was destroyed: %v", err)
	}
}
