package keysource_test

import (
	"bytes"
	"testing"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/sourcetest"
)

// TestExample runs the conformance suite on the source of the example.
func TestExample(t *testing.T) {
	open := func(t testing.TB, letter string) *box {
		t.Helper()
		b, err := newBox(letter, bytes.Repeat([]byte(letter), 32))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	sourcetest.Run(t, sourcetest.Provider{
		Open:  func(t testing.TB) keysource.Source { return open(t, "a") },
		Other: func(t testing.TB) keysource.Source { return open(t, "b") },
		Faults: []sourcetest.Fault{{
			Name:  "off",
			Class: keysource.ErrDenied,
			Says:  "switch it on",
			Source: func(t testing.TB) keysource.Source {
				b := open(t, "a")
				b.off = true
				return b
			},
		}},
	})
}
