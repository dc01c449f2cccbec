package archive_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/visage-face/visage/sealed/archive"
)

// TestDamagedChunkIsWrittenAgain: a chunk that an earlier backup brought, and that rotted without changing its length,
// is not taken for good by the next backup, which puts it right for both.
func TestDamagedChunkIsWrittenAgain(t *testing.T) {
	a, dir := open(t)
	whole := rows(t, 12_000, time.Unix(1, 0))
	first := add(t, a, whole)
	rotten := chunks(t, dir)[1]
	b, err := os.ReadFile(rotten)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(rotten, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Verify(t.Context(), first.Backup); !errors.Is(err, archive.ErrDamaged) {
		t.Fatalf("the first backup, damaged: %v", err)
	}
	second := add(t, a, rows(t, 12_000, time.Unix(2, 0)))
	if second.NewChunks != 1 {
		t.Errorf("%d chunks were written, want the damaged one", second.NewChunks)
	}
	untouched(t, a, dir, first.Backup, second.Backup)
}

// TestDamagedList: every byte of a backup's own file counts, those that only an instance could judge too.
func TestDamagedList(t *testing.T) {
	a, dir := open(t)
	added := add(t, a, rows(t, 3_000, time.Unix(1, 0), 5))
	path := filepath.Join(dir, "backups", added.Name+".json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, field := range map[string]string{"beginning": `"begin":"`, "code": `"end":"`} {
		t.Run(name, func(t *testing.T) {
			bad := bytes.Clone(good)
			at := bytes.Index(bad, []byte(field)) + len(field) + 40 // of the code: behind the number of rows
			if bad[at]++; bad[at] == '[' || bad[at] == '{' || bad[at] == ':' || bad[at] == ',' {
				bad[at] = 'B'
			}
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			b, err := a.Backup(added.Name)
			if err == nil {
				err = a.Verify(t.Context(), b)
			}
			if !errors.Is(err, archive.ErrDamaged) {
				t.Errorf("got %v", err)
			}
		})
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := a.Backup(added.Name)
	if err != nil {
		t.Fatal(err)
	}
	untouched(t, a, dir, b)
}
