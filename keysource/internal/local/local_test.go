package local_test

import (
	"bytes"
	"testing"

	"github.com/visage-face/visage/keysource/internal/local"
)

// FuzzParse checks that no wrapped form is accepted that was not made with the key.
func FuzzParse(f *testing.F) {
	key := bytes.Repeat([]byte{7}, local.KeySize)
	for _, params := range [][]byte{nil, []byte("parameters")} {
		blob, err := local.Wrap(local.File, key, params, "v", []byte("secret"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(blob)
	}
	f.Add([]byte{})
	f.Add([]byte{'W', 1, 1, 1, 0xff, 0xff})
	other := bytes.Repeat([]byte{8}, local.KeySize)
	f.Fuzz(func(t *testing.T, blob []byte) {
		w, err := local.Parse(local.File, blob)
		if err != nil {
			return
		}
		if inner, err := w.Open(other, "v", "wrong"); err == nil {
			t.Errorf("a key that wrapped none of them opened %d bytes", len(inner))
		}
		if inner, err := w.Open(key, "w", "wrong"); err == nil {
			t.Errorf("opened %d bytes under another version", len(inner))
		}
	})
}

func TestWrappedFormBelongsToItsKind(t *testing.T) {
	key := bytes.Repeat([]byte{7}, local.KeySize)
	blob, err := local.Wrap(local.File, key, nil, "v", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := local.Parse(local.Env, blob); err == nil {
		t.Error("a file's wrapped form was accepted as a variable's")
	}
}

func TestWrapRefusesWhatCannotBeASecret(t *testing.T) {
	key := bytes.Repeat([]byte{7}, local.KeySize)
	for _, inner := range [][]byte{nil, make([]byte, 5000)} {
		if _, err := local.Wrap(local.File, key, nil, "v", inner); err == nil {
			t.Errorf("wrapped %d bytes", len(inner))
		}
	}
	if _, err := local.Wrap(local.File, key[:31], nil, "v", []byte("secret")); err == nil {
		t.Error("wrapped under a short key")
	}
}
