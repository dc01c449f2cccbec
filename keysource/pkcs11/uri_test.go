package pkcs11_test

import (
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/pkcs11"
)

func TestParseKey(t *testing.T) {
	for _, c := range []struct {
		address, name, version string
		want                   visage.KeyRef
	}{
		{"pkcs11:token=HSM", "faces", "", visage.KeyRef{Vault: "pkcs11:token=HSM", Name: "faces"}},
		{"PKCS11:serial=1;token=My%20HSM", "a%62", "01",
			visage.KeyRef{Vault: "pkcs11:token=My%20HSM;serial=1", Name: "ab", Version: "01"}},
		{"pkcs11:token=HSM;object=faces;id=%01%ff;type=secret-key", "", "",
			visage.KeyRef{Vault: "pkcs11:token=HSM", Name: "faces", Version: "01ff"}},
		{"pkcs11:token=HSM;object=a+b:c", "", "", visage.KeyRef{Vault: "pkcs11:token=HSM", Name: "a%2Bb%3Ac"}},
		{"pkcs11:token=HSM/keys/faces/01-0123456789abcdef", "", "",
			visage.KeyRef{Vault: "pkcs11:token=HSM", Name: "faces", Version: "01-0123456789abcdef"}},
		{"pkcs11:manufacturer=x;model=y;token=z/keys/f%C3%A9", "", "",
			visage.KeyRef{Vault: "pkcs11:token=z;manufacturer=x;model=y", Name: "f%C3%A9"}},
	} {
		got, err := pkcs11.ParseKey(c.address, c.name, c.version)
		if err != nil || got != c.want {
			t.Errorf("%s %s %s: got %+v, %v", c.address, c.name, c.version, got, err)
		}
		if err := got.Check(); err != nil {
			t.Errorf("%s: %v", c.address, err)
		}
		if again, err := pkcs11.ParseKey(got.String(), "", ""); err != nil || again != got {
			t.Errorf("%s is read as %+v, %v", got, again, err)
		}
	}
	for address, says := range map[string]string{
		"https://x":                                       "not the address of a token",
		"pkcs11:":                                         "no attribute",
		"pkcs11:object=faces":                             "names no token",
		"pkcs11:token=a;token=b;object=c":                 "twice",
		"pkcs11:token=a;object=":                          "no attribute",
		"pkcs11:token=a;object=c?pin-value=1234":          "has a PIN in it",
		"pkcs11:token=a;object=c?pin-source=file:/x":      "query",
		"pkcs11:token=a;object=c?module-path=/x.so":       "query",
		"pkcs11:token=a;object=c#x":                       "fragment",
		"pkcs11:token=a;object=%zz":                       "no attribute",
		"pkcs11:token=a;object=%0":                        "no attribute",
		"pkcs11:token=a;object=a b":                       "no attribute",
		"pkcs11:token=a;object=%00":                       "is its label",
		"pkcs11:token=a;object=%ff":                       "is its label",
		"pkcs11:token=%0a;object=a":                       "bytes of text",
		"pkcs11:token=a;slot-id=1;object=c":               "cannot be used",
		"pkcs11:token=a;type=cert;object=c":               "cannot be used",
		"pkcs11:token=a;object=c/keys/d":                  "not behind",
		"pkcs11:token=a/key/d":                            "not behind",
		"pkcs11:token=a/keys/d/zz":                        "CKA_ID in hexadecimal",
		"pkcs11:token=a":                                  "names no key",
		"pkcs11:token=" + strings.Repeat("a", 33):         "at most 32",
		"pkcs11:token=a/keys/" + strings.Repeat("a", 129): "is its label",
	} {
		got, err := pkcs11.ParseKey(address, "", "")
		if err == nil || got != (visage.KeyRef{}) || !strings.Contains(err.Error(), says) ||
			strings.Contains(err.Error(), "1234") {
			t.Errorf("%s: got %+v, %v, want %q", address, got, err, says)
		}
	}
	if _, err := pkcs11.ParseKey("pkcs11:token=a;object=b", "c", ""); err == nil {
		t.Error("a key that is named twice is accepted")
	}
}

// FuzzParseKey holds that what is parsed has one spelling.
func FuzzParseKey(f *testing.F) {
	f.Add("pkcs11:token=HSM;object=faces;id=%01", "", "")
	f.Add("pkcs11:token=HSM", "faces", "01-012345")
	f.Fuzz(func(t *testing.T, address, name, version string) {
		key, err := pkcs11.ParseKey(address, name, version)
		if err != nil {
			if key != (visage.KeyRef{}) {
				t.Error("a reference came with the error")
			}
			return
		}
		for _, form := range [][3]string{{key.Vault, key.Name, key.Version}, {key.String(), "", ""}} {
			if again, err := pkcs11.ParseKey(form[0], form[1], form[2]); err != nil || again != key {
				t.Errorf("%v is read as %+v, %v; want %+v", form, again, err, key)
			}
		}
	})
}
