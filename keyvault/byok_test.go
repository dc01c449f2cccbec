package keyvault_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keyvault"
)

// tool is a BYOK tool: openssl, which shares no code with the vault.
type tool struct {
	t   *testing.T
	dir string
}

func newTool(t *testing.T) tool {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("openssl is not installed")
	}
	return tool{t, t.TempDir()}
}

func (o tool) file(name string, content []byte) string {
	o.t.Helper()
	path := filepath.Join(o.dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		o.t.Fatal(err)
	}
	return path
}

func (o tool) run(args ...string) []byte {
	o.t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Env = append(os.Environ(), "GODEBUG=")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		o.t.Fatalf("openssl %s: %v\n%s", args[0], err, said.Bytes())
	}
	return out
}

// key makes a private key and returns it in PKCS #8.
func (o tool) key(algorithm, option string) []byte {
	o.t.Helper()
	plain := o.file("target.der", o.run("genpkey", "-algorithm", algorithm, "-pkeyopt", option, "-outform", "DER"))
	return o.run("pkcs8", "-topk8", "-nocrypt", "-inform", "DER", "-in", plain, "-outform", "DER")
}

// wrap wraps a private key for a key exchange key, with a hash for OAEP (CKM_RSA_AES_KEY_WRAP).
func (o tool) wrap(exchange keyvault.Key, hash string, target []byte) []byte {
	o.t.Helper()
	public, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(exchange.Public.N),
		E: int(new(big.Int).SetBytes(exchange.Public.E).Int64())})
	if err != nil {
		o.t.Fatal(err)
	}
	aesKey := make([]byte, 32)
	rand.Read(aesKey)
	wrapped := o.run("pkeyutl", "-encrypt", "-pubin", "-inkey",
		o.file("exchange.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
		"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:"+hash, "-pkeyopt", "rsa_mgf1_md:"+hash,
		"-in", o.file("aes", aesKey))
	return append(wrapped, o.run("enc", "-e", "-id-aes256-wrap-pad", "-K", hex.EncodeToString(aesKey),
		"-iv", "A65959A6", "-in", o.file("target.der", target))...)
}

// document is a transfer blob. change may change its header.
func document(t testing.TB, kid string, ciphertext []byte, change func(header map[string]any)) []byte {
	t.Helper()
	header := map[string]any{"kid": kid, "alg": "dir", "enc": "CKM_RSA_AES_KEY_WRAP"}
	if change != nil {
		change(header)
	}
	text, err := json.Marshal(map[string]any{
		"schema_version": "1.0.0", "header": header, "ciphertext": base64.RawURLEncoding.EncodeToString(ciphertext),
		"generator": "openssl",
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// bySHA256 says in a header that OAEP has SHA-256.
func bySHA256(header map[string]any) { header["hash"] = "SHA-256" }

// documented are the hash of the format and what a header says of it; where that hash is not approved, the one beside
// it.
func documented() (hash string, change func(map[string]any)) {
	if fips140.Enforced() {
		return "sha256", bySHA256
	}
	return "sha1", nil
}

func exchangeOnly(k *keyvault.NewKey) { k.Operations = []keyvault.Operation{"import"} }

func premium(v *keyvault.Vault) { v.Premium = true }

// importBlob imports a transfer blob as a key of a type.
func (r *auditedService) importBlob(name, kind string, blob []byte) (keyvault.Key, error) {
	return r.ImportKey(r.t.Context(), caller(alice), key(name), keyvault.ImportedKey{
		JWK: keyvault.JWK{Type: kind}, Blob: blob, HSM: strings.HasSuffix(kind, "-HSM"),
		Attributes: keyvault.Attributes{Enabled: true},
	})
}

// TestTransferBlobs imports keys that openssl has wrapped, and uses them: what is sealed to the public part of the
// original opens in the vault.
func TestTransferBlobs(t *testing.T) {
	o, r := newTool(t), newAuditedService(t, premium)
	exchange := r.create("exchange", "RSA-HSM", exchangeOnly)
	hash, change := documented()
	target := o.key("RSA", "rsa_keygen_bits:2048")
	for name, blob := range map[string][]byte{
		"documented": document(t, r.KeyID(exchange.Ref), o.wrap(exchange, hash, target), change),
		"bySHA256":   document(t, r.KeyID(exchange.Ref), o.wrap(exchange, "sha256", target), bySHA256),
		"newest":     document(t, r.KeyID(key("exchange")), o.wrap(exchange, hash, target), change),
	} {
		k, err := r.importBlob(name, "RSA-HSM", blob)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		parsed, err := x509.ParsePKCS8PrivateKey(target)
		if err != nil {
			t.Fatal(err)
		}
		original, _ := parsed.(*rsa.PrivateKey)
		if k.Public.Type != "RSA-HSM" || !bytes.Equal(k.Public.N, original.N.Bytes()) {
			t.Errorf("%s: a key of type %s, another one: %t", name, k.Public.Type,
				!bytes.Equal(k.Public.N, original.N.Bytes()))
		}
		sealedTo, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &original.PublicKey, []byte("data key"), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, opened, err := r.Use(t.Context(), caller(alice), k.Ref, keyvault.Unwrap, "RSA-OAEP-256", sealedTo)
		if err != nil || string(opened) != "data key" {
			t.Errorf("%s: unwraps %q, %v", name, opened, err)
		}
	}
	curve := o.key("EC", "ec_paramgen_curve:P-384")
	k, err := r.importBlob("curve", "EC-HSM", document(t, r.KeyID(exchange.Ref), o.wrap(exchange, hash, curve), change))
	if err != nil || k.Public.Curve != elliptic.P384().Params().Name {
		t.Errorf("on a curve: %s, %v", k.Public.Curve, err)
	}
	if events, _ := r.taken(); !strings.Contains(strings.Join(events, "\n"), "KeyImport done") {
		t.Errorf("the audit has %q", events)
	}
}

// TestTransferBlobRefusals holds what is refused, and that nothing is learnt of why a blob does not open.
func TestTransferBlobRefusals(t *testing.T) {
	o, r := newTool(t), newAuditedService(t, premium)
	r.vault("other", premium)
	exchange, another := r.create("exchange", "RSA-HSM", exchangeOnly), r.create("another", "RSA-HSM", exchangeOnly)
	plain := r.create("plain", "RSA-HSM")
	hash, change := documented()
	target := o.key("RSA", "rsa_keygen_bits:2048")
	wrapped := o.wrap(exchange, hash, target)
	kid := r.KeyID(exchange.Ref)
	good := document(t, kid, wrapped, change)
	altered := func(at int) []byte {
		b := bytes.Clone(wrapped)
		b[at] ^= 1
		return document(t, kid, b, change)
	}
	with := func(name string, value any) []byte {
		return document(t, kid, wrapped, func(header map[string]any) {
			if change != nil {
				change(header)
			}
			header[name] = value
		})
	}
	const closed = "does not open with the key exchange key"
	for name, c := range map[string]struct {
		blob []byte
		kind string
		says string
	}{
		"no JSON":            {[]byte("wrapped"), "RSA-HSM", "not the JSON document"},
		"nothing":            {[]byte("{}"), "RSA-HSM", "schema_version"},
		"too long":           {append(good, bytes.Repeat([]byte(" "), 32<<10)...), "RSA-HSM", "not the JSON document"},
		"newer":              {bytes.Replace(good, []byte(`"1.0.0"`), []byte(`"2.0.0"`), 1), "RSA-HSM", "2.0.0"},
		"algorithm":          {with("alg", "RSA-OAEP"), "RSA-HSM", "only dir"},
		"method":             {with("enc", "A256KW"), "RSA-HSM", "only dir"},
		"hash":               {with("hash", "MD5"), "RSA-HSM", `"MD5"`},
		"base64":             {bytes.Replace(good, []byte(`"ciphertext":"`), []byte(`"ciphertext":"*`), 1), "RSA-HSM", "not base64url"},
		"no ciphertext":      {document(t, kid, nil, change), "RSA-HSM", "not base64url"},
		"another vault":      {with("kid", `https://other.vault.example/keys/exchange`), "RSA-HSM", "not in this vault"},
		"another place":      {with("kid", `https://safe.vault.example.com/keys/exchange`), "RSA-HSM", "not in this vault"},
		"no such key":        {with("kid", r.KeyID(key("none"))), "RSA-HSM", "not in this vault"},
		"no such version":    {with("kid", r.KeyID(key("exchange"))+"/"+strings.Repeat("0", 32)), "RSA-HSM", `not in this vault`},
		"another key":        {with("kid", r.KeyID(another.Ref)), "RSA-HSM", closed},
		"first byte":         {altered(0), "RSA-HSM", closed},
		"wrapped AES key":    {altered(200), "RSA-HSM", closed},
		"wrapped key":        {altered(300), "RSA-HSM", closed},
		"last byte":          {altered(len(wrapped) - 1), "RSA-HSM", closed},
		"cut":                {document(t, kid, wrapped[:len(wrapped)-8], change), "RSA-HSM", closed},
		"the AES key alone":  {document(t, kid, wrapped[:256], change), "RSA-HSM", closed},
		"another hash":       {document(t, kid, o.wrap(exchange, "sha384", target), bySHA256), "RSA-HSM", closed},
		"no key":             {document(t, kid, o.wrap(exchange, hash, []byte("not a key")), change), "RSA-HSM", `no private key in PKCS #8`},
		"an unusual curve":   {document(t, kid, o.wrap(exchange, hash, o.key("EC", `ec_paramgen_curve:secp256k1`)), change), "EC-HSM", "no private key in PKCS #8"},
		"a small key":        {document(t, kid, o.wrap(exchange, hash, o.key("RSA", `rsa_keygen_bits:1024`)), change), "RSA-HSM", "2048, 3072 or 4096"},
		"of another type":    {good, "EC-HSM", "another type"},
		"of an unknown type": {good, "oct-HSM", "kty"},
	} {
		_, err := r.importBlob("new", c.kind, c.blob)
		wantRefusal(t, err, visage.Invalid, "BadParameter", "")
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	_, err := r.importBlob("new", "RSA-HSM", with("kid", r.KeyID(plain.Ref)))
	wantRefusal(t, err, visage.Denied, "Forbidden", "")
	off := false
	_, err = r.UpdateKey(t.Context(), caller(alice), exchange.Ref, keyvault.KeyChange{Enabled: &off})
	ok(t, err)
	_, err = r.importBlob("new", "RSA-HSM", good)
	wantRefusal(t, err, visage.Denied, "Forbidden", "KeyDisabled")
	if fips140.Enforced() {
		_, err = r.importBlob("new", "RSA-HSM", document(t, kid, wrapped, nil))
		wantRefusal(t, err, visage.Invalid, "BadParameter", "")
		if err == nil || !strings.Contains(err.Error(), "SHA-256") {
			t.Errorf("by SHA-1 where it is not approved: %v", err)
		}
	}
	both := keyvault.ImportedKey{JWK: keyvault.JWK{Type: "RSA-HSM", N: []byte{1}}, Blob: good}
	_, err = r.ImportKey(t.Context(), caller(alice), key("new"), both)
	wantRefusal(t, err, visage.Invalid, "BadParameter", "")
	_, err = r.importBlob("new", "RSA", good) // without HSM, and the key exchange key is disabled still
	wantRefusal(t, err, visage.Denied, "Forbidden", "KeyDisabled")
	if _, err := r.Key(t.Context(), caller(alice), key("new")); err == nil {
		t.Error("a key was made")
	}
}

// TestKeyExchangeKeys holds that a key exchange key is of use for nothing else, for all its life.
func TestKeyExchangeKeys(t *testing.T) {
	r := newAuditedService(t)
	exchange := r.create("exchange", "RSA", exchangeOnly)
	for _, op := range []keyvault.Operation{keyvault.Encrypt, keyvault.Decrypt, keyvault.Wrap, keyvault.Unwrap,
		keyvault.Sign} {
		_, _, err := r.Use(t.Context(), caller(alice), exchange.Ref, op, "RSA-OAEP-256", make([]byte, 32))
		wantRefusal(t, err, visage.Denied, "Forbidden", "")
	}
	plain := r.create("plain", "RSA")
	for _, c := range []struct {
		of  keyvault.Key
		ops []keyvault.Operation
	}{
		{exchange, []keyvault.Operation{keyvault.Unwrap}}, {exchange, []keyvault.Operation{"import", keyvault.Unwrap}},
		{exchange, []keyvault.Operation{}}, {plain, []keyvault.Operation{"import"}},
		{plain, []keyvault.Operation{keyvault.Unwrap, "Import"}},
	} {
		_, err := r.UpdateKey(t.Context(), caller(alice), c.of.Ref, keyvault.KeyChange{Operations: c.ops})
		wantRefusal(t, err, visage.Invalid, "BadParameter", "")
	}
	for _, want := range []keyvault.NewKey{
		{Type: "RSA", Operations: []keyvault.Operation{"import", keyvault.Wrap}},
		{Type: "EC", Operations: []keyvault.Operation{"import"}},
	} {
		_, err := r.CreateKey(t.Context(), caller(alice), key("new"), want)
		wantRefusal(t, err, visage.Invalid, "BadParameter", "")
	}
	_, err := r.ImportKey(t.Context(), caller(alice), key("new"), keyvault.ImportedKey{
		JWK: knownKey(t), Operations: []keyvault.Operation{"Import"},
	})
	wantRefusal(t, err, visage.Invalid, "BadParameter", "")
	rotated, err := r.RotateKey(t.Context(), caller(alice), key("exchange"))
	if err != nil || len(rotated.Operations) != 1 || rotated.Operations[0] != "import" {
		t.Errorf("rotated: %v, %v", rotated.Operations, err)
	}
}

// FuzzTransferBlob holds that what is read reads the same when it is written again, and that everything else is refused
// without data.
func FuzzTransferBlob(f *testing.F) {
	f.Add(document(f, "https://safe.vault.example/keys/exchange", bytes.Repeat([]byte{1}, 600), nil))
	f.Add(document(f, "https://safe.vault.example/keys/exchange", bytes.Repeat([]byte{1}, 600), bySHA256))
	f.Add([]byte(`{"schema_version":"1.0.0","header":{"kid":"","alg":"dir","enc":"CKM_RSA_AES_KEY_WRAP"}}`))
	f.Add([]byte(`{"header":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		kid, wrapped, err := keyvault.ReadBlob(text)
		if err != nil {
			if _, refused := errors.AsType[*visage.Refusal](err); !refused || kid != "" || wrapped != nil {
				t.Errorf("kid %q, %d bytes, %v", kid, len(wrapped), err)
			}
			return
		}
		again, same, err := keyvault.ReadBlob(document(t, kid, wrapped, bySHA256))
		if err != nil || again != kid || !bytes.Equal(same, wrapped) {
			t.Errorf("written again: kid %q, %d bytes, %v", again, len(same), err)
		}
	})
}
