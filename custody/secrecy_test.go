package custody_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/sealed"
)

// TestNothingWithoutTheVault tries everything that a thief may have except the customer's key: the data directory, the
// key directory, the root key, and a copy of the data from before the key was enabled. None of it opens the data.
func TestNothingWithoutTheVault(t *testing.T) {
	r := newStoreAndVaults(t, onDisk(t))
	r.close()
	dir := filepath.Dir(r.cfg.KeyDir)
	before := t.TempDir() // as in a backup
	copyDir(t, filepath.Join(dir, "data"), filepath.Join(before, "data"))
	r.openStore()
	r.openCustody()
	r.run()
	r.enabled(spaceA, r.first().add("k1"))
	r.write(spaceA, 4)
	r.close()

	// Only the vault can unwrap the data key: neither the data key nor the data is in any file in the clear.
	secrets := append([][]byte{[]byte(secretly)}, r.first().wrapped...)
	files := 0
	walk(t, dir, func(path string, content []byte) {
		files++
		for _, secret := range secrets {
			for at := 0; at+16 <= len(secret); at++ {
				if bytes.Contains(content, secret[at:at+16]) {
					t.Errorf("%s contains a secret that only the vault may open", path)
					break
				}
			}
		}
	})
	if files == 0 || len(secrets) < 3 {
		t.Fatalf("%d files, %d secrets: the search was empty", files, len(secrets))
	}

	// The project's own code, with the root key.
	cfg := r.cfg
	for name, data := range map[string]string{
		"the data": filepath.Join(dir, "data"), "a copy from before": filepath.Join(before, "data"),
	} {
		cfg.Engine = "pebble:" + data
		store, err := sealed.Open(t.Context(), cfg)
		if err != nil { // a failure to open is enough
			t.Logf("%s: %v", name, err)
			continue
		}
		thief := &storeAndVaults{t: t, store: store}
		if err := thief.read(spaceA); err == nil {
			t.Errorf("%s opens without the customer's key", name)
		}
		if err := store.Bundle(spaceA).Load(t.Context(), nil); err == nil {
			t.Errorf("%s is loaded without the customer's key", name)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}

	// After disabling, the vault is not needed.
	r.openStore()
	r.openCustody()
	r.run()
	r.until(spaceA, "the opening", func(s custody.Status) bool { return s.Condition == custody.Active })
	if _, err := r.custody.Disable(t.Context(), spaceA); err != nil {
		t.Fatal(err)
	}
	r.settled(spaceA)
	r.close()
	delete(r.vaults, firstVault)
	r.openStore()
	if err := r.read(spaceA); err != nil {
		t.Errorf("after disabling: %v", err)
	}
}

func walk(t *testing.T, dir string, fn func(path string, content []byte)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		fn(path, content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	walk(t, from, func(path string, content []byte) {
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, content, 0o600); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzNote reads notes from damaged or foreign bundles: the result is an error or a note, never a panic.
func FuzzNote(f *testing.F) {
	f.Add(
		[]byte(
			`{"format":1,"key":{"key":{"Vault":"https://v.example","Name":"k"},"as":"x"},"flow":{"id":"1","kind":"enable","step":"pending"}}`,
		),
	)
	f.Add([]byte(`{"format":1,"flow":{"kind":"other","step":"other"}}`))
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := custody.DecodeNote(raw); err != nil && len(raw) == 0 {
			t.Error("an empty record is a note")
		}
	})
}
