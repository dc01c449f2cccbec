package passphrase_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/passphrase"
	"github.com/visage-face/visage/keysource/sourcetest"
)

const words = "correct horse battery staple"

func fromEnv(name, text string) func(testing.TB) keysource.Source {
	return func(t testing.TB) keysource.Source {
		t.Setenv(name, text)
		return passphrase.FromEnv(name)
	}
}

func fromFile(text string, mode os.FileMode) func(testing.TB) keysource.Source {
	return func(t testing.TB) keysource.Source {
		path := filepath.Join(t.TempDir(), "words")
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return passphrase.FromFile(path)
	}
}

func linked(t testing.TB) keysource.Source {
	path := filepath.Join(t.TempDir(), "words")
	if err := os.WriteFile(path, []byte(words), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, path+".link"); err != nil {
		t.Fatal(err)
	}
	return passphrase.FromFile(path + ".link")
}

func TestSource(t *testing.T) {
	sourcetest.Run(t, sourcetest.Provider{
		Open:   fromEnv("VISAGE_TEST_WORDS", words),
		Other:  fromEnv("VISAGE_TEST_OTHER", "another passphrase, as long"),
		Stride: 23, // PBKDF2 makes each unwrap slow
		Faults: []sourcetest.Fault{
			{Name: "not set", Source: fromEnv("VISAGE_TEST_ABSENT", ""), Class: keysource.ErrUnknown,
				Says: "VISAGE_TEST_ABSENT is not set"},
			{Name: "too long", Source: fromEnv("VISAGE_TEST_BAD", strings.Repeat("x", 1025)),
				Class: keysource.ErrUnknown,
				Says:  "longer than 1024"},
			{
				Name: "missing file",
				Source: func(t testing.TB) keysource.Source {
					return passphrase.FromFile(filepath.Join(t.TempDir(), "no"))
				},
				Class: keysource.ErrUnknown, Says: "does not exist"},
			{Name: "readable by others", Source: fromFile(words, 0o644), Class: keysource.ErrDenied,
				Says: "run \"chmod 600"},
			{Name: "a link", Source: linked, Class: keysource.ErrDenied, Says: "is a symbolic link"},
			{Name: "empty file", Source: fromFile("\nsecond line\n", 0o600), Class: keysource.ErrUnknown,
				Says: "its first line must be the passphrase"},
		},
	})
}

func TestFileAndEnvironmentAreTheSame(t *testing.T) {
	blob, ref, err := fromFile(words+"\r\n", 0o600)(t).Wrap(t.Context(), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fromEnv("VISAGE_TEST_WORDS", words)(t).Unwrap(t.Context(), ref, blob); err != nil {
		t.Error(err)
	}
}

func TestShortPassphraseMakesNothingNew(t *testing.T) {
	_, _, err := fromEnv("VISAGE_TEST_WORDS", "short")(t).Wrap(t.Context(), []byte("secret"))
	if err == nil || !strings.Contains(err.Error(), "needs at least 12") {
		t.Errorf("got %v, want the least length", err)
	}
}

func TestGuessablePassphraseMakesNothingNew(t *testing.T) {
	for _, guess := range []string{strings.Repeat("a", 32), strings.Repeat("\x00", 32), strings.Repeat("1234", 5)} {
		_, _, err := fromFile(guess, 0o600)(t).Wrap(t.Context(), []byte("secret"))
		if err == nil || !strings.Contains(err.Error(), "different characters") {
			t.Errorf("%q: got %v", guess, err)
		}
	}
}

func TestWrongPassphraseSaysSo(t *testing.T) {
	blob, ref, err := fromEnv("VISAGE_TEST_WORDS", words)(t).Wrap(t.Context(), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = fromEnv("VISAGE_TEST_WORDS", words+"!")(t).Unwrap(t.Context(), ref, blob)
	want := "the passphrase from environment variable VISAGE_TEST_WORDS does not open this data"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestCheapWrappedFormIsRefused(t *testing.T) {
	src := fromEnv("VISAGE_TEST_WORDS", words)(t)
	blob, ref, err := src.Wrap(t.Context(), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	blob[6], blob[7], blob[8], blob[9] = 0, 0, 0, 1 // the iterations
	_, err = src.Unwrap(t.Context(), ref, blob)
	if err == nil || !strings.Contains(err.Error(), "asks for 1 iterations") {
		t.Errorf("got %v, want the number of iterations refused", err)
	}
}
