package keystore_test

import (
	"bytes"
	"errors"
	"io"
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
	if err := d.Put(t.Context(), space, 3, key); err != nil {
		t.Fatal(err)
	}
	if err := d.Put(t.Context(), space, 3, key); err == nil {
		t.Error("a key was replaced")
	}
	if got, err := d.Get(t.Context(), space, 3); err != nil || !bytes.Equal(got, key) {
		t.Errorf("got %x, %v", got, err)
	}
	path := filepath.Join(root, "epochs", instance.String(), space.String(), "3")
	if err := os.WriteFile(path, make([]byte, len(key)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Get(t.Context(), space, 3); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("got %x, %v; want ErrNotFound", got, err)
	}
	if epochs, err := d.List(t.Context(), space); err != nil || len(epochs) != 1 { // whoever tidies up finds it
		t.Errorf("epochs %v, %v; want one", epochs, err)
	}
	other := bytes.Repeat([]byte{8}, 100)
	if err := d.Put(t.Context(), space, 3, other); err != nil {
		t.Errorf("in the place of what was overwritten: %v", err)
	}
	if got, err := d.Get(t.Context(), space, 3); err != nil || !bytes.Equal(got, other) {
		t.Errorf("got %x, %v", got, err)
	}
	if err := d.DestroyEpoch(t.Context(), space, 3); err != nil {
		t.Error(err)
	}
	if _, err := d.Get(t.Context(), space, 3); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("after it was destroyed: %v", err)
	}
}

// TestReplaceIsCutOff: a crash leaves a second name of the file of a key, whose place another file has taken or not
// yet. Tidying destroys what is no longer the key, and never the key.
func TestReplaceIsCutOff(t *testing.T) {
	before, after := bytes.Repeat([]byte{7}, 100), bytes.Repeat([]byte{8}, 100)
	for _, test := range []struct {
		name    string
		crashed func(t *testing.T, path string)
		want    []byte
	}{
		{"before the new file", func(t *testing.T, path string) { link(t, path) }, before},
		{"in the new file", func(t *testing.T, path string) {
			link(t, path)
			write(t, filepath.Join(filepath.Dir(path), ".new-1"), after)
		}, before},
		{"after the new file", func(t *testing.T, path string) {
			link(t, path)
			next := filepath.Join(filepath.Dir(path), ".new-1")
			write(t, next, after)
			if err := os.Rename(next, path); err != nil {
				t.Fatal(err)
			}
		}, after},
	} {
		t.Run(test.name, func(t *testing.T) {
			root, instance, space := t.TempDir(), format.ID{1}, format.ID{2}
			d, err := keystore.Open(root, instance)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Put(t.Context(), space, 3, before); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(root, "epochs", instance.String(), space.String())
			test.crashed(t, filepath.Join(dir, "3"))
			old, err := os.Open(filepath.Join(dir, "3.replaced"))
			if err != nil {
				t.Fatal(err)
			}
			defer old.Close()
			if err := d.Tidy(t.Context(), space); err != nil {
				t.Fatal(err)
			}
			if got, err := d.Get(t.Context(), space, 3); err != nil || !bytes.Equal(got, test.want) {
				t.Errorf("got %x, %v; want %x", got, err, test.want)
			}
			if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
				t.Errorf("files %v, %v; want the key alone", files, err)
			}
			if left, err := io.ReadAll(old); err != nil || bytes.Equal(test.want, after) &&
				bytes.Contains(left, before[:1]) {
				t.Errorf("the old file still has %x, %v", left, err)
			}
			// The next try of the same.
			link(t, filepath.Join(dir, "3"))
			if err := d.Replace(t.Context(), space, 3, test.want, after); err != nil {
				t.Fatal(err)
			}
			if got, err := d.Get(t.Context(), space, 3); err != nil || !bytes.Equal(got, after) {
				t.Errorf("after the next try: got %x, %v", got, err)
			}
		})
	}
}

func link(t *testing.T, path string) {
	t.Helper()
	if err := os.Link(path, path+".replaced"); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
