package sealed_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/visage-face/visage/sealed"
)

// TestPortableValues: what was taken away opens in the same instance for the same purpose, after a restart too, and
// nowhere else.
func TestPortableValues(t *testing.T) {
	cfg := config(t, "lasting")
	s := open(t, cfg)
	secret := []byte("what a customer takes away")
	value, err := s.Portable("a").Seal(secret)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(value, secret) {
		t.Error("the value can be read as it is")
	}
	if again, _ := s.Portable("a").Seal(secret); bytes.Equal(again, value) {
		t.Error("sealing twice gave the same bytes")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg)
	if got, err := s.Portable("a").Open(value); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("after a restart: got %q, %v", got, err)
	}
	refused := func(what string, s *sealed.Store, purpose string, value []byte) {
		t.Helper()
		if got, err := s.Portable(purpose).Open(value); !errors.Is(err, sealed.ErrNotPortable) || got != nil {
			t.Errorf("%s: got %q, %v, want ErrNotPortable", what, got, err)
		}
	}
	refused("another purpose", s, "b", value)
	refused("another instance", open(t, config(t, "memory")), "a", value)
	for i := range value {
		changed := bytes.Clone(value)
		changed[i] ^= 1
		refused("a bit changed", s, "a", changed)
		refused("cut short", s, "a", value[:i])
	}
}
