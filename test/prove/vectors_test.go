package prove_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// hexBytes are bytes that a vector has in hexadecimal.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// wycheproof is one of Project Wycheproof's files; it has the fields of all kinds.
type wycheproof struct {
	NumberOfTests int
	TestGroups    []struct {
		IVSize, TagSize, KeySize int
		PrivateKey               struct{ Modulus, PrivateExponent, PublicExponent, Prime1, Prime2 hexBytes }
		Tests                    []struct {
			TcID                                                    int
			Key, IV, AAD, Msg, CT, Tag, IKM, Salt, Info, OKM, Label hexBytes
			Size                                                    int
			Result                                                  string
		}
	}
}

// TestPublishedVectors runs the primitives of sealing and wrapping, as the product calls them, over the vectors of
// Project Wycheproof: valid ones give the published result, invalid ones are refused.
func TestPublishedVectors(t *testing.T) {
	read := func(t *testing.T, name string) wycheproof {
		t.Helper()
		data, err := os.ReadFile(filepath.Join("testdata", "wycheproof", name+"_test.json"))
		if err != nil {
			t.Fatal(err)
		}
		var file wycheproof
		if err := json.Unmarshal(data, &file); err != nil {
			t.Fatal(err)
		}
		return file
	}
	tried := func(t *testing.T, valid, refused, least int) {
		t.Helper()
		if valid+refused < least {
			t.Errorf("%d vectors tried, want at least %d: the file was not read completely", valid+refused, least)
		}
		t.Attr("valid", fmt.Sprint(valid))
		t.Attr("refused", fmt.Sprint(refused))
	}
	t.Run("AES-GCM", func(t *testing.T) { // SP 800-38D; nonces of 96 bits, the only ones we have
		valid, refused := 0, 0
		for _, g := range read(t, "aes_gcm").TestGroups {
			if g.IVSize != 96 || g.TagSize != 128 {
				continue
			}
			for _, v := range g.Tests {
				block, err := aes.NewCipher(v.Key)
				if err != nil {
					t.Fatal(err)
				}
				aead, err := cipher.NewGCMWithRandomNonce(block)
				if err != nil {
					t.Fatal(err)
				}
				plain, err := aead.Open(nil, nil, bytes.Join([][]byte{v.IV, v.CT, v.Tag}, nil), v.AAD)
				if ok := err == nil && bytes.Equal(plain, v.Msg); ok != (v.Result == "valid") {
					t.Errorf("vector %d, %s: opened: %t, %v", v.TcID, v.Result, ok, err)
				}
				count(v.Result, &valid, &refused)
			}
		}
		tried(t, valid, refused, 190)
	})
	t.Run("HKDF-SHA-256", func(t *testing.T) { // RFC 5869, whose own vectors are among them
		valid, refused := 0, 0
		for _, g := range read(t, "hkdf_sha256").TestGroups {
			for _, v := range g.Tests {
				if len(v.IKM) < 14 || v.Result == "valid" && v.Size == 0 {
					continue // shorter than FIPS 198-1 approves, and than any key of ours
				}
				okm, err := hkdf.Key(sha256.New, v.IKM, v.Salt, string(v.Info), v.Size)
				if ok := err == nil && bytes.Equal(okm, v.OKM); ok != (v.Result == "valid") {
					t.Errorf("vector %d, %s: %t, %v", v.TcID, v.Result, ok, err)
				}
				count(v.Result, &valid, &refused)
			}
		}
		tried(t, valid, refused, 60)
	})
	t.Run("HMAC-SHA-256", func(t *testing.T) { // FIPS 198-1
		valid, refused := 0, 0
		for _, g := range read(t, "hmac_sha256").TestGroups {
			if g.TagSize != 256 {
				continue
			}
			for _, v := range g.Tests {
				if len(v.Key) < 14 {
					continue
				}
				h := hmac.New(sha256.New, v.Key)
				h.Write(v.Msg)
				if ok := hmac.Equal(h.Sum(nil), v.Tag); ok != (v.Result == "valid") {
					t.Errorf("vector %d, %s: %t", v.TcID, v.Result, ok)
				}
				count(v.Result, &valid, &refused)
			}
		}
		tried(t, valid, refused, 60)
	})
	t.Run("RSA-OAEP-256", func(t *testing.T) { // RFC 8017 §7.1, with which keys of vaults wrap
		valid, refused := 0, 0
		for _, g := range read(t, "rsa_oaep_2048_sha256_mgf1sha256").TestGroups {
			number := func(b []byte) *big.Int { return new(big.Int).SetBytes(b) }
			key := &rsa.PrivateKey{
				PublicKey: rsa.PublicKey{N: number(g.PrivateKey.Modulus),
					E: int(number(g.PrivateKey.PublicExponent).Int64())},
				D:      number(g.PrivateKey.PrivateExponent),
				Primes: []*big.Int{number(g.PrivateKey.Prime1), number(g.PrivateKey.Prime2)},
			}
			key.Precompute()
			if err := key.Validate(); err != nil {
				t.Fatal(err)
			}
			for _, v := range g.Tests {
				plain, err := rsa.DecryptOAEP(sha256.New(), rand.Reader, key, v.CT, v.Label)
				if ok := err == nil && bytes.Equal(plain, v.Msg); ok != (v.Result == "valid") {
					t.Errorf("vector %d, %s: %t, %v", v.TcID, v.Result, ok, err)
				}
				count(v.Result, &valid, &refused)
			}
		}
		tried(t, valid, refused, 30)
	})
}

func count(result string, valid, refused *int) {
	if result == "valid" {
		*valid++
	} else {
		*refused++
	}
}

// TestIndependentDecoder runs a second decoder of our formats, written from the documents in another language, over the
// frozen values: it must find the same content, and refuse the same values.
func TestIndependentDecoder(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("node is missing")
		}
		t.Skip("node is missing: install npm, which setup needs too")
	}
	path := filepath.Join("..", "..", "sealed", "internal", "format", "testdata", "vectors.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct{ Name, Format, Plaintext, Class string }
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	var complaints bytes.Buffer
	cmd := exec.CommandContext(t.Context(), node, "decoder.mjs", path)
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("decoder: %v\n%s", err, complaints.String())
	}
	var said struct {
		Results []struct {
			Inside           *string
			Refused, Unknown string
		}
	}
	if err := json.Unmarshal(out, &said); err != nil || len(said.Results) != len(vectors) || len(vectors) == 0 {
		t.Fatalf("the decoder answered %d of %d vectors, %v", len(said.Results), len(vectors), err)
	}
	valid, refused := 0, 0
	for i, v := range vectors {
		r := said.Results[i]
		switch {
		case r.Unknown != "":
			t.Errorf("%s: the decoder lacks the format %q: add it, from docs/formats/values.md", v.Name, r.Unknown)
		case v.Class != "" && r.Inside != nil:
			t.Errorf("%s: the decoder opens what is %s", v.Name, v.Class)
		case v.Class == "" && (r.Inside == nil || *r.Inside != v.Plaintext):
			t.Errorf("%s: the decoder finds %v (%s), want %s", v.Name, r.Inside, r.Refused, v.Plaintext)
		case v.Class == "":
			valid++
		default:
			refused++
		}
	}
	t.Attr("values-read", fmt.Sprint(valid))
	t.Attr("values-refused", fmt.Sprint(refused))
}
