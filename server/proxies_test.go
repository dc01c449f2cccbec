package server_test

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/visage-face/visage/server"
)

// TestTrustedProxies accepts a client's address from trusted proxies only.
func TestTrustedProxies(t *testing.T) {
	for name, c := range map[string]struct {
		trusted []string
		peer    string
		header  map[string][]string
		want    string // empty: refused
		host    string // empty: the host of the request
	}{
		"nobody is trusted": {nil, "10.0.0.1:5", map[string][]string{"X-Forwarded-For": {"192.0.2.1"}},
			"10.0.0.1", ""},
		"another than the trusted": {[]string{"10.0.0.2"}, "10.0.0.1:5",
			map[string][]string{"X-Forwarded-For": {"192.0.2.1"}}, "10.0.0.1", ""},
		"no header": {[]string{"10.0.0.0/8"}, "10.0.0.1:5", nil, "10.0.0.1", ""},
		"one hop": {[]string{"10.0.0.0/8"}, "10.0.0.1:5",
			map[string][]string{"X-Forwarded-For": {"192.0.2.1"}}, "192.0.2.1", ""},
		"the client invents": {[]string{"10.0.0.0/8"}, "10.0.0.1:5",
			map[string][]string{"X-Forwarded-For": {"127.0.0.1, 192.0.2.1"}}, "192.0.2.1", ""},
		"the client invents, in lines": {[]string{"10.0.0.0/8"}, "10.0.0.1:5",
			map[string][]string{"X-Forwarded-For": {"127.0.0.1", "192.0.2.1"}}, "192.0.2.1", ""},
		"two trusted": {[]string{"10.0.0.0/8"}, "10.0.0.1:5",
			map[string][]string{"X-Forwarded-For": {"192.0.2.9, 192.0.2.1, 10.2.3.4"}}, "192.0.2.1", ""},
		"all trusted": {[]string{"10.0.0.0/8"}, "10.0.0.1:5",
			map[string][]string{"X-Forwarded-For": {"10.9.9.9"}}, "10.9.9.9", ""},
		"with a port": {[]string{"10.0.0.0/8"}, "10.0.0.1:5",
			map[string][]string{"X-Forwarded-For": {"192.0.2.1:4711"}}, "192.0.2.1", ""},
		"over IPv6": {[]string{"fd00::/8"}, "[fd00::1]:5",
			map[string][]string{"X-Forwarded-For": {"2001:db8::7"}}, "2001:db8::7", ""},
		"IPv4 in IPv6": {[]string{"10.0.0.0/8"}, "[::ffff:10.0.0.1]:5",
			map[string][]string{"X-Forwarded-For": {"::ffff:192.0.2.1"}}, "192.0.2.1", ""},
		"no address": {[]string{"10.0.0.0/8"}, "10.0.0.1:5",
			map[string][]string{"X-Forwarded-For": {"192.0.2.1, unknown"}}, "10.0.0.1", ""},
		"RFC 7239": {[]string{"10.0.0.0/8"}, "10.0.0.1:5",
			map[string][]string{"Forwarded": {`for=127.0.0.1, for=192.0.2.1;proto=https;by=10.0.0.1`}}, "192.0.2.1",
			""},
		"RFC 7239 over IPv6": {[]string{"10.0.0.0/8"}, "10.0.0.1:5",
			map[string][]string{"Forwarded": {`proto=https; For="[2001:db8::7]:4711"`}}, "2001:db8::7", ""},
		"RFC 7239, hidden": {[]string{"10.0.0.0/8"}, "10.0.0.1:5",
			map[string][]string{"Forwarded": {`for=192.0.2.1, for=_hidden`}}, "10.0.0.1", ""},
		"both agree": {[]string{"10.0.0.0/8"}, "10.0.0.1:5",
			map[string][]string{"X-Forwarded-For": {"192.0.2.1"}, "Forwarded": {"for=192.0.2.1"}}, "192.0.2.1", ""},
		"both differ": {[]string{"10.0.0.0/8"}, "10.0.0.1:5",
			map[string][]string{"X-Forwarded-For": {"192.0.2.1"}, "Forwarded": {"for=127.0.0.1"}}, "", ""},
		"the host of a proxy that replaces it": {[]string{"10.0.0.0/8"}, "10.0.0.1:5",
			map[string][]string{"X-Forwarded-Host": {"v.vault.faces.example"}}, "10.0.0.1", "v.vault.faces.example"},
		"the host of a stranger": {[]string{"10.0.0.0/8"}, "192.0.2.1:5",
			map[string][]string{"X-Forwarded-Host": {"v.vault.faces.example"}}, "192.0.2.1", ""},
		"a host of another client": {[]string{"10.0.0.0/8"}, "10.0.0.1:5",
			map[string][]string{"X-Forwarded-Host": {"v.vault.evil.example"}}, "10.0.0.1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, from, host, err := server.Behind(c.trusted, "https://faces.example", c.peer, "backend:8443",
				c.header)
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				if status != http.StatusBadRequest {
					t.Errorf("got %d from %s, want a refusal", status, from)
				}
				return
			}
			if status != http.StatusOK || from != netip.MustParseAddr(c.want) {
				t.Errorf("got %d from %s, want %s", status, from, c.want)
			}
			if c.host == "" {
				c.host = "backend:8443"
			}
			if host != c.host {
				t.Errorf("got host %s, want %s", host, c.host)
			}
		})
	}
}
