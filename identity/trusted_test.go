package identity_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/identity"
)

// published is a key of a JSON Web Key Set.
func published(kid string, n, e *big.Int) string {
	encode := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf(`{"kty":"RSA","use":"sig","alg":"RS256","kid":%q,"n":%q,"e":%q}`, kid, encode(n.Bytes()),
		encode(e.Bytes()))
}

// TestWeakKeyOfASet: a weak key of a trusted issuer, or one that cannot be read, is passed over and costs no other; its
// own signatures count for nothing.
func TestWeakKeyOfASet(t *testing.T) {
	made, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	f4 := big.NewInt(65537)
	good := published("good", made.N, f4)
	for name, weak := range map[string]string{
		"1024 bits":        published("weak", made.Primes[0], f4),
		"e of 3":           published("weak", made.N, big.NewInt(3)),
		"a small factor":   published("weak", new(big.Int).Mul(big.NewInt(65521), made.N), f4),
		"a square":         published("weak", new(big.Int).Mul(made.Primes[0], made.Primes[0]), f4),
		"an enormous e":    published("weak", made.N, made.N),
		"no modulus":       `{"kty":"RSA","kid":"weak","e":"AQAB"}`,
		"not base64url":    `{"kty":"RSA","kid":"weak","n":"***","e":"AQAB"}`,
		"a number for n":   `{"kty":"RSA","kid":"weak","n":17,"e":"AQAB"}`,
		"no object at all": `"weak"`,
	} {
		for _, set := range []string{good + "," + weak, weak + "," + good} {
			keys, err := identity.KeysOf([]byte(`{"keys":[` + set + `]}`))
			if err != nil || len(keys) != 1 || keys[0] != "good" {
				t.Errorf("%s: keys %v, %v; want the good one", name, keys, err)
			}
		}
		if keys, err := identity.KeysOf([]byte(`{"keys":[` + weak + `]}`)); err == nil {
			t.Errorf("%s alone: keys %v and no error", name, keys)
		}
	}
	var many []json.RawMessage
	for range 101 {
		many = append(many, json.RawMessage(good))
	}
	set, err := json.Marshal(map[string]any{"keys": many})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := identity.KeysOf(set); err == nil || !strings.Contains(err.Error(), "100") {
		t.Errorf("101 keys: %v", err)
	}
}

// TestAGroupGetsNoToken presents a token whose subject is called like a group that an application trusts: the exchange
// of federated credentials knows subjects alone.
func TestAGroupGetsNoToken(t *testing.T) {
	const url = "https://issuer.example"
	elsewhere := open(t, config(nil)) // signs as the issuer does
	kid, public := elsewhere.Key()
	key, err := x509.ParsePKCS1PublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	set := []byte(`{"keys":[` + published(kid, key.N, big.NewInt(int64(key.E))) + `]}`)
	cfg := config(nil)
	cfg.Trusted = []identity.Issuer{{URL: url, Audience: "visage",
		Keys: func(context.Context) ([]byte, error) { return set, nil }}}
	d := open(t, cfg)
	app, _ := application(t, d)
	now := time.Now().Unix()
	assertion, err := elsewhere.Sign(map[string]any{
		"iss": url, "aud": "visage", "sub": "staff", "groups": []string{"staff"}, "iat": now, "nbf": now,
		"exp": now + 600,
	})
	if err != nil {
		t.Fatal(err)
	}
	exchange := func(s identity.Subject) error {
		if err := d.SetSubjects(t.Context(), app.ID, []identity.Subject{s}); err != nil {
			t.Fatal(err)
		}
		_, _, err := d.Grant(t.Context(), identity.Grant{
			Tenant: tenant, ClientID: app.ClientID, Assertion: assertion, Audience: faces,
		})
		return err
	}
	wantRefusal(t, "the token of a member", exchange(identity.Subject{Issuer: url, Name: "staff", Group: true}),
		"invalid_client", "700213")
	if err := exchange(identity.Subject{Issuer: url, Name: "staff"}); err != nil {
		t.Errorf("the same token for a subject: %v", err)
	}
}
