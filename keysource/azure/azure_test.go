package azure_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/azure"
	"github.com/visage-face/visage/keysource/sourcetest"
)

// told returns a source whose vault answers every request that carries a token with fault.
func told(fault http.HandlerFunc) func(testing.TB) keysource.Source {
	return func(t testing.TB) keysource.Source {
		v := newVault(t)
		v.set(func() { v.fault = fault })
		return v.source("one", versionOne)
	}
}

// edited returns a source whose vault changes its good answers.
func edited(change func(map[string]any)) func(testing.TB) keysource.Source {
	return func(t testing.TB) keysource.Source {
		v := newVault(t)
		v.set(func() { v.edit = change })
		return v.source("one", versionOne)
	}
}

// before returns a source whose vault answers every request with raw, also those without a token.
func before(raw http.HandlerFunc) func(testing.TB) keysource.Source {
	return func(t testing.TB) keysource.Source {
		v := newVault(t)
		v.set(func() { v.raw = raw })
		return v.source("one", versionOne)
	}
}

func as(c credential) func(testing.TB) keysource.Source {
	return func(t testing.TB) keysource.Source { return newVault(t).sourceAs("one", versionOne, c) }
}

func field(name string, value any) func(map[string]any) {
	return func(m map[string]any) { m[name] = value }
}

// dialing returns a source with its own dial function.
func dialing(dial func(ctx context.Context, v *vault) (net.Conn, error)) func(testing.TB) keysource.Source {
	return func(t testing.TB) keysource.Source {
		v := newVault(t)
		cfg := v.config()
		cfg.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, v) }
		s, err := azure.NewVaults(cfg).Open(v.key("one", versionOne), credential{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// faults are the known failures of vaults and of the network before them.
func faults() []sourcetest.Fault {
	denied, wrong, unknown := keysource.ErrDenied, keysource.ErrWrong, keysource.ErrUnknown
	return []sourcetest.Fault{
		{Name: "no permission", Source: told(answer(403, "Forbidden", "AccessDenied")), Class: denied,
			Says: "AccessDenied"},
		{Name: "no role", Source: told(answer(403, "Forbidden", "ForbiddenByRbac")), Class: denied,
			Says: "ForbiddenByRbac"},
		{Name: "firewall", Source: told(answer(403, "Forbidden", "ForbiddenByFirewall")), Class: denied,
			Says: "ForbiddenByFirewall"},
		{Name: "disabled", Source: told(answer(403, "Forbidden", "KeyDisabled")), Class: denied, Says: "KeyDisabled"},
		{Name: "not yet valid", Source: told(answer(403, "Forbidden", "KeyNotYetValid")), Class: denied,
			Says: "KeyNotYetValid"},
		{Name: "not among key_ops", Source: told(answer(403, "Forbidden", "")), Class: denied, Says: "403"},
		{Name: "deleted", Source: told(answer(404, "KeyNotFound", "")), Class: denied, Says: "KeyNotFound"},
		{Name: "token refused", Source: as(credential{token: "bad"}), Class: denied, Says: "401"},
		{Name: "principal gone", Source: as(credential{err: keysource.ErrDenied}), Class: denied, Says: "principal"},

		{Name: "kid of another key", Source: edited(field("kid", "https://v/keys/other/"+versionOne)), Class: wrong,
			Says: "other"},
		{Name: "kid of another version", Source: edited(func(m map[string]any) {
			m["kid"] = strings.Replace(m["kid"].(string), versionOne, versionTwo, 1)
		}), Class: wrong, Says: versionTwo},

		{Name: "token endpoint down", Source: as(credential{err: errors.New("no route")}), Class: unknown,
			Says: "token"},
		{Name: "401 without a challenge", Source: told(says(401, `{"error":{"code":"Unauthorized"}}`)), Class: unknown,
			Says: "401"},
		{
			Name:   "garbled challenge",
			Source: before(says(401, "", "WWW-Authenticate", `Bearer authorization="x", resource="y"`)),
			Class:  unknown, Says: "malformed"},
		{Name: "garbled second challenge", Source: before(says(401, "", "WWW-Authenticate",
			`Bearer authorization="https://l/t" authorization="x" resource="y"`)), Class: unknown, Says: "malformed"},
		{Name: "challenge without resource",
			Source: before(says(401, "", "WWW-Authenticate", `Bearer authorization="https://l/t"`)),
			Class:  unknown, Says: "resource"},
		{Name: "400", Source: told(answer(400, "BadParameter", "")), Class: unknown, Says: "BadParameter"},
		{Name: "403 of a proxy", Source: told(says(403, "<html>blocked</html>")), Class: unknown,
			Says: "without a vault's error document"},
		{Name: "403 of another service", Source: told(answer(403, "AuthorizationFailed", "")), Class: unknown,
			Says: "AuthorizationFailed"},
		{Name: "403 that says two things", Source: told(says(403, `{"error":{"code":"Forbidden","Code":"Throttled"}}`)),
			Class: unknown, Says: "without a vault's error document"},
		{Name: "403 cut short", Source: told(says(403, `{"error":{"code":"Forbidden"`)), Class: unknown,
			Says: "without a vault's error document"},
		{Name: "404 of another thing", Source: told(answer(404, "VaultNotFound", "")), Class: unknown,
			Says: "VaultNotFound"},
		{Name: "404 page", Source: told(says(404, "<html></html>")), Class: unknown, Says: "404"},
		{Name: "408", Source: told(answer(408, "RequestTimeout", "")), Class: unknown, Says: "408"},
		{Name: "being deleted", Source: told(answer(409, "Conflict", "ObjectIsBeingDeleted")), Class: unknown,
			Says: "ObjectIsBeingDeleted"},
		{Name: "being recovered", Source: told(answer(409, "Conflict", "ObjectIsBeingRecovered")), Class: unknown,
			Says: "BeingRecovered"},
		{Name: "throttled", Source: told(answer(429, "Throttled", "")), Class: unknown, Says: "Throttled"},
		{Name: "throttled for long", Source: told(says(429, `{"error":{"code":"Throttled"}}`, "Retry-After", "3600")),
			Class: unknown, Says: "Throttled"},
		{Name: "500", Source: told(answer(500, "InternalServerError", "")), Class: unknown, Says: "500"},
		{Name: "502 page", Source: told(says(502, "<html></html>")), Class: unknown, Says: "502"},
		{Name: "503", Source: told(answer(503, "ServiceUnavailable", "")), Class: unknown, Says: "503"},
		{Name: "504", Source: told(says(504, "")), Class: unknown, Says: "504"},
		{Name: "redirect", Source: told(says(302, "", "Location", "https://vault.test/")), Class: unknown, Says: "302"},
		{Name: "200 page", Source: told(says(200, "<html>sign in</html>")), Class: unknown, Says: "key"},
		{Name: "200 cut short", Source: told(says(200, `{"kid":"https://v/keys/one/`)), Class: unknown, Says: "key"},
		{Name: "200 without anything", Source: told(says(200, `{}`)), Class: unknown, Says: "names no key"},
		{Name: "200 without a kid", Source: edited(func(m map[string]any) { delete(m, "kid") }), Class: unknown,
			Says: "names no key"},
		{Name: "200 without a value", Source: edited(func(m map[string]any) { delete(m, "value") }), Class: unknown,
			Says: "answered with"},
		{Name: "200 with a value of another alphabet", Source: edited(field("value", "!!")), Class: unknown,
			Says: "key"},
		{Name: "reset", Source: told(breaks("")), Class: unknown, Says: "key"},
		{Name: "reset within the headers", Source: told(breaks("HTTP/1.1 200 OK\r\nContent-")), Class: unknown,
			Says: "key"},
		{Name: "reset within the body", Source: told(breaks("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{")),
			Class: unknown, Says: "key"},
		{Name: "headers without end", Source: told(breaks("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20))),
			Class: unknown, Says: "key"},
		{Name: "not HTTP", Source: told(breaks("SSH-2.0-x\r\n")), Class: unknown, Says: "key"},
		{Name: "no such name", Source: dialing(func(context.Context, *vault) (net.Conn, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "v", IsNotFound: true}
		}), Class: unknown, Says: "no such host"},
		{Name: "nobody listens", Source: func(t testing.TB) keysource.Source {
			v := newVault(t)
			s := v.source("one", versionOne)
			v.Close()
			return s
		}, Class: unknown, Says: "refused"},
		{Name: "certificate of another authority", Source: func(t testing.TB) keysource.Source {
			v := newVault(t)
			cfg := v.config()
			cfg.Roots = x509.NewCertPool()
			s, err := azure.NewVaults(cfg).Open(v.key("one", versionOne), credential{})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}, Class: unknown, Says: "certificate"},
		{Name: "TLS 1.1", Source: func(t testing.TB) keysource.Source {
			return newVault(t).spoilTLS(func(c *tls.Config) {
				c.MinVersion, c.MaxVersion = tls.VersionTLS11,
					tls.VersionTLS11
			}).
				source("one", versionOne)
		}, Class: unknown, Says: "protocol version"},
	}
}

func TestSource(t *testing.T) {
	v := newVault(t)
	sourcetest.Run(t, sourcetest.Provider{
		Open:   func(testing.TB) keysource.Source { return v.source("one", "") },
		Other:  func(testing.TB) keysource.Source { return v.source("two", "") },
		Faults: faults(),
		Stride: 16,
	})
}

// TestExpiredKey checks that expiry stops wrapping, but not unwrapping: a vault that refuses to unwrap an expired key
// denies it.
func TestExpiredKey(t *testing.T) {
	v := newVault(t)
	s := v.source("one", versionOne)
	blob, ref, err := s.Wrap(t.Context(), []byte("inner"))
	if err != nil {
		t.Fatal(err)
	}
	v.set(func() { v.fault = answer(403, "Forbidden", "KeyExpired") })
	if _, _, err := s.Wrap(t.Context(), []byte("inner")); !errors.Is(err, keysource.ErrExpired) {
		t.Errorf("wrap: got %v, want ErrExpired", err)
	}
	if _, err := s.Unwrap(t.Context(), ref, blob); !errors.Is(err, keysource.ErrDenied) {
		t.Errorf("unwrap: got %v, want ErrDenied", err)
	}
}

func TestReasons(t *testing.T) {
	v := newVault(t)
	s := v.source("one", versionOne)
	for inner, want := range map[string]keysource.Reason{
		"AccessDenied": keysource.Permission, "ForbiddenByRbac": keysource.Permission, "": keysource.Permission,
		"KeyDisabled": keysource.Disabled, "ForbiddenByFirewall": keysource.Firewall,
		"KeyNotYetValid": keysource.NotYetValid,
	} {
		v.set(func() { v.fault = answer(403, "Forbidden", inner) })
		_, err := s.Describe(t.Context(), keysource.Ref{})
		if e, ok := errors.AsType[*keysource.Error](err); !ok || e.Reason != want {
			t.Errorf("%s: got %v, want reason %s", inner, err, want)
		}
	}
}

func TestDescribe(t *testing.T) {
	v := newVault(t)
	d, err := v.source("one", "").Describe(t.Context(), keysource.Ref{})
	if err != nil {
		t.Fatal(err)
	}
	if d.Ref.Version != versionOne || d.KeyType != "RSA" || d.Bits != 2048 || d.Recovery != "Recoverable" ||
		!d.Enabled ||
		d.NotBefore.Unix() != 1600000000 || d.Expires.Unix() != 4000000000 ||
		!slices.Equal(d.Operations, []string{"wrapKey", "unwrapKey"}) {
		t.Errorf("got %+v", d)
	}
}

// TestDescribeWeak checks that a key that anyone can factor is distinguished from a good one.
func TestDescribeWeak(t *testing.T) {
	for name, n := range map[string]*big.Int{
		"small factor": new(big.Int).Mul(big.NewInt(65521), pair()[0].N),
		"a square":     new(big.Int).Mul(pair()[0].Primes[0], pair()[0].Primes[0]),
	} {
		d, err := edited(func(m map[string]any) {
			m["key"].(map[string]any)["n"] = base64.RawURLEncoding.EncodeToString(n.Bytes())
		})(t).Describe(t.Context(), keysource.Ref{})
		if err != nil || d.Weak == "" {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
	d, err := newVault(t).source("one", "").Describe(t.Context(), keysource.Ref{})
	if err != nil || d.Weak != "" {
		t.Errorf("a good key: %+v, %v", d, err)
	}
}

// TestRequests checks that every wrap and unwrap reaches the vault once, with a version.
func TestRequests(t *testing.T) {
	v := newVault(t)
	s := v.source("one", versionTwo)
	blob, ref, err := s.Wrap(t.Context(), []byte("inner"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Unwrap(t.Context(), ref, blob); err != nil {
		t.Fatal(err)
	}
	v.set(func() { v.fault = answer(503, "ServiceUnavailable", "") })
	if _, err := s.Unwrap(t.Context(), ref, blob); err == nil {
		t.Fatal("no error")
	}
	at := "/keys/one/" + versionTwo
	if want := []string{"POST " + at + "/wrapkey", "POST " + at + "/unwrapkey",
		"POST " + at + "/unwrapkey"}; !slices.Equal(v.calls, want) {
		t.Errorf("got requests %q, want %q", v.calls, want)
	}
}

func TestHosts(t *testing.T) {
	cfg := azure.Config{Hosts: []string{"127.0.0.1:8443", ".vault.localhost:8443"}}
	for host, want := range map[string]bool{
		"v-1.vault.azure.net": true, "v-1.vault.localhost:8443": true, "127.0.0.1:8443": true,
		"v-1.vault.usgovcloudapi.net": true, "V-1.Vault.Azure.Net": true, "v-1.vault.azure.net:443": true,
		"v-1.vault.azure.net:8443": false, "vault.azure.net": false, "a.b.vault.azure.net": false,
		"evil.example":                     false,
		"v-1.vault.azure.net.evil.example": false, "127.0.0.1": false, "169.254.169.254": false,
		"evil-vault.azure.net": false,
		"v-1.vault.localhost":  false, "127.0.0.1:8444": false, "x127.0.0.1:8443": false,
	} {
		_, err := azure.NewVaults(cfg).Open(visage.KeyRef{Vault: "https://" + host, Name: "k"}, credential{})
		if (err == nil) != want {
			t.Errorf("%s: got error %v, want allowed %t", host, err, want)
		}
	}
	if _, err := azure.NewVaults(cfg).Open(visage.KeyRef{Vault: "https://v-1.vault.azure.net/x", Name: "k"},
		credential{}); err == nil {
		t.Error("a vault's address with a path was accepted")
	}
	if _, err := azure.NewVaults(cfg).Open(visage.KeyRef{Vault: "https://v-1.vault.azure.net", Name: "../secrets"},
		credential{}); err == nil {
		t.Error("a key's name with a path was accepted")
	}
}

// TestDeadline checks that a call to a vault that accepts the connection but never answers ends after five seconds.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := make(chan net.Conn, 8)
		s, err := azure.NewVaults(azure.Config{Dial: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			ends <- server
			return client, nil
		}}).Open(visage.KeyRef{Vault: "https://v-1.vault.azure.net", Name: "k"}, credential{})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = s.Describe(t.Context(), keysource.Ref{})
		if took := time.Since(start); !errors.Is(err, keysource.ErrUnknown) || took != 5*time.Second {
			t.Errorf("got %v after %v, want ErrUnknown after 5 s", err, took)
		}
		for len(ends) > 0 {
			(<-ends).Close()
		}
	})
}

func TestMain(m *testing.M) {
	pair() // randomness is drawn once before the bubble's clock stops
	m.Run()
}

// TestAnswersWithoutAnInnerCode checks that the error has no extra space where an answer has no inner code: users read
// these texts.
func TestAnswersWithoutAnInnerCode(t *testing.T) {
	source := told(answer(http.StatusNotFound, "KeyNotFound", ""))(t)
	_, _, err := source.Wrap(t.Context(), make([]byte, 32))
	if err == nil || !strings.Contains(err.Error(), "status 404 KeyNotFound:") {
		t.Errorf("got %q, want the vault's code with a colon right behind it", err)
	}
}
