package secretfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/internal/secretfile"
)

func TestFirstLine(t *testing.T) {
	longest := strings.Repeat("x", secretfile.MaxBytes)
	for _, tt := range []struct{ name, text, want string }{
		{"without an end", "secret", "secret"},
		{"with an end", "secret\n", "secret"},
		{"with an end of Windows", "secret\r\n", "secret"},
		{"with spaces", " se cret \n", " se cret "},
		{"and others", "secret\n" + longest, "secret"},
		{"the longest", longest, longest},
		{"the longest with an end", longest + "\r\n", longest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := firstLine(t, tt.text); err != nil || got != tt.want {
				t.Errorf("got %d bytes %.20q, %v", len(got), got, err)
			}
		})
	}
	for _, text := range []string{"", "\n", "\r\nsecret", " \n"} {
		if got, err := firstLine(t, text); !errors.Is(err, secretfile.ErrEmpty) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if _, err := firstLine(t, longest+"x\n"); err == nil ||
		!strings.Contains(err.Error(), "is longer than 65536 bytes") {
		t.Errorf("too long: %v", err)
	}
	if _, err := secretfile.FirstLine(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func firstLine(t *testing.T, text string) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return secretfile.FirstLine(path)
}
