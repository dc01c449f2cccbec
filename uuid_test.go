package visage_test

import (
	"strings"
	"testing"

	"github.com/visage-face/visage"
)

func TestFoldUUID(t *testing.T) {
	for text, want := range map[string]string{
		"F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
		"f81d4fae-7DEC-11d0-a765-00a0c91e6bf6": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
		"f81d4fae-7dec-11d0-a765-00a0c91e6bf6": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
		"G81D4FAE-7DEC-11D0-A765-00A0C91E6BF6": "G81D4FAE-7DEC-11D0-A765-00A0C91E6BF6",
		"F81D4FAE7DEC11D0A76500A0C91E6BF6":     "F81D4FAE7DEC11D0A76500A0C91E6BF6",
		"F81D4FAE-7DEC-11D0-A765-00A0C91E6BF":  "F81D4FAE-7DEC-11D0-A765-00A0C91E6BF",
		"Guests":                               "Guests", "": "",
	} {
		if got := visage.FoldUUID(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

func TestUUID(t *testing.T) {
	id := visage.NewUUID()
	text := id.String()
	read, err := visage.ParseUUID(text)
	if err != nil || read != id || text[14] != '4' || !strings.Contains("89ab", text[19:20]) {
		t.Errorf("%s was read as %s, %v", text, read, err)
	}
	if visage.NewUUID() == id {
		t.Error("two are the same")
	}
	for _, bad := range []string{
		"", "guests", "F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6", "f81d4fae7dec11d0a76500a0c91e6bf6",
		"f81d4fae-7dec-11d0-a765-00a0c91e6bf", "g81d4fae-7dec-11d0-a765-00a0c91e6bf6",
		"f81d4fae-7dec-11d0-a765-00a0c91e6bf6 ", "f81d4fae-7dec-11d0-a765-00a0c91e-bf6",
	} {
		if visage.IsUUID(bad) {
			t.Errorf("%q was taken for a UUID", bad)
		}
	}
}
