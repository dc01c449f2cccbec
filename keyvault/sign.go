package keyvault

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"
)

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
		return a,
			invalid("The algorithm (alg) must be one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512.")
	}
	if (a.kind == "ES") != ec || a.curve != "" && a.curve != curve {
		return a, invalid("The algorithm %s does not match the type of the key.", algorithm)
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
			out, err = rsa.SignPSS(rand.Reader, key, a.hash, digest,
				&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
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
		return rsa.VerifyPSS(key, a.hash, digest, signature,
			&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil, nil
	}
	return rsa.VerifyPKCS1v15(key, a.hash, digest, signature) == nil, nil
}
