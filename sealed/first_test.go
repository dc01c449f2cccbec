package sealed_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/keysource/file"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/sealed/archive"
	"github.com/visage-face/visage/sealed/backup"
)

// TestFirstFormIsRestored: archives and keyrings from before streams had segments are listed, verified, restored and
// added to.
func TestFirstFormIsRestored(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/first")); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			err = os.Chmod(path, 0o600)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := archive.Open(filepath.Join(dir, "archive"))
	if err != nil {
		t.Fatal(err)
	}
	backups, err := a.List()
	if err != nil || len(backups) != 1 || backups[0].Rows != 123 {
		t.Fatalf("listed %+v, %v", backups, err)
	}
	old := backups[0]
	if err := a.Verify(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	keyring, err := os.ReadFile(filepath.Join(dir, "keyring"))
	if err != nil {
		t.Fatal(err)
	}
	if is, err := backup.CheckWhole(t.Context(), bytes.NewReader(keyring)); err != nil || !is.Keyring ||
		is.Instance != old.Instance {
		t.Errorf("%+v, %v", is, err)
	}
	data := filepath.Join(t.TempDir(), "data")
	source, err := file.New(filepath.Join(dir, "root.key"), data)
	if err != nil {
		t.Fatal(err)
	}
	cfg := sealed.Config{
		Engine: "pebble:" + data, KeyDir: t.TempDir(),
		Protectors: []sealed.Protector{{Name: "file", Kind: "file", Exposed: true, Source: source}},
	}
	if err := sealed.Restore(t.Context(), cfg, bytes.NewReader(keyring), a.Read(old)); err != nil {
		t.Fatal(err)
	}
	s := open(t, cfg)
	got := all(t, s.Space(spaceA), "a")
	for i := range 120 {
		want := strings.Repeat(fmt.Sprint("text ", i, " "), 1+i*i%40)
		if i == 7 {
			want = ""
		}
		if got[fmt.Sprint(i)] != want {
			t.Errorf("record %d is %q", i, got[fmt.Sprint(i)])
		}
	}
	if got := entries(t, s.Log("log"), 1); strings.Join(got, " ") != "1:first 2:second" {
		t.Errorf("the log has %q", got)
	}
	verifyClean(t, s)
	if _, err := s.Backup().MendKeyring(t.Context(), bytes.NewReader(keyring)); err != nil {
		t.Error(err)
	}

	// What is added now is of today's form, in the same archive.
	added, err := a.Add(t.Context(), bytes.NewReader(save(t, s).data))
	if err != nil {
		t.Fatal(err)
	}
	if a, err = archive.Open(filepath.Join(dir, "archive")); err != nil {
		t.Fatal(err)
	}
	backups, err = a.List()
	if err != nil || len(backups) != 2 || backups[0].Name != old.Name || backups[1].Name != added.Name {
		t.Fatalf("listed %+v, %v", backups, err)
	}
	for _, b := range backups {
		if err := a.Verify(t.Context(), b); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := a.Prune(1); err != nil {
		t.Fatal(err)
	}
	if err := a.Verify(t.Context(), backups[1]); err != nil {
		t.Errorf("after the old one was pruned: %v", err)
	}
}
