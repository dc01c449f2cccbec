package keyvault

import (
	"context"
	"crypto"
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

	"github.com/visage-face/visage"
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

// Use encrypts, decrypts, wraps, unwraps or signs in with a version of a key, the newest when ref names none, and
// returns the version that was used. Algorithms are RSA-OAEP-256, RSA-OAEP and RSA1_5; for signing, where in is a
// digest, RS256 to RS512, PS256 to PS512 and ES256 to ES512. Refusals: BadParameter, also for what cannot be decrypted;
// Forbidden with an inner code for a key whose state forbids it; KeyNotFound, VaultNotFound.
func (s *Service) Use(
	ctx context.Context, who visage.Caller, ref Ref, op Operation, algorithm string, in []byte,
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
	ctx context.Context, who visage.Caller, ref Ref, algorithm string, digest, signature []byte,
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
	ctx context.Context, who visage.Caller, ref Ref, op Operation, do func(versionRecord, crypto.PrivateKey) error,
) (used Ref, err error) {
	u, known := uses[op]
	if !known {
		return Ref{}, fmt.Errorf("use a key for %s: there is no such operation", op)
	}
	e := event{Operation: u.event, Vault: ref.Vault, Who: storable(who), KeyID: s.KeyID(ref)}
	err = s.audited(ctx, e, func(e *event) error {
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
		return forbidden("KeyExpired",
			"Operation %s is not allowed since the key expired at %s; decrypt and unwrapKey still are.", op,
			fromSeconds(v.Expires).Format(time.RFC3339))
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
			return nil, invalid(
				"The algorithm %s is not approved by FIPS 140-3, which this server enforces. Use RSA-OAEP-256.",
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

// open decrypts with an RSA key. The cause of a failure is not returned: it would help an attacker (Manger; RFC 8017
// §7.1.2).
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
	return invalid("Keys of this type can only sign and verify, not encrypt or wrap.")
}

func rsaPublic(p Public) (*rsa.PublicKey, error) {
	if isEC(p.Type) {
		return nil, errNotRSA()
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(p.N), E: int(new(big.Int).SetBytes(p.E).Int64())}, nil
}
