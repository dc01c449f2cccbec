package keystore_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
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

// TestDirectoryOfAnotherVolume: the volume of a directory goes away, and leaves an empty directory in its place, one
// with directories of a start without it, or something that fails. Nothing is missing there, destroyed or written.
func TestDirectoryOfAnotherVolume(t *testing.T) {
	instance, space := format.ID{1}, format.ID{2}
	for name, instead := range map[string]func(dir string) error{
		"empty": func(dir string) error { return os.Mkdir(dir, 0o700) },
		"of a start without the volume": func(dir string) error {
			_, err := keystore.Open(dir, instance)
			return err
		},
		"failing": func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			d, err := keystore.Open(dir, instance)
			if err != nil {
				t.Fatal(err)
			}
			ctx, mark := t.Context(), []byte("m")
			key, other := bytes.Repeat([]byte{7}, 100), bytes.Repeat([]byte{8}, 100)
			if err := errors.Join(d.SetMark(ctx, nil, mark), d.Put(ctx, space, 1, key)); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.Rename(dir, dir+"-away"), instead(dir)); err != nil {
				t.Fatal(err)
			}
			before := names(t, dir)
			for call, do := range map[string]func() error{
				"put":           func() error { return d.Put(ctx, space, 2, other) },
				"get":           func() error { _, err := d.Get(ctx, space, 1); return err },
				"replace":       func() error { return d.Replace(ctx, space, 1, key, other) },
				"tidy":          func() error { return d.Tidy(ctx, space) },
				"list":          func() error { _, err := d.List(ctx, space); return err },
				"destroy epoch": func() error { return d.DestroyEpoch(ctx, space, 1) },
				"destroy":       func() error { return d.Destroy(ctx, space) },
				"spaces":        func() error { _, err := d.Spaces(ctx); return err },
				"mark":          func() error { _, err := d.Mark(ctx); return err },
				"set mark":      func() error { return d.SetMark(ctx, mark, []byte("n")) },
			} {
				err := do()
				if _, ok := errors.AsType[*keystore.OutageError](err); !ok || errors.Is(err, keystore.ErrNotFound) {
					t.Errorf("%s is no outage: %v", call, err)
				}
			}
			if after := names(t, dir); name == "empty" && after != before {
				t.Errorf("written in its place: %s", after)
			}
			if err := errors.Join(os.RemoveAll(dir), os.Rename(dir+"-away", dir)); err != nil {
				t.Fatal(err)
			}
			if got, err := d.Get(ctx, space, 1); err != nil || !bytes.Equal(got, key) {
				t.Errorf("when it is back: %x, %v", got, err)
			}
			if epochs, err := d.List(ctx, space); err != nil || len(epochs) != 1 {
				t.Errorf("when it is back: epochs %v, %v", epochs, err)
			}
			if err := d.DestroyEpoch(ctx, space, 1); err != nil {
				t.Errorf("when it is back: %v", err)
			}
		})
	}
}

// names lists what is below a directory.
func names(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		all = append(all, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}
