package visage_test

import (
	"strings"
	"testing"

	"github.com/visage-face/visage"
)

// ofEveryStore are references as the kinds of key stores have them, with the text of each.
var ofEveryStore = []struct {
	ref               visage.KeyRef
	text, unversioned string
}{
	{visage.KeyRef{Vault: "https://v1.vault.azure.net", Name: "k1", Version: "0123456789abcdef0123456789abcdef"},
		"https://v1.vault.azure.net/keys/k1/0123456789abcdef0123456789abcdef", "https://v1.vault.azure.net/keys/k1"},
	{visage.KeyRef{Vault: "https://v1.vault.localhost:8443", Name: "K-1"},
		"https://v1.vault.localhost:8443/keys/K-1", "https://v1.vault.localhost:8443/keys/K-1"},
	{visage.KeyRef{Vault: "hashivault://vault.example:8200/transit?namespace=a/b", Name: "face.k1", Version: "3"},
		"hashivault://vault.example:8200/transit/keys/face.k1/3?namespace=a/b",
		"hashivault://vault.example:8200/transit/keys/face.k1?namespace=a/b"},
	{visage.KeyRef{Vault: "awskms://eu-west-1/111122223333", Name: "1234abcd-12ab-34cd-56ef-1234567890ab"},
		"awskms://eu-west-1/111122223333/keys/1234abcd-12ab-34cd-56ef-1234567890ab",
		"awskms://eu-west-1/111122223333/keys/1234abcd-12ab-34cd-56ef-1234567890ab"},
	{visage.KeyRef{Vault: "gcpkms://projects/p/locations/l/keyRings/r", Name: "k_1", Version: "7"},
		"gcpkms://projects/p/locations/l/keyRings/r/keys/k_1/7", "gcpkms://projects/p/locations/l/keyRings/r/keys/k_1"},
	{visage.KeyRef{Vault: "pkcs11:token=My%20token;serial=1", Name: "My%20key", Version: "%01%a0"},
		"pkcs11:token=My%20token;serial=1/keys/My%20key/%01%a0", "pkcs11:token=My%20token;serial=1/keys/My%20key"},
	{visage.KeyRef{Vault: "kmip://hsm.example:5696", Name: "42"},
		"kmip://hsm.example:5696/keys/42", "kmip://hsm.example:5696/keys/42"},
}

// TestKeyRef writes references of every kind of store, each in a text that no other reference has.
func TestKeyRef(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range ofEveryStore {
		if err := c.ref.Check(); err != nil {
			t.Errorf("%+v: %v", c.ref, err)
		}
		if c.ref.String() != c.text || c.ref.Unversioned() != c.unversioned {
			t.Errorf("%+v is written %s and %s, want %s and %s", c.ref, c.ref, c.ref.Unversioned(), c.text,
				c.unversioned)
		}
		if seen[c.ref.Unversioned()] {
			t.Errorf("%s is the text of two keys", c.ref.Unversioned())
		}
		seen[c.ref.Unversioned()] = true
	}
}

// TestKeyRefCheck refuses what no key store may have.
func TestKeyRefCheck(t *testing.T) {
	good := visage.KeyRef{Vault: "kmip://hsm.example", Name: "42", Version: "1"}
	for name, change := range map[string]func(*visage.KeyRef){
		"no address":         func(k *visage.KeyRef) { k.Vault = "" },
		"no scheme":          func(k *visage.KeyRef) { k.Vault = "hsm.example" },
		"scheme in capitals": func(k *visage.KeyRef) { k.Vault = "KMIP://hsm.example" },
		"user":               func(k *visage.KeyRef) { k.Vault = "kmip://user:word@hsm.example" },
		"fragment":           func(k *visage.KeyRef) { k.Vault += "#part" },
		"space in address":   func(k *visage.KeyRef) { k.Vault += "/a b" },
		"long address":       func(k *visage.KeyRef) { k.Vault += "/" + strings.Repeat("a", 1024) },
		"no name":            func(k *visage.KeyRef) { k.Name = "" },
		"path as name":       func(k *visage.KeyRef) { k.Name = "../secrets" },
		"parent as name":     func(k *visage.KeyRef) { k.Name = ".." },
		"query in name":      func(k *visage.KeyRef) { k.Name = "k?x" },
		"control in name":    func(k *visage.KeyRef) { k.Name = "k\n1" },
		"long name":          func(k *visage.KeyRef) { k.Name = strings.Repeat("k", 513) },
		"path as version":    func(k *visage.KeyRef) { k.Version = "1/2" },
		"long version":       func(k *visage.KeyRef) { k.Version = strings.Repeat("1", 257) },
	} {
		bad := good
		change(&bad)
		if bad.Check() == nil {
			t.Errorf("%s: %+v was taken", name, bad)
		}
	}
	if err := good.Check(); err != nil {
		t.Errorf("%+v: %v", good, err)
	}
}

// TestSameKey compares without regard to case where the store does, and nowhere else: taking two keys for one would
// leave data under the wrong one.
func TestSameKey(t *testing.T) {
	for _, c := range ofEveryStore {
		lower := visage.KeyRef{Vault: c.ref.Vault, Name: "key", Version: "1"}
		upper := visage.KeyRef{Vault: c.ref.Vault, Name: "KEY", Version: "2"}
		other := visage.KeyRef{Vault: c.ref.Vault, Name: "other", Version: "1"}
		if newer := (visage.KeyRef{Vault: c.ref.Vault, Name: "key", Version: "2"}); !lower.SameKey(newer) {
			t.Errorf("%s and %s are versions of one key", lower, newer)
		}
		if lower.SameKey(other) {
			t.Errorf("%s and %s are two keys", lower, other)
		}
		if got, want := lower.SameKey(upper), c.ref.Scheme() == "https"; got != want {
			t.Errorf("%s and %s: the same key %t, want %t", lower, upper, got, want)
		}
	}
}
