package keyvault_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keyvault"
)

// privateKeys are keys in every form that is read, by a name.
func privateKeys(t testing.TB) map[string][]byte {
	t.Helper()
	must := func(b []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	one, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	curved, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	encoded := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	number := base64.RawURLEncoding.EncodeToString
	jwk := must(json.Marshal(map[string]any{
		"kty": "RSA", "kid": "made elsewhere", "use": "enc", "n": number(one.N.Bytes()), "e": "AQAB",
		"d": number(one.D.Bytes()), "p": number(one.Primes[0].Bytes()), "q": number(one.Primes[1].Bytes()),
	}))
	pkcs8, sec1 := must(x509.MarshalPKCS8PrivateKey(one)), must(x509.MarshalECPrivateKey(curved))
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 5, 0x2b, 0x81, 4, 0, 0x22}})
	return map[string][]byte{
		"pkcs8":        encoded("PRIVATE KEY", pkcs8),
		"pkcs1":        encoded("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(one)),
		"ec in pkcs8":  encoded("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(curved))),
		"sec1":         append(parameters, encoded("EC PRIVATE KEY", sec1)...),
		"der":          pkcs8,
		"der of pkcs1": x509.MarshalPKCS1PrivateKey(one),
		"der of sec1":  sec1,
		"jwk":          jwk,
		"with a certificate, of another system": append([]byte("\ufeffBag Attributes\r\n"+
			"-----BEGIN CERTIFICATE-----\r\nMAA=\r\n-----END CERTIFICATE-----\r\n"),
			bytes.ReplaceAll(encoded("PRIVATE KEY", pkcs8), []byte("\n"), []byte("\r\n"))...),
	}
}

// TestReadPrivateKey imports keys in the forms in which other programs keep them.
func TestReadPrivateKey(t *testing.T) {
	r := newAuditedService(t)
	for name, text := range privateKeys(t) {
		t.Run(name, func(t *testing.T) {
			read, err := keyvault.ReadPrivateKey(text)
			ok(t, err)
			k, err := r.ImportKey(t.Context(), caller(alice), key("k"), keyvault.ImportedKey{
				JWK: read, Attributes: keyvault.Attributes{Enabled: true},
			})
			ok(t, err)
			if curved := strings.Contains(name, "ec in") || strings.Contains(name, "sec1"); curved !=
				(k.Public.Curve == "P-384") {
				t.Errorf("it is %s %s", k.Public.Type, k.Public.Curve)
			}
			read.Wipe()
			if bytes.ContainsFunc(read.D, func(c rune) bool { return c != 0 }) {
				t.Error("the private part is still there")
			}
		})
	}
}

// TestReadOtherKey refuses what is no private key, or none that can be imported, and says what to do.
func TestReadOtherKey(t *testing.T) {
	keys := privateKeys(t)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	ok(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(edwards)
	ok(t, err)
	const begin, end = "-----BEGIN ", "-----\nMAA=\n-----END "
	block := func(kind string) string { return begin + kind + end + kind + "-----\n" }
	for _, c := range []struct{ name, text, code, sentence string }{
		{"nothing", " \n", "PrivateKeyMissing", "paste one"},
		{"prose", "my secret key", "PrivateKeyUnreadable", "copy all of it"},
		{"half of it", string(keys["pkcs8"][:300]), "PrivateKeyUnreadable", "a part of it is missing"},
		{"broken", block("RSA PRIVATE KEY"), "PrivateKeyUnreadable", "a part of it"},
		{"public", block("PUBLIC KEY"), "PrivateKeyMissing", "a public key or a certificate"},
		{"certificate", block("CERTIFICATE"), "PrivateKeyMissing", "the file that has the private key"},
		{"public jwk", `{"kty":"RSA","n":"AQAB","e":"AQAB"}`, "PrivateKeyMissing", "public key"},
		{"symmetric jwk", `{"kty":"oct","k":"c2VjcmV0"}`, "PrivateKeyUnsupported", "type oct"},
		{"jwk cut off", `{"kty":"RSA","d":"c2Vjc`, "PrivateKeyUnreadable", ""},
		{"jwk of other text", `{"kty":"RSA","d":"?"}`, "PrivateKeyUnreadable", ""},
		{"encrypted", block("ENCRYPTED PRIVATE KEY"), "PrivateKeyEncrypted", "openssl pkey"},
		{"encrypted of old", begin + "RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n" +
			"MAA=\n-----END RSA PRIVATE KEY-----\n", "PrivateKeyEncrypted", "decrypt it first"},
		{"openssh", block("OPENSSH PRIVATE KEY"), "PrivateKeyUnsupported", "ssh-keygen"},
		{"dsa", block("DSA PRIVATE KEY"), "PrivateKeyUnsupported", "DSA PRIVATE KEY"},
		{"two", string(keys["pkcs8"]) + string(keys["sec1"]), "PrivateKeyAmbiguous", "all but one"},
		{"edwards", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})),
			"PrivateKeyUnsupported", "1.3.101.112"},
		{"pkcs12", "\x30\x06\x02\x01\x03\x30\x01\x00", "PrivateKeyUnreadable", "openssl pkcs12"},
		{"long", strings.Repeat("x", 1<<20), "PrivateKeyUnreadable", "leave everything but the private key out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := keyvault.ReadPrivateKey([]byte(c.text))
			wantRefusal(t, err, visage.Invalid, c.code, "")
			if !strings.Contains(err.Error(), c.sentence) {
				t.Errorf("got %q, want %q", err, c.sentence)
			}
		})
	}
}

// FuzzReadPrivateKey holds that what is read can be wiped, and that no refusal quotes the text.
func FuzzReadPrivateKey(f *testing.F) {
	for _, text := range privateKeys(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := keyvault.ReadPrivateKey(text)
		if err != nil {
			if key.D != nil {
				t.Error("a refused text gives a key")
			}
			if long := strings.TrimSpace(string(text)); len(long) > 200 && strings.Contains(err.Error(), long) {
				t.Errorf("the refusal quotes the text: %v", err)
			}
			return
		}
		if key.Type == "" {
			t.Error("a key without a type")
		}
		key.Wipe()
	})
}
