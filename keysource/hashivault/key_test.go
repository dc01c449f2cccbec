package hashivault_test

import (
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/hashivault"
)

// TestParseKey reads references in every spelling, and returns the one that is stored.
func TestParseKey(t *testing.T) {
	for in, want := range map[[3]string]string{
		{"hashivault://vault.example/transit", "faces", ""}:              "vault.example/transit/keys/faces",
		{"HashiVault://VAULT.example:8200/transit/", "faces", "3"}:       "vault.example/transit/keys/faces/3",
		{"hashivault://vault.example:08300/a/b", "faces", ""}:            "vault.example:8300/a/b/keys/faces",
		{"hashivault://vault.example/transit/keys/faces", "", ""}:        "vault.example/transit/keys/faces",
		{"hashivault://vault.example/transit/keys/faces/12", "", ""}:     "vault.example/transit/keys/faces/12",
		{"hashivault://vault.example/transit/keys/faces/12", "", "12"}:   "vault.example/transit/keys/faces/12",
		{"hashivault://vault.example/t/keys/f?namespace=/a/b/", "", ""}:  "vault.example/t/keys/f?namespace=a/b",
		{"hashivault://[2001:DB8::1]:8300/transit", "f", ""}:             "[2001:db8::1]:8300/transit/keys/f",
		{"hashivault://[2001:db8::1]/transit", "f", ""}:                  "[2001:db8::1]/transit/keys/f",
		{"hashivault://vault.example/transit/keys", "faces", ""}:         "vault.example/transit/keys/keys/faces",
		{"hashivault://vault.example/transit/keys/keys/faces/1", "", ""}: "vault.example/transit/keys/keys/faces/1",
	} {
		key, err := hashivault.ParseKey(in[0], in[1], in[2])
		if want = "hashivault://" + want; err != nil || key.String() != want {
			t.Errorf("%q: got %s, %v; want %s", in, key, err, want)
			continue
		}
		if again, err := hashivault.ParseKey(key.String(), "", ""); err != nil || again != key || again.Check() != nil {
			t.Errorf("%s: read again it is %s, %v", key, again, err)
		}
	}
	for in, says := range map[[3]string]string{
		{"https://vault.example/transit", "faces", ""}:                      "not the address",
		{"hashivault:transit", "faces", ""}:                                 "not the address",
		{"hashivault://user:pass@vault.example/transit", "faces", ""}:       "has a user",
		{"hashivault://vault.example/transit#x", "faces", ""}:               "fragment",
		{"hashivault://vault.example/a%2Fb", "faces", ""}:                   "escaped",
		{"hashivault://vault.example/a/../b", "faces", ""}:                  "segment",
		{"hashivault://vault.example/", "faces", ""}:                        "segment",
		{"hashivault://vault.example/transit", "", ""}:                      "names no key",
		{"hashivault://vault.example/transit", "../sys", ""}:                "name of a transit key",
		{"hashivault://vault.example/transit", "keys", ""}:                  "ambiguous",
		{"hashivault://vault.example/transit", "faces", "0"}:                "number from 1",
		{"hashivault://vault.example/transit", "faces", "v3"}:               "number from 1",
		{"hashivault://vault.example/transit/keys/faces/1", "", "2"}:        "different versions",
		{"hashivault://vault.example:0/transit", "faces", ""}:               "not a port",
		{"hashivault://vault..example/transit", "faces", ""}:                "not the host",
		{"hashivault://vault.example/transit?namespace=root", "faces", ""}:  "root namespace",
		{"hashivault://vault.example/transit?namespace=", "faces", ""}:      "empty namespace",
		{"hashivault://vault.example/transit?ns=a", "faces", ""}:            "query",
		{"hashivault://vault.example/t?namespace=a&namespace=b", "f", ""}:   "query",
		{"hashivault://vault.example/t?namespace=a%20b", "f", ""}:           "segment",
		{"hashivault://vault.example/a/b/c/d/e/f/g/h/i", "faces", ""}:       "at most 8",
		{"hashivault://vault.example/" + strings.Repeat("a", 200), "f", ""}: "segment",
	} {
		key, err := hashivault.ParseKey(in[0], in[1], in[2])
		if err == nil || !strings.Contains(err.Error(), says) || key != (visage.KeyRef{}) {
			t.Errorf("%q: got %s, %v; want %q", in, key, err, says)
		}
	}
}
