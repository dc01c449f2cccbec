package prove_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestDamagedDirectory damages a stopped store's directories, one file at a time, data and keys alike: bits are
// flipped, ends cut off, bytes zeroed, files removed or emptied, two files exchanged. Each time the store must refuse
// to open, refuse to read, or read the correct data. Damage at the end of the engine's log may give an earlier state,
// as docs/threat-model.md says, but nothing else may.
func TestDamagedDirectory(t *testing.T) {
	r := chance(t)
	dir := t.TempDir()
	want := fill(t, dir, 60)
	names := sortedKeys(storedFilesIn(t, dir))
	outcomes := map[string]int{"read-wrongly": 0}
	for range rounds(t, 60) {
		damaged := copyStore(t, dir)
		name := names[r.IntN(len(names))]
		what := damage(t, damaged, name, names, r)
		found, err := readStore(t.Context(), damaged)
		switch {
		case err != nil:
			outcomes["refused"]++
		case maps.Equal(found, want):
			outcomes["harmless"]++
		case (filepath.Ext(name) == ".log" || what == "a change of places") && isEarlier(found, want):
			outcomes["earlier-truth"]++
		default:
			outcomes["read-wrongly"]++
			t.Errorf("%s of %s: the store reads wrong data: %s", what, name, differs(want, found))
		}
		if err := os.RemoveAll(damaged); err != nil {
			t.Fatal(err)
		}
	}
	if outcomes["refused"] == 0 {
		t.Errorf("%v: no damage was ever refused", outcomes)
	}
	for name, n := range outcomes {
		t.Attr(name, fmt.Sprint(n))
	}
}

// damage does one thing to one file and describes it.
func damage(t *testing.T, dir, name string, names []string, r *rand.Rand) string {
	t.Helper()
	path := filepath.Join(dir, name)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	what := []string{"a flipped bit", "a flipped bit", "a cut", "zeroes", "the loss", "the emptying",
		"a change of places"}[r.IntN(7)]
	if len(content) == 0 && what != "a change of places" {
		what = "the loss"
	}
	switch what {
	case "a flipped bit":
		content[r.IntN(len(content))] ^= 1 << r.IntN(8)
	case "a cut":
		content = content[:r.IntN(len(content))]
	case "zeroes":
		at := r.IntN(len(content))
		clear(content[at:min(at+64, len(content))])
	case "the loss":
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		return what
	case "the emptying":
		content = nil
	case "a change of places":
		other := filepath.Join(dir, names[r.IntN(len(names))])
		its, err := os.ReadFile(other)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(other, content, 0o600); err != nil {
			t.Fatal(err)
		}
		content = its
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return what
}

// isEarlier reports whether found is the content at some moment of fill: its first things, and no other.
func isEarlier(found, want map[string]string) bool {
	for i := range len(found) {
		id := fmt.Sprintf("thing-%05d", i)
		if found[id] == "" || found[id] != want[id] {
			return false
		}
	}
	return true
}
