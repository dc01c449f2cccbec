package env_test

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/env"
	"github.com/visage-face/visage/keysource/sourcetest"
)

var (
	key      = []byte("an example of 32 bytes, no more.")
	otherKey = []byte("a second one that is as long ...")
)

// holding returns a source over a variable of its own that contains text.
func holding(name, text string) func(testing.TB) keysource.Source {
	return func(t testing.TB) keysource.Source {
		t.Setenv(name, text)
		return env.New(name)
	}
}

func TestSource(t *testing.T) {
	inHex := hex.EncodeToString(key)
	sourcetest.Run(t, sourcetest.Provider{
		Open:  holding("VISAGE_TEST_KEY", base64.StdEncoding.EncodeToString(key)),
		Other: holding("VISAGE_TEST_OTHER", hex.EncodeToString(otherKey)),
		Faults: []sourcetest.Fault{
			{Name: "not set", Source: func(testing.TB) keysource.Source { return env.New("VISAGE_TEST_ABSENT") },
				Class: keysource.ErrUnknown, Says: "VISAGE_TEST_ABSENT is not set: set it to the 32 bytes"},
			{Name: "empty", Source: holding("VISAGE_TEST_BAD", ""), Class: keysource.ErrUnknown, Says: "is not set"},
			{Name: "short", Source: holding("VISAGE_TEST_BAD", inHex[:62]), Class: keysource.ErrUnknown,
				Says: "it has 62 characters"},
			{Name: "zeros in hexadecimal", Source: holding("VISAGE_TEST_BAD", strings.Repeat("0", 64)),
				Class: keysource.ErrDenied,
				Says:  "it is all zeros"},
			{
				Name: "zeros in base64", Source: holding("VISAGE_TEST_BAD",
					base64.StdEncoding.EncodeToString(make([]byte, 32))),
				Class: keysource.ErrDenied, Says: "it is all zeros"},
			{Name: "one byte", Source: holding("VISAGE_TEST_BAD", strings.Repeat("5a", 32)), Class: keysource.ErrDenied,
				Says: "one repeated byte"},
			{Name: "not hexadecimal", Source: holding("VISAGE_TEST_BAD", "zz"+inHex[2:]), Class: keysource.ErrUnknown,
				Says: "not 32 bytes in base64"},
			{Name: "33 bytes in base64", Source: holding("VISAGE_TEST_BAD",
				base64.StdEncoding.EncodeToString(append([]byte("x"), key...))),
				Class: keysource.ErrUnknown, Says: "not 32 bytes in base64"},
		},
	})
}

func TestBothFormsAreTheSameKey(t *testing.T) {
	src := holding("VISAGE_TEST_KEY", base64.StdEncoding.EncodeToString(key))(t)
	blob, ref, err := src.Wrap(t.Context(), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	src = holding("VISAGE_TEST_KEY2", strings.ToUpper(hex.EncodeToString(key)))(t)
	if _, err := src.Unwrap(t.Context(), ref, blob); err != nil {
		t.Error(err)
	}
}

func TestErrorsKeepTheKey(t *testing.T) {
	text := hex.EncodeToString(key)[:60]
	_, _, err := holding("VISAGE_TEST_BAD", text)(t).Wrap(t.Context(), []byte("secret"))
	if err == nil || strings.Contains(err.Error(), text[:8]) {
		t.Errorf("error %v shows the content of the variable", err)
	}
}
