package visage_test

import (
	"strings"
	"testing"

	"github.com/visage-face/visage"
)

func TestParseOrigin(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"https://faces.example", "https://faces.example"},
		{"https://faces.example/", "https://faces.example"},
		{"HTTPS://Faces.EXAMPLE:443/", "https://faces.example"},
		{"https://faces.example.:0443", "https://faces.example"},
		{"https://faces.example:", "https://faces.example"},
		{"http://faces.example:80", "http://faces.example"},
		{"http://faces.example:443", "http://faces.example:443"},
		{"https://faces.example:80", "https://faces.example:80"},
		{"https://Gesichter-Größe.example:8443", "https://xn--gesichter-gre-mdb85a.example:8443"},
		{"https://localhost:8443", "https://localhost:8443"},
		{"https://127.0.0.1:443", "https://127.0.0.1"},
		{"https://[::1]:443/", "https://[::1]"},
		{"https://[0:0:0:0:0:0:0:1]:8443", "https://[::1]:8443"},
		{"https://[::ffff:127.0.0.1]", "https://127.0.0.1"},
		{"faces.example", ""},
		{"//faces.example", ""},
		{"ftp://faces.example", ""},
		{"https://", ""},
		{"https://:443", ""},
		{"https://faces.example/x", ""},
		{"https://faces.example//", ""},
		{"https://faces.example?", ""},
		{"https://faces.example#x", ""},
		{"https://me@faces.example", ""},
		{"https://faces.example:0", ""},
		{"https://faces.example:65536", ""},
		{"https://faces..example", ""},
		{"https://faces.example..", ""},
		{"https://-faces.example", ""},
		{"https://faces_.example", ""},
		{"https://127.1", ""},
		{"https://0x7f000001", ""},
		{"https://[fe80::1%25eth0]", ""},
		{"https://" + strings.Repeat("long.", 60) + "example", ""},
		{"", ""},
	} {
		got, err := visage.ParseOrigin(c.text)
		if c.want == "" {
			if err == nil {
				t.Errorf("%q: got %v, want an error", c.text, got)
			}
			continue
		}
		if err != nil || got.String() != c.want {
			t.Errorf("%q: got %v and error %v, want %s", c.text, got, err, c.want)
			continue
		}
		if again, err := visage.ParseOrigin(got.String()); err != nil || again != got {
			t.Errorf("%q: %v reads as %v, error %v", c.text, got, again, err)
		}
	}
}

func TestOriginParts(t *testing.T) {
	for _, c := range []struct{ text, host, hostname, port, sub string }{
		{"https://faces.example:443", "faces.example", "faces.example", "443", "https://a.vault.faces.example"},
		{"https://faces.example:8443", "faces.example:8443", "faces.example", "8443",
			"https://a.vault.faces.example:8443"},
		{"http://faces.example", "faces.example", "faces.example", "80", "http://a.vault.faces.example"},
	} {
		o, err := visage.ParseOrigin(c.text)
		if err != nil {
			t.Fatal(err)
		}
		sub := o.Sub("A.vault")
		if o.Host() != c.host || o.Hostname() != c.hostname || o.Port() != c.port || sub.String() != c.sub {
			t.Errorf("%s: host %s, name %s, port %s, below it %s", c.text, o.Host(), o.Hostname(), o.Port(), sub)
		}
		if label, below := o.Below(sub); !below || label != "a.vault" {
			t.Errorf("%s: what is below it has the label %q, %v", c.text, label, below)
		}
	}
}

func TestOriginBelow(t *testing.T) {
	o, err := visage.ParseOrigin("https://faces.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		host  string
		label string
		below bool
		same  bool
	}{
		{"a.faces.example", "a", true, false},
		{"A.Vault.FACES.example.:8443", "a.vault", true, false},
		{"faces.example", "", false, true},
		{"FACES.example.:443", "", false, true},
		{"afaces.example", "", false, false},
		{"faces.example.org", "", false, false},
		{"a..faces.example", "", false, false},
		{"[::1]:443", "", false, false},
		{"", "", false, false},
	} {
		label, below := o.BelowHost(c.host)
		if label != c.label && c.below || below != c.below || o.HasHost(c.host) != c.same {
			t.Errorf("%q: label %q, below %v, the same %v", c.host, label, below, o.HasHost(c.host))
		}
	}
	for _, other := range []string{"http://a.faces.example", "https://a.faces.example:8443", "https://faces.example"} {
		p, err := visage.ParseOrigin(other)
		if err != nil {
			t.Fatal(err)
		}
		if label, below := o.Below(p); below {
			t.Errorf("%s is below it, as %q", other, label)
		}
	}
}

func FuzzParseOrigin(f *testing.F) {
	f.Add("https://faces.example:8443/")
	f.Add("HTTP://[::1]:080")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := visage.ParseOrigin(text)
		if err != nil {
			return
		}
		again, err := visage.ParseOrigin(strings.ToUpper(o.String()) + "/")
		if err != nil || again != o {
			t.Errorf("%q reads as %v, which reads as %v, error %v", text, o, again, err)
		}
	})
}
