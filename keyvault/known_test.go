package keyvault_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keyvault"
)

// vectors are published test vectors of RSAES-OAEP with SHA-256 and MGF1 with SHA-256, with their source.
type vectors struct {
	Source     string
	N, D, P, Q string // base64url
	Answers    []struct{ Message, Sealed string }
}

func readVectors(t *testing.T) (v vectors) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "rsa-oaep-256.json"))
	ok(t, err)
	ok(t, json.Unmarshal(data, &v))
	if len(v.Answers) == 0 {
		t.Fatal("the file has no test vectors")
	}
	return v
}

func unbase64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	ok(t, err)
	return b
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	ok(t, err)
	return b
}

func knownKey(t *testing.T) keyvault.JWK {
	t.Helper()
	v := readVectors(t)
	return keyvault.JWK{
		Type: "RSA", N: unbase64(t, v.N), E: []byte{1, 0, 1}, D: unbase64(t, v.D), P: unbase64(t, v.P),
		Q: unbase64(t, v.Q),
	}
}

func TestKnownAnswers(t *testing.T) {
	r := newAuditedService(t)
	want := keyvault.ImportedKey{JWK: knownKey(t), Attributes: keyvault.Attributes{Enabled: true}}
	k, err := r.ImportKey(t.Context(), caller(alice), key("k"), want)
	if err != nil || !bytes.Equal(k.Public.N, want.JWK.N) || !bytes.Equal(k.Public.E, []byte{1, 0, 1}) {
		t.Fatalf("import: %+v, %v", k.Ref, err)
	}
	for _, a := range readVectors(t).Answers {
		_, out, err := r.Use(t.Context(), caller(alice), key("k"), keyvault.Unwrap, "RSA-OAEP-256", unhex(t, a.Sealed))
		if err != nil || !bytes.Equal(out, unhex(t, a.Message)) {
			t.Errorf("got %x, %v, want %s", out, err, a.Message)
		}
		if fips140.Enforced() {
			continue
		}
		_, _, err = r.Use(t.Context(), caller(alice), key("k"), keyvault.Unwrap, "RSA-OAEP", unhex(t, a.Sealed))
		wantRefusal(t, err, visage.Invalid, "BadParameter", "")
	}
}

// TestImportsFitTogether checks that inconsistent parts of a key are refused, whichever part is wrong.
func TestImportsFitTogether(t *testing.T) {
	r := newAuditedService(t)
	scalar := bytes.Repeat([]byte{7}, 32)
	curve, err := ecdh.P256().NewPrivateKey(scalar)
	ok(t, err)
	point := curve.PublicKey().Bytes() // 4, x, y
	ec := keyvault.JWK{Type: "EC", Curve: "P-256", D: scalar, X: point[1:33], Y: point[33:]}
	change := func(j keyvault.JWK, part func(*keyvault.JWK) *[]byte) keyvault.JWK {
		p := part(&j)
		*p = slices.Clone(*p)
		(*p)[len(*p)-1] ^= 2
		return j
	}
	made, err := rsa.GenerateKey(rand.Reader, 2048)
	ok(t, err)
	derived := func(change func(*rsa.PrivateKey)) keyvault.JWK {
		k := *made
		k.Precomputed.Dp, k.Precomputed.Dq = new(big.Int).Set(k.Precomputed.Dp), new(big.Int).Set(k.Precomputed.Dq)
		k.Precomputed.Qinv = new(big.Int).Set(k.Precomputed.Qinv)
		change(&k)
		return keyvault.JWK{
			Type: "RSA", N: k.N.Bytes(), E: []byte{1, 0, 1}, D: k.D.Bytes(), P: k.Primes[0].Bytes(),
			Q:  k.Primes[1].Bytes(),
			DP: k.Precomputed.Dp.Bytes(), DQ: k.Precomputed.Dq.Bytes(), QI: k.Precomputed.Qinv.Bytes(),
		}
	}
	for _, c := range []struct {
		name string
		jwk  keyvault.JWK
		fits bool
	}{
		{"RSA", knownKey(t), true},
		{"RSA, another n", change(knownKey(t), func(j *keyvault.JWK) *[]byte { return &j.N }), false},
		{"RSA, another d", change(knownKey(t), func(j *keyvault.JWK) *[]byte { return &j.D }), false},
		{"RSA, another p", change(knownKey(t), func(j *keyvault.JWK) *[]byte { return &j.P }), false},
		{"RSA, another q", change(knownKey(t), func(j *keyvault.JWK) *[]byte { return &j.Q }), false},
		{"RSA, another e", change(knownKey(t), func(j *keyvault.JWK) *[]byte { return &j.E }), false},
		{"RSA, with derived numbers", derived(func(*rsa.PrivateKey) {}), true},
		{
			"RSA, another dp",
			derived(
				func(k *rsa.PrivateKey) { k.Precomputed.Dp.SetBit(k.Precomputed.Dp, 1, 1^k.Precomputed.Dp.Bit(1)) },
			), false,
		},
		{
			"RSA, another dq",
			derived(
				func(k *rsa.PrivateKey) { k.Precomputed.Dq.SetBit(k.Precomputed.Dq, 1, 1^k.Precomputed.Dq.Bit(1)) },
			), false,
		},
		{"RSA, another qi", derived(func(k *rsa.PrivateKey) {
			k.Precomputed.Qinv.SetBit(k.Precomputed.Qinv, 1, 1^k.Precomputed.Qinv.Bit(1))
		}), false},
		{"RSA of three primes", func() keyvault.JWK { j := knownKey(t); j.Others = true; return j }(), false},
		{"RSA, a prime of 64 bits", uneven(t, 64, 65537), false},
		{"RSA, a prime of 1000 bits", uneven(t, 1000, 65537), false},
		{"RSA, e of 3", uneven(t, 1024, 3), false},
		{"RSA, e of 257", uneven(t, 1024, 257), false},
		{"RSA, e of 65539", uneven(t, 1024, 65539), true},
		{"RSA, e of 2^31+11", uneven(t, 1024, 1<<31+11), false},
		{"RSA, public parts alone", keyvault.JWK{Type: "RSA", N: knownKey(t).N, E: []byte{1, 0, 1}}, false},
		{
			"RSA of 512 bits", keyvault.JWK{Type: "RSA", N: bytes.Repeat([]byte{255}, 64), E: []byte{1, 0, 1},
				D: []byte{3},
				P: []byte{5}, Q: []byte{7}}, false},
		{"EC", ec, true},
		{"EC, another x", change(ec, func(j *keyvault.JWK) *[]byte { return &j.X }), false},
		{"EC, another y", change(ec, func(j *keyvault.JWK) *[]byte { return &j.Y }), false},
		{"EC, another d", change(ec, func(j *keyvault.JWK) *[]byte { return &j.D }), false},
		{"EC, d of zero", keyvault.JWK{Type: "EC", Curve: "P-256", D: make([]byte, 32), X: ec.X, Y: ec.Y}, false},
		{"EC, d of one", smallScalar(t, 1), false},
		{"EC, d of a few bits", smallScalar(t, 1<<40+7), false},
		{
			"EC, d above the order", keyvault.JWK{Type: "EC", Curve: "P-256", D: bytes.Repeat([]byte{255}, 32), X: ec.X,
				Y: ec.Y}, false,
		},
		{"EC, d too long", keyvault.JWK{Type: "EC", Curve: "P-256", D: bytes.Repeat([]byte{255}, 99), X: ec.X, Y: ec.Y},
			false},
		{"EC of another curve", keyvault.JWK{Type: "EC", Curve: "P-384", D: ec.D, X: ec.X, Y: ec.Y}, false},
		{"oct", keyvault.JWK{Type: "oct", D: scalar}, false},
		{"nothing", keyvault.JWK{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := keyvault.ImportedKey{JWK: c.jwk, Attributes: keyvault.Attributes{Enabled: true}}
			_, err := r.ImportKey(t.Context(), caller(alice), key("k"), want)
			if c.fits {
				ok(t, err)
				return
			}
			wantRefusal(t, err, visage.Invalid, "BadParameter", "")
		})
	}
}

// uneven is a key of 2,048 bits with a prime of the given size.
func uneven(t *testing.T, bits int, e int64) keyvault.JWK {
	t.Helper()
	one, exponent := big.NewInt(1), big.NewInt(e)
	for {
		p, err := rand.Prime(rand.Reader, bits)
		ok(t, err)
		q, err := rand.Prime(rand.Reader, 2048-bits)
		ok(t, err)
		d := new(big.Int).ModInverse(exponent, new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)))
		if d == nil {
			continue
		}
		return keyvault.JWK{
			Type: "RSA", N: new(big.Int).Mul(p, q).Bytes(), E: exponent.Bytes(), D: d.Bytes(), P: p.Bytes(),
			Q: q.Bytes(),
		}
	}
}

// smallScalar is an EC key with a guessable private key.
func smallScalar(t *testing.T, d int64) keyvault.JWK {
	t.Helper()
	scalar := big.NewInt(d).FillBytes(make([]byte, 32))
	private, err := ecdh.P256().NewPrivateKey(scalar)
	ok(t, err)
	point := private.PublicKey().Bytes()
	return keyvault.JWK{Type: "EC", Curve: "P-256", D: scalar, X: point[1:33], Y: point[33:]}
}

func FuzzParsePeriod(f *testing.F) {
	for _, s := range []string{"P90D", "P2Y", "P1Y2M3W4D", "p7d", "P", "P0D", "PT48H", "P-1D", "P99999D", "P1D2Y", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := keyvault.ParsePeriod(s)
		if err != nil {
			if p != "" {
				t.Errorf("%q: got %q with the error", s, p)
			}
			return
		}
		if again, err := keyvault.ParsePeriod(string(p)); err != nil || again != p {
			t.Errorf("%q comes back as %q, %v", p, again, err)
		}
	})
}
