package kmip_test

import (
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/kmip"
)

func TestParseKey(t *testing.T) {
	for _, c := range []struct {
		address, name, version string
		want                   visage.KeyRef
	}{
		{"kmip://KMS.example:5696/", "faces", "", visage.KeyRef{Vault: "kmip://kms.example", Name: "faces"}},
		{"kmip://kms.example:05697", "a%20b", "1-2", visage.KeyRef{Vault: "kmip://kms.example:5697", Name: "a%20b",
			Version: "1-2"}},
		{"kmip://[::1]/keys/faces/a%2Fb", "", "",
			visage.KeyRef{Vault: "kmip://[::1]", Name: "faces", Version: "a%2Fb"}},
		{"kmip://192.0.2.1/keys/f%c3%a9", "", "x",
			visage.KeyRef{Vault: "kmip://192.0.2.1", Name: "f%C3%A9", Version: "x"}},
	} {
		got, err := kmip.ParseKey(c.address, c.name, c.version)
		if err != nil || got != c.want {
			t.Errorf("%s %s %s: got %+v, %v", c.address, c.name, c.version, got, err)
		}
		if err := got.Check(); err != nil {
			t.Errorf("%s: %v", c.address, err)
		}
		if again, err := kmip.ParseKey(got.String(), "", ""); err != nil || again != got {
			t.Errorf("%s is read as %+v, %v", got, again, err)
		}
	}
	for address, says := range map[string]string{
		"https://kms.example/keys/a":                          "not the address of a KMIP server",
		"kmip:x":                                              "not the address",
		"kmip://user@kms.example/keys/a":                      "has a user",
		"kmip://kms.example/keys/a?x":                         "a query",
		"kmip://kms.example/keys/a#x":                         "fragment",
		"kmip://kms.example:0/keys/a":                         "not a port",
		"kmip://-/keys/a":                                     "not the host",
		"kmip://kms.example":                                  "names no key",
		"kmip://kms.example/keys/":                            "names no key",
		"kmip://kms.example/keys/a/b/c":                       "names no key",
		"kmip://kms.example/keys/%00":                         "bytes of text",
		"kmip://kms.example/keys/a/%ff":                       "unique identifier",
		"kmip://kms.example/keys/" + strings.Repeat("a", 129): "1 to 128 bytes",
	} {
		got, err := kmip.ParseKey(address, "", "")
		if err == nil || got != (visage.KeyRef{}) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %+v, %v, want %q", address, got, err, says)
		}
	}
}

// FuzzParseKey holds that what is parsed has one spelling.
func FuzzParseKey(f *testing.F) {
	f.Add("kmip://kms.example:5696/keys/faces/1", "", "")
	f.Add("kmip://[::1]", "faces", "a%2Fb")
	f.Fuzz(func(t *testing.T, address, name, version string) {
		key, err := kmip.ParseKey(address, name, version)
		if err != nil {
			return
		}
		for _, form := range [][3]string{{key.Vault, key.Name, key.Version}, {key.String(), "", ""}} {
			if again, err := kmip.ParseKey(form[0], form[1], form[2]); err != nil || again != key {
				t.Errorf("%v is read as %+v, %v; want %+v", form, again, err, key)
			}
		}
	})
}
