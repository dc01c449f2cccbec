package keyvault

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // RSA-OAEP of RFC 8017 §B.1 by the name that JWA (RFC 7518 §4.3) gives it; refused in FIPS mode
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage/sealed"
)

// leeway is how far the clocks of clients may be off when dates are compared (contract §A6).
const leeway = 5 * time.Minute

// uses says what each operation needs, what the audit calls it, and whether it works outside of the key's dates: what
// was sealed while a key was in date must open after it.
var uses = map[Operation]struct {
	need  Permission
	event string
	ever  bool
}{
	Encrypt: {MayEncrypt, "KeyEncrypt", false},
	Decrypt: {MayDecrypt, "KeyDecrypt", true},
	Wrap:    {MayWrap, "KeyWrap", false},
	Unwrap:  {MayUnwrap, "KeyUnwrap", true},
	Sign:    {MaySign, "KeySign", false},
	Verify:  {MayVerify, "KeyVerify", true},
}

// Use encrypts, decrypts, wraps, unwraps or signs in with a version of a key, the newest when ref names none, and returns
// the version that was used. Algorithms are RSA-OAEP-256, RSA-OAEP and RSA1_5; for signing, where in is a digest, RS256
// to RS512, PS256 to PS512 and ES256 to ES512. Refusals: BadParameter, also for what cannot be decrypted; Forbidden with
// an inner code for a key whose state forbids it; KeyNotFound, VaultNotFound.
func (s *Service) Use(
	ctx context.Context, who Caller, ref Ref, op Operation, algorithm string, in []byte,
) (used Ref, out []byte, err error) {
	used, err = s.use(ctx, who, ref, op, func(v versionRecord, private crypto.PrivateKey) error {
		var err error
		switch op {
		case Encrypt, Wrap:
			out, err = seal(v.Public, algorithm, in)
		case Decrypt, Unwrap:
			out, err = open(private, algorithm, in)
		case Sign:
			out, err = sign(private, algorithm, in)
		default:
			return fmt.Errorf("use a key for %s: there is no such operation", op)
		}
		return err
	})
	if err != nil {
		clear(out)
		return Ref{}, nil, err
	}
	return used, out, nil
}

// Verify reports whether signature is that of digest by a version of a key. Refusals: as Use.
func (s *Service) Verify(
	ctx context.Context, who Caller, ref Ref, algorithm string, digest, signature []byte,
) (valid bool, err error) {
	_, err = s.use(ctx, who, ref, Verify, func(v versionRecord, _ crypto.PrivateKey) error {
		var err error
		valid, err = verify(v.Public, algorithm, digest, signature)
		return err
	})
	return valid && err == nil, err
}

// use opens the private key of a version for do, when the caller and the state of the key allow it.
func (s *Service) use(
	ctx context.Context, who Caller, ref Ref, op Operation, do func(versionRecord, crypto.PrivateKey) error,
) (used Ref, err error) {
	u, known := uses[op]
	if !known {
		return Ref{}, fmt.Errorf("use a key for %s: there is no such operation", op)
	}
	e := Event{Operation: u.event, Vault: ref.Vault, Who: who, KeyID: s.KeyID(ref)}
	err = s.audited(ctx, e, func(e *Event) error {
		vault, err := s.enter(ctx, who, ref.Vault, u.need)
		if err != nil {
			return err
		}
		var v versionRecord
		var private privateRecord
		err = s.space.View(ctx, func(r sealed.Reader) error {
			k, found, err := find(r, vault, ref)
			if err != nil {
				return err
			}
			v, used = found, Ref{vault.Name, k.Name, found.ID}
			if err := v.allows(used, op, u.ever); err != nil || op == Encrypt || op == Wrap || op == Verify {
				return err // the public part is enough
			}
			private, err = privates.In(vault.ID, k.ID).Get(r, v.ID)
			return err
		})
		defer clear(private.PKCS8)
		if used.Version != "" {
			e.KeyID = s.KeyID(used)
		}
		if err != nil {
			return wrap("open key", err)
		}
		var key crypto.PrivateKey
		if private.PKCS8 != nil {
			if key, err = x509.ParsePKCS8PrivateKey(private.PKCS8); err != nil {
				return errors.New("read private key: it is not what was stored") // the parser's text may quote the key
			}
		}
		return do(v, key)
	})
	if err != nil {
		return Ref{}, err
	}
	return used, nil
}

// allows refuses an operation that the state of the version forbids (contract §A6).
func (v versionRecord) allows(ref Ref, op Operation, ever bool) error {
	if !v.Enabled {
		return disabled(ref)
	}
	if !slices.Contains(v.Operations, op) {
		return forbidden("", "Operation %s is not permitted on this key: its key_ops are %v.", op, v.Operations)
	}
	if ever {
		return nil
	}
	now := time.Now()
	if v.NotBefore != 0 && now.Add(leeway).Before(fromSeconds(v.NotBefore)) {
		return forbidden("KeyNotYetValid", "Operation %s is not allowed before %s, when the key becomes valid.", op,
			fromSeconds(v.NotBefore).Format(time.RFC3339))
	}
	if v.Expires != 0 && now.Add(-leeway).After(fromSeconds(v.Expires)) {
		return forbidden("KeyExpired", "Operation %s is not allowed since the key expired at %s; decrypt and unwrapKey still are.",
			op, fromSeconds(v.Expires).Format(time.RFC3339))
	}
	return nil
}

// The algorithms that encrypt, RFC 7518 §4.2 and §4.3.
const (
	oaepSHA256 = "RSA-OAEP-256"
	oaepSHA1   = "RSA-OAEP"
	pkcs1v15   = "RSA1_5"
)

// oaepHash returns the hash of an OAEP algorithm; nil for RSA1_5.
func oaepHash(algorithm string) (func() hash.Hash, error) {
	switch strings.ToUpper(algorithm) {
	case oaepSHA256:
		return sha256.New, nil
	case oaepSHA1, pkcs1v15:
		if fips140.Enforced() {
			return nil, invalid("The algorithm %s is not approved by FIPS 140-3, which this server enforces. Use RSA-OAEP-256.",
				algorithm)
		}
		if strings.EqualFold(algorithm, pkcs1v15) {
			return nil, nil
		}
		return sha1.New, nil
	}
	return nil, invalid("The algorithm (alg) must be RSA-OAEP-256, RSA-OAEP or RSA1_5 for this operation.")
}

// seal encrypts to the public part of an RSA key.
func seal(p Public, algorithm string, plaintext []byte) ([]byte, error) {
	key, err := rsaPublic(p)
	if err != nil {
		return nil, err
	}
	newHash, err := oaepHash(algorithm)
	if err != nil {
		return nil, err
	}
	if newHash == nil {
		if most := key.Size() - 11; len(plaintext) > most { // RFC 8017 §7.2.1
			return nil, tooLong(most)
		}
		//lint:ignore SA1019 the contract has it, and its clients ask for it by name
		out, err := rsa.EncryptPKCS1v15(rand.Reader, key, plaintext)
		return out, wrap("encrypt", err)
	}
	if most := key.Size() - 2*newHash().Size() - 2; len(plaintext) > most { // RFC 8017 §7.1.1
		return nil, tooLong(most)
	}
	out, err := rsa.EncryptOAEP(newHash(), rand.Reader, key, plaintext, nil)
	return out, wrap("encrypt", err)
}

func tooLong(most int) error {
	return invalid("The value is too long: this key and algorithm take at most %d bytes.", most)
}

// open decrypts with an RSA key. Why it failed is not told: that would help to forge (Manger; RFC 8017 §7.1.2).
func open(private crypto.PrivateKey, algorithm string, ciphertext []byte) ([]byte, error) {
	key, ok := private.(*rsa.PrivateKey)
	if !ok {
		return nil, errNotRSA()
	}
	newHash, err := oaepHash(algorithm)
	if err != nil {
		return nil, err
	}
	var out []byte
	if newHash == nil {
		//lint:ignore SA1019 as in seal
		out, err = rsa.DecryptPKCS1v15(nil, key, ciphertext)
	} else {
		out, err = rsa.DecryptOAEP(newHash(), nil, key, ciphertext, nil)
	}
	if err != nil {
		return nil, invalid("The parameter is incorrect: the value cannot be decrypted with this key and algorithm.")
	}
	return out, nil
}

func errNotRSA() error {
	return invalid("Keys of this type sign and verify; they do not encrypt or wrap.")
}

func rsaPublic(p Public) (*rsa.PublicKey, error) {
	if isEC(p.Type) {
		return nil, errNotRSA()
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(p.N), E: int(new(big.Int).SetBytes(p.E).Int64())}, nil
}

// signing is an algorithm of RFC 7518 §3.1.
type signing struct {
	kind  string // RS, PS, ES
	hash  crypto.Hash
	curve string // of an ES algorithm
}

func signingOf(algorithm string, ec bool, curve string, digest []byte) (signing, error) {
	all := map[string]signing{
		"RS256": {"RS", crypto.SHA256, ""}, "RS384": {"RS", crypto.SHA384, ""}, "RS512": {"RS", crypto.SHA512, ""},
		"PS256": {"PS", crypto.SHA256, ""}, "PS384": {"PS", crypto.SHA384, ""}, "PS512": {"PS", crypto.SHA512, ""},
		"ES256": {"ES", crypto.SHA256, "P-256"}, "ES384": {"ES", crypto.SHA384, "P-384"},
		"ES512": {"ES", crypto.SHA512, "P-521"},
	}
	a, known := all[strings.ToUpper(algorithm)]
	if !known {
		return a, invalid("The algorithm (alg) must be one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512.")
	}
	if (a.kind == "ES") != ec || a.curve != "" && a.curve != curve {
		return a, invalid("The algorithm %s does not fit the type of the key.", algorithm)
	}
	if len(digest) != a.hash.Size() {
		return a, invalid("The digest has %d bytes; that of %s has %d.", len(digest), algorithm, a.hash.Size())
	}
	return a, nil
}

func sign(private crypto.PrivateKey, algorithm string, digest []byte) ([]byte, error) {
	switch key := private.(type) {
	case *rsa.PrivateKey:
		a, err := signingOf(algorithm, false, "", digest)
		if err != nil {
			return nil, err
		}
		var out []byte
		if a.kind == "PS" {
			out, err = rsa.SignPSS(rand.Reader, key, a.hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			out, err = rsa.SignPKCS1v15(nil, key, a.hash, digest)
		}
		return out, wrap("sign", err)
	case *ecdsa.PrivateKey:
		if _, err := signingOf(algorithm, true, key.Curve.Params().Name, digest); err != nil {
			return nil, err
		}
		r, s, err := ecdsa.Sign(rand.Reader, key, digest)
		if err != nil {
			return nil, fmt.Errorf("sign: %w", err)
		}
		size := (key.Curve.Params().BitSize + 7) / 8 // RFC 7518 §3.4: r and s, each as long as the field
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...), nil
	}
	return nil, fmt.Errorf("sign: a key is a %T", private)
}

func verify(p Public, algorithm string, digest, signature []byte) (bool, error) {
	a, err := signingOf(algorithm, isEC(p.Type), p.Curve, digest)
	if err != nil {
		return false, err
	}
	if a.kind == "ES" {
		curve, err := curveOf(p.Curve)
		if err != nil {
			return false, err
		}
		key, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, p.X, p.Y))
		if err != nil {
			return false, fmt.Errorf("verify: read public key: %w", err)
		}
		half := len(signature) / 2
		if len(signature) != 2*len(p.X) {
			return false, nil
		}
		return ecdsa.Verify(key, digest, number(signature[:half]), number(signature[half:])), nil
	}
	key, err := rsaPublic(p)
	if err != nil {
		return false, err
	}
	if a.kind == "PS" {
		return rsa.VerifyPSS(key, a.hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil, nil
	}
	return rsa.VerifyPKCS1v15(key, a.hash, digest, signature) == nil, nil
}
