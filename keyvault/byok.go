package keyvault

import (
	"context"
	"crypto/fips140"
	"crypto/rsa"
	"crypto/sha1" // what the format of transfer blobs has; refused in FIPS mode
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash"
	"slices"
	"strings"

	"github.com/visage-face/visage/internal/keywrap"
	"github.com/visage-face/visage/sealed"
)

// A key exchange key is made in the vault with import as its only operation, and keeps that for its life: all it does
// is to open keys that were wrapped for this vault, and what it has opened never leaves the vault.

// checkExchange refuses operations that a new key of a type must not have together.
func checkExchange(ops []Operation, kty string) error {
	if !slices.Contains(ops, Import) {
		return nil
	}
	if len(ops) > 1 || isEC(kty) {
		return invalid("A key exchange key is an RSA key whose only operation (key_ops) is import.")
	}
	return nil
}

// checkExchangeChange refuses to make a key exchange key of a key that had other uses, or the reverse.
func checkExchangeChange(before, after []Operation) error {
	if slices.Contains(before, Import) != slices.Contains(after, Import) || len(after) > 1 &&
		slices.Contains(after, Import) {
		return invalid("The operation import stays the only one of a key exchange key: no key gets or loses it later.")
	}
	return nil
}

// transferBlob is a private key that was wrapped for a vault, in the format of Azure's BYOK specification: an AES key
// under RSA-OAEP, then the private key in PKCS #8 under the AES key (CKM_RSA_AES_KEY_WRAP of PKCS #11).
type transferBlob struct {
	exchangeKey string // the identifier of the key exchange key
	hash        func() hash.Hash
	wrapped     []byte
}

// maxBlob limits a transfer blob, in bytes. One with an RSA key of 4096 bits has some 4,500.
const maxBlob = 32 << 10

// readBlob reads a transfer blob. Besides what the format has, a header may name SHA-256 as the hash of OAEP, for
// services that must not use SHA-1.
func readBlob(text []byte) (transferBlob, error) {
	var given struct {
		Version string `json:"schema_version"`
		Header  struct {
			KeyID     string `json:"kid"`
			Algorithm string `json:"alg"`
			Method    string `json:"enc"`
			Hash      string `json:"hash"`
		} `json:"header"`
		Ciphertext string `json:"ciphertext"`
	}
	if len(text) > maxBlob || json.Unmarshal(text, &given) != nil {
		return transferBlob{}, invalid("The transfer blob (key_hsm) is not the JSON document that a BYOK tool " +
			"writes: send the content of its file in base64url.")
	}
	h := given.Header
	b := transferBlob{exchangeKey: h.KeyID, hash: sha1.New}
	switch {
	case given.Version != "1.0.0":
		return transferBlob{}, invalid("The transfer blob has the schema_version %.20q: only 1.0.0 is known.",
			given.Version)
	case h.Algorithm != "dir" || h.Method != "CKM_RSA_AES_KEY_WRAP":
		return transferBlob{}, invalid("The header of the transfer blob has alg %.40q and enc %.40q: only dir and "+
			"CKM_RSA_AES_KEY_WRAP are known.", h.Algorithm, h.Method)
	case h.Hash == "SHA-256":
		b.hash = sha256.New
	case h.Hash != "" && h.Hash != "SHA-1":
		return transferBlob{}, invalid("The header of the transfer blob has the hash %.40q: only SHA-1, which is "+
			"meant when there is none, and SHA-256 are known.", h.Hash)
	case fips140.Enforced():
		return transferBlob{}, invalid("The transfer blob is wrapped by RSA-OAEP with SHA-1, which is not approved " +
			"by FIPS 140-3, and this server enforces that. Wrap the key with SHA-256 and add \"hash\": " +
			"\"SHA-256\" to the header, or import the parts of the key.")
	}
	var err error
	if b.wrapped, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(given.Ciphertext, "=")); err != nil ||
		len(b.wrapped) == 0 {
		return transferBlob{}, invalid("The ciphertext of the transfer blob is not base64url.")
	}
	return b, nil
}

// openBlob opens a transfer blob with the key exchange key that it names, which must be in the vault. The caller wipes
// the key.
func (s *Service) openBlob(ctx context.Context, vault vaultRecord, text []byte) (JWK, error) {
	b, err := readBlob(text)
	if err != nil {
		return JWK{}, err
	}
	ref, err := s.exchangeKey(vault, b.exchangeKey)
	if err != nil {
		return JWK{}, err
	}
	var private privateRecord
	err = s.space.View(ctx, func(r sealed.Reader) error {
		k, v, err := find(r, vault, ref)
		if isRefusal(err) {
			return invalid("The key exchange key %s of the transfer blob is not in this vault.", ref.Name)
		}
		if err != nil {
			return err
		}
		if len(v.Operations) != 1 || v.Operations[0] != Import {
			return forbidden("", "Key %s is not a key exchange key: its key_ops are %v, and must be import alone.",
				ref.Name, v.Operations)
		}
		if err := v.allows(Ref{vault.Name, k.Name, v.ID}, Import, true); err != nil {
			return err
		}
		private, err = privates.In(vault.ID, k.ID).Get(r, v.ID)
		return err
	})
	defer clear(private.PKCS8)
	if err != nil {
		return JWK{}, wrap("open key exchange key", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(private.PKCS8)
	if err != nil {
		return JWK{}, errors.New("read key exchange key: it is not what was stored") // the text may quote the key
	}
	exchange, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return JWK{}, errNotRSA()
	}
	return b.open(exchange)
}

// exchangeKey returns the key that a blob names: the newest version, if it names none.
func (s *Service) exchangeKey(vault vaultRecord, id string) (Ref, error) {
	base := s.cfg.Address(vault.Name) + "keys/"
	if len(id) < len(base) || !strings.EqualFold(id[:len(base)], base) {
		return Ref{}, invalid("The transfer blob was made for the key exchange key %.200q, which is not in this "+
			"vault: its identifier (kid) must begin with %s.", id, base)
	}
	name, version, _ := strings.Cut(id[len(base):], "/")
	return Ref{vault.Name, name, version}, nil
}

// open unwraps the private key. Why that fails is not said: it would help an attacker.
func (b transferBlob) open(exchange *rsa.PrivateKey) (JWK, error) {
	closed := invalid("The transfer blob does not open with the key exchange key that it names: wrap the key again, " +
		"with the public part of exactly that version.")
	size := exchange.Size()
	if len(b.wrapped) <= size {
		return JWK{}, closed
	}
	aesKey, err := rsa.DecryptOAEP(b.hash(), nil, exchange, b.wrapped[:size], nil)
	if err != nil {
		return JWK{}, closed
	}
	defer clear(aesKey)
	pkcs8, err := keywrap.Unwrap(aesKey, b.wrapped[size:])
	if err != nil {
		return JWK{}, closed
	}
	defer clear(pkcs8)
	key, err := readPKCS8(pkcs8)
	if err != nil {
		return JWK{}, invalid("The transfer blob holds no private key in PKCS #8 that can be kept here: wrap an RSA " +
			"key of 2048, 3072 or 4096 bits, or an EC key on P-256, P-384 or P-521.")
	}
	return key, nil
}

// blobKey opens the transfer blob of an import. What the import says of the key beside it must hold.
func (s *Service) blobKey(ctx context.Context, vault vaultRecord, want ImportedKey) (JWK, error) {
	asked := want.JWK
	for _, part := range [][]byte{asked.N, asked.E, asked.D, asked.P, asked.Q, asked.DP, asked.DQ, asked.QI, asked.X,
		asked.Y} {
		if len(part) > 0 {
			return JWK{}, invalid("A key is imported by a transfer blob (key_hsm) or by its parts, not by both.")
		}
	}
	key, err := s.openBlob(ctx, vault, want.Blob)
	if err != nil {
		return JWK{}, err
	}
	if isEC(asked.Type) != isEC(key.Type) || asked.Curve != "" && !strings.EqualFold(asked.Curve, key.Curve) {
		key.Wipe()
		return JWK{}, invalid("The transfer blob holds a key of another type or curve than kty and crv say.")
	}
	key.Type = asked.Type
	return key, nil
}
