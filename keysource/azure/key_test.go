package azure_test

import (
	"strings"
	"testing"

	"github.com/visage-face/visage/keysource/azure"
)

const someVersion = "0123456789abcdef0123456789abcdef"

func TestParseKey(t *testing.T) {
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
		got, err := azure.ParseKey(c.id, "", "")
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

func FuzzParseKey(f *testing.F) {
	f.Add("https://v1.vault.azure.net/keys/k1/" + someVersion)
	f.Add("https://v1.vault.localhost:8443/keys/k1")
	f.Fuzz(func(t *testing.T, id string) {
		ref, err := azure.ParseKey(id, "", "")
		if err != nil {
			return
		}
		if err := ref.Check(); err != nil {
			t.Errorf("%q reads as %+v, which no key store may have: %v", id, ref, err)
		}
		again, err := azure.ParseKey(ref.String(), "", "")
		if err != nil || again != ref {
			t.Errorf("%q reads as %+v, which writes and reads as %+v, error %v", id, ref, again, err)
		}
		parts, err := azure.ParseKey(ref.Vault+"/", ref.Name, ref.Version)
		if err != nil || parts != ref {
			t.Errorf("%+v in three parts is %+v, error %v", ref, parts, err)
		}
	})
}

// TestParseKeySaysWhatIsWrong checks that the message about a malformed identifier names the mistake and its remedy.
func TestParseKeySaysWhatIsWrong(t *testing.T) {
	const vault = "https://v1.vault.azure.net"
	for _, c := range []struct{ id, want string }{
		{"", "no key identifier"},
		{" " + vault + "/keys/k1", "has a space or a line break; leave it out"},
		{vault + "/keys/k1\n", "has a space or a line break"},
		{vault + "/keys/my key", "has a space or a line break"},
		{vault + "/keys/k1\u00a0", "has a space or a line break"},
		{vault, "address of a vault without a key"},
		{vault + "/", "address of a vault without a key"},
		{vault + "/keys", "does not have the form https://{vault}/keys/{name}"},
		{vault + "/Keys/k1", "write /keys/ in lower case"},
		{vault + "/KEYS/k1/" + someVersion, "write /keys/ in lower case"},
		{vault + "/secrets/k1/" + someVersion, "is the identifier of a secret"},
		{vault + "/Certificates/k1/" + someVersion, "is the identifier of a certificate"},
		{vault + "/deletedkeys/k1", "is the identifier of a deleted key; recover the key"},
		{vault + "/storage/k1", "does not have the form"},
		{vault + "/keys/k1/" + someVersion + "/backup", "goes on behind the version"},
		{vault + "/keys/k_1", "a key name has 1 to 127 letters, digits and hyphens"},
		{vault + "/keys/k1/v2", "a key version has 32 hexadecimal digits"},
		{"http://v1.vault.azure.net/keys/k1", "begins with https://"},
		{"v1.vault.azure.net/keys/k1", "does not have the form"},
		{vault + "/keys/k1?api-version=7.4", "leave out everything from ? or # on"},
		{vault + "/keys/k1#x", "leave out everything from ? or # on"},
		{"https://ann@v1.vault.azure.net/keys/k1", "has a user; leave it out"},
		{"https://%zz/keys/k1", "is not a URL"},
	} {
		if got, err := azure.ParseKey(c.id, "", ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v and error %v, want an error with %q", c.id, got, err, c.want)
		}
	}
	if _, err := azure.ParseKey(vault+"/keys/k1", "k1", ""); err == nil ||
		!strings.Contains(err.Error(), "the whole identifier of the key and no name") {
		t.Errorf("an identifier with a name beside it: %v", err)
	}
}

// TestParseKeyInParts reads a key in the three parts of the management plane.
func TestParseKeyInParts(t *testing.T) {
	const vault, id = "https://v1.vault.azure.net", "https://v1.vault.azure.net/keys/k1"
	for _, c := range []struct{ address, name, version, want string }{
		{vault, "k1", "", id},
		{vault + "/", "k1", someVersion, id + "/" + someVersion},
		{id, "", someVersion, ""},
		{id + "/" + someVersion, "", someVersion, id + "/" + someVersion},
		{id + "/" + someVersion, "", strings.ToUpper(someVersion), id + "/" + someVersion},
		{id + "/" + someVersion, "", strings.Repeat("0", 32), ""},
		{id, "k1", "", ""},
		{vault, "../secrets", "", ""},
		{vault, "k1", "7", ""},
		{vault + "?x=1", "k1", "", ""},
		{vault + "#f", "k1", "", ""},
		{"https:v1", "k1", "", ""},
	} {
		got, err := azure.ParseKey(c.address, c.name, c.version)
		switch {
		case c.want == "" && err == nil:
			t.Errorf("%q, %q, %q: got %v, want an error", c.address, c.name, c.version, got)
		case c.want != "" && (err != nil || got.String() != c.want || got.Check() != nil):
			t.Errorf("%q, %q, %q: got %v, %v, want %s", c.address, c.name, c.version, got, err, c.want)
		}
	}
}
