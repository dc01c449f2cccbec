package prove_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// searchDisk reads every byte under dir and fails when one of the texts is among them.
func searchDisk(t *testing.T, dir string, texts []string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, text := range texts {
			if bytes.Contains(content, []byte(text)) {
				t.Errorf("%s holds %q in the clear", path, text)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("search the disk: %v", err)
	}
	if files == 0 {
		t.Fatalf("no file under %s: the search proves nothing", dir)
	}
}
