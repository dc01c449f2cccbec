package visage_test

import (
	"strings"
	"testing"

	"github.com/visage-face/visage"
)

const someVersion = "0123456789abcdef0123456789abcdef"

func TestParseKeyRef(t *testing.T) {
	for _, c := range []struct{ id, want string }{
		{"https://v1.vault.azure.net/keys/k1", "https://v1.vault.azure.net/keys/k1"},
		{"https://V1.Vault.azure.net:443/keys/k1/" + someVersion, "https://v1.vault.azure.net/keys/k1/" + someVersion},
		{"https://v1.vault.localhost:8443/keys/K-1", "https://v1.vault.localhost:8443/keys/K-1"},
		{"http://v1.vault.azure.net/keys/k1", ""},
		{"https://u:p@v1.vault.azure.net/keys/k1", ""},
		{"https://v1.vault.azure.net@evil.example/keys/k1", ""},
		{"https://v1.vault.azure.net/keys/k1?x=1", ""},
		{"https://v1.vault.azure.net/keys/k1?", ""},
		{"https://v1.vault.azure.net/keys/k1#f", ""},
		{"https://v1.vault.azure.net/keys/../secrets/k1", ""},
		{"https://v1.vault.azure.net/keys/%2e%2e", ""},
		{"https://v1.vault.azure.net/keys/a%2fb", ""},
		{"https://v1.vault.azure.net/keys/k1/", "https://v1.vault.azure.net/keys/k1"},
		{"https://v1.vault.azure.net/keys/k1/" + someVersion + "/",
			"https://v1.vault.azure.net/keys/k1/" + someVersion},
		{"HTTPS://v1.vault.azure.net.:0443/keys/k1", "https://v1.vault.azure.net/keys/k1"},
		{"https://v1.vault.azure.net/keys/k1//", ""},
		{"https://v1.vault.azure.net/keys/", ""},
		{"https://v1.vault.azure.net/keys//", ""},
		{"https://v1.vault.azure.net//keys/k1", ""},
		{"https://v1.vault.azure.net/keys/k1/" + someVersion + "/x", ""},
		{"https://v1.vault.azure.net/keys/k1/" + strings.ToUpper(someVersion),
			"https://v1.vault.azure.net/keys/k1/" + someVersion},
		{"https://v1..azure.net/keys/k1", ""},
		{"https:///keys/k1", ""},
		{"https:v1/keys/k1", ""},
		{"", ""},
	} {
		got, err := visage.ParseKeyRef(c.id)
		if c.want == "" {
			if err == nil {
				t.Errorf("%q: got %v, want a refusal", c.id, got)
			}
			continue
		}
		if err != nil || got.String() != c.want {
			t.Errorf("%q: got %v and error %v, want %s", c.id, got, err, c.want)
		}
	}
}

func FuzzParseKeyRef(f *testing.F) {
	f.Add("https://v1.vault.azure.net/keys/k1/" + someVersion)
	f.Add("https://v1.vault.localhost:8443/keys/k1")
	f.Fuzz(func(t *testing.T, id string) {
		ref, err := visage.ParseKeyRef(id)
		if err != nil {
			return
		}
		again, err := visage.ParseKeyRef(ref.String())
		if err != nil || again != ref {
			t.Errorf("%q reads as %+v, which writes and reads as %+v, error %v", id, ref, again, err)
		}
		parts, err := visage.NewKeyRef(ref.Vault+"/", ref.Name, ref.Version)
		if err != nil || parts != ref {
			t.Errorf("%+v in three parts is %+v, error %v", ref, parts, err)
		}
	})
}
