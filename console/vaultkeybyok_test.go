package console_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestWrappedKeys imports a private key that was wrapped for a key exchange key of the vault.
func TestWrappedKeys(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("openssl is not installed")
	}
	o := newOffice(t)
	b := o.Browser(t, "")
	o.vault(b, "safe", url.Values{"protect": nil})
	const form = safe + "/importbyok"
	o.shows(b.Get(safe+"/keys"), http.StatusOK, form)
	const first = safe + "/newkey?exchange=1"
	o.shows(b.Get(form), http.StatusOK, `href="`+first+`"`)
	o.shows(b.Get(first), http.StatusOK, `name="exchange" value="on" checked`)
	o.lacks(b.Get(safe+"/newkey"), `name="exchange" value="on" checked`)
	o.sent(b.Submit(safe+"/newkey", safe+"/newkey", url.Values{"name": {"exchange"}, "kind": {"RSA 2048"},
		"exchange": {"on"}}), safe+"/keys/exchange")
	p := b.Get(safe + "/keys/exchange")
	o.shows(p, http.StatusOK, "visage key public exchange --vault safe", form, "<dd>import</dd>")
	o.lacks(p, safe+"/keys/exchange/use")
	o.shows(b.Submit(safe+"/newkey", safe+"/newkey", url.Values{"name": {"both"}, "kind": {"RSA 2048"},
		"exchange": {"on"}, "op-sign": {"on"}}), http.StatusBadRequest, "whose only operation (key_ops) is import")

	var exchange struct {
		Key struct{ Kid, N string }
	}
	answer, err := json.Marshal(o.CallVault(t, http.MethodGet, "safe", "exchange", nil))
	if err == nil {
		err = json.Unmarshal(answer, &exchange)
	}
	if err != nil {
		t.Fatal(err)
	}
	blob := wrapped(t, exchange.Key.Kid, exchange.Key.N)
	fields := func(name, kind string) url.Values { return url.Values{"name": {name}, "kind": {kind}} }
	o.sent(o.upload(b, form, fields("brought", "RSA"), "blob", "brought.byok", blob), safe+"/keys/brought")
	o.shows(b.Get(safe+"/keys/brought"), http.StatusOK, "RSA 2048", "The key brought is imported")
	elsewhere := strings.Replace(string(blob), "/keys/exchange/", "/keys/brought/", 1)
	for name, c := range map[string]struct {
		kind, blob string
		says       string
	}{
		"another type":            {"EC", string(blob), "another type or curve"},
		"no document":             {"RSA", "-----BEGIN PRIVATE KEY-----", "not the JSON document"},
		"a part":                  {"RSA", string(blob[:len(blob)/2]), "not the JSON document"},
		"a key that is not there": {"RSA", elsewhere, "is not in this vault"},
		"an empty file":           {"RSA", "", "choose the file that the BYOK tool wrote"},
	} {
		t.Run(name, func(t *testing.T) {
			p := o.upload(b, form, fields("again", c.kind), "blob", "x.byok", []byte(c.blob))
			o.shows(p, http.StatusBadRequest, c.says, `value="again"`)
		})
	}
}

// wrapped is a new private key that was wrapped for a key exchange key, as the file of a BYOK tool has it.
func wrapped(t *testing.T, kid, n string) []byte {
	t.Helper()
	made, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(made)
	if err != nil {
		t.Fatal(err)
	}
	modulus, err := base64.RawURLEncoding.DecodeString(n)
	if err != nil {
		t.Fatal(err)
	}
	aesKey := make([]byte, 32)
	rand.Read(aesKey)
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537}
	outer, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, aesKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	tool := exec.Command("openssl", "enc", "-e", "-id-aes256-wrap-pad", "-K", hex.EncodeToString(aesKey), "-iv",
		"A65959A6")
	tool.Stdin = bytes.NewReader(pkcs8)
	tool.Env = append(os.Environ(), "GODEBUG=")
	inner, err := tool.Output()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(nil, `{"schema_version":"1.0.0","header":{"kid":%q,"alg":"dir","enc":"CKM_RSA_AES_KEY_WRAP",`+
		`"hash":"SHA-256"},"ciphertext":%q,"generator":"test"}`, kid,
		base64.RawURLEncoding.EncodeToString(append(outer, inner...)))
}
