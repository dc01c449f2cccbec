package durable_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/visage-face/visage/internal/durable"
)

// TestWriteVerified uses lengths around multiples of the block size, and memory with any alignment.
func TestWriteVerified(t *testing.T) {
	dir, memory := t.TempDir(), make([]byte, durable.ReadPiece)
	path := filepath.Join(dir, "a")
	source := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{0, 1, 511, 4095, 4096, 4097, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5<<20 + 4097} {
		for _, offset := range []int{0, 1, 512} {
			data := make([]byte, offset+size)[offset:]
			source.Read(data)
			var steps []durable.Step
			err := durable.WriteVerified(path, data, memory, func(s durable.Step, _ string) error {
				steps = append(steps, s)
				return nil
			})
			got, readErr := os.ReadFile(path)
			if err != nil || readErr != nil || !bytes.Equal(got, data) {
				t.Fatalf("%d bytes from %d: got %d, %v, %v", size, offset, len(got), err, readErr)
			}
			want := []durable.Step{durable.StepWrite, durable.StepSync, durable.StepReadBack, durable.StepPlace}
			if !slices.Equal(steps, want) {
				t.Fatalf("the steps were %v", steps)
			}
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
}

// TestWriteVerifiedThatFails checks that the existing file is kept, and no other is left, whichever step fails.
func TestWriteVerifiedThatFails(t *testing.T) {
	broken := errors.New("broken")
	for _, step := range []durable.Step{durable.StepWrite, durable.StepSync, durable.StepReadBack, durable.StepPlace} {
		for name, fail := range map[string]func(file string) error{
			"failed":  func(string) error { return broken },
			"changed": func(file string) error { return os.WriteFile(file, []byte("other"), 0o600) },
			"missing": os.Remove,
		} {
			dir := t.TempDir()
			path := filepath.Join(dir, "a")
			if err := durable.WriteFile(path, []byte("old")); err != nil {
				t.Fatal(err)
			}
			if name == "changed" && step != durable.StepReadBack || name == "missing" && step != durable.StepReadBack {
				continue // before, it is overwritten; after, it is not read again
			}
			err := durable.WriteVerified(path, bytes.Repeat([]byte("new"), 5000), make([]byte, 1000),
				func(s durable.Step, file string) error {
					if s == step {
						return fail(file)
					}
					return nil
				})
			if want := map[string]error{"failed": broken, "changed": durable.ErrReadBack,
				"missing": os.ErrNotExist}[name]; !errors.Is(err, want) {
				t.Errorf("%s before %q: %v", name, step, err)
			}
			got, err := os.ReadFile(path)
			entries, dirErr := os.ReadDir(dir)
			if string(got) != "old" || len(entries) != 1 || err != nil || dirErr != nil {
				t.Errorf("%s before %q: the file has %q among %d, %v, %v", name, step, got, len(entries), err, dirErr)
			}
		}
	}
}
