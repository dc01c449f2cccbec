package keyvault

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"math/big"
	"strings"
)

// Public is the public part of a key. Numbers are big endian.
type Public struct {
	Type  string // RSA, RSA-HSM, EC, EC-HSM
	Curve string // EC: P-256, P-384, P-521
	N, E  []byte // RSA: modulus and exponent, without leading zeros
	X, Y  []byte // EC: the point, each as long as the curve's field
}

// Bits is the size of an RSA modulus; 0 for other keys.
func (p Public) Bits() int { return new(big.Int).SetBytes(p.N).BitLen() }

// material is a key with its private part, on its way into the store.
type material struct {
	public Public
	pkcs8  []byte
}

func (m material) wipe() { clear(m.pkcs8) }

func isEC(kty string) bool { return strings.EqualFold(kty, "EC") || strings.EqualFold(kty, "EC-HSM") }

// checkType returns the contract's spelling of a type of keys.
func checkType(kty string, premium bool) (string, error) {
	for _, known := range []string{"RSA", "EC", "RSA-HSM", "EC-HSM"} {
		if !strings.EqualFold(kty, known) {
			continue
		}
		if strings.HasSuffix(known, "-HSM") && !premium {
			return "", invalid("Keys of type %s need a vault of sku premium.", known)
		}
		return known, nil
	}
	return "", invalid("The key type (kty) must be one of RSA, EC, RSA-HSM, EC-HSM; symmetric keys are not kept here.")
}

// generate makes a key.
func generate(kty string, bits int, curveName string, premium bool) (material, error) {
	kty, err := checkType(kty, premium)
	if err != nil {
		return material{}, err
	}
	if isEC(kty) {
		if curveName == "" {
			curveName = "P-256"
		}
		curve, err := curveOf(curveName)
		if err != nil {
			return material{}, err
		}
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			return material{}, fmt.Errorf("make key: %w", err)
		}
		return fromPrivate(kty, key)
	}
	if bits == 0 {
		bits = 2048
	}
	if err := checkBits(bits); err != nil {
		return material{}, err
	}
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return material{}, fmt.Errorf("make key: %w", err)
	}
	return fromPrivate(kty, key)
}

func checkBits(bits int) error {
	if bits != 2048 && bits != 3072 && bits != 4096 {
		return invalid("The size of an RSA key must be 2048, 3072 or 4096 bits.")
	}
	return nil
}

func curveOf(name string) (elliptic.Curve, error) {
	switch strings.ToUpper(name) {
	case "P-256":
		return elliptic.P256(), nil
	case "P-384":
		return elliptic.P384(), nil
	case "P-521":
		return elliptic.P521(), nil
	}
	return nil, invalid("The curve (crv) must be one of P-256, P-384, P-521.")
}

// fromPrivate takes the public part out of a private key and encodes the whole.
func fromPrivate(kty string, key crypto.PrivateKey) (material, error) {
	m := material{public: Public{Type: kty}}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		m.public.N, m.public.E = key.N.Bytes(), big.NewInt(int64(key.E)).Bytes()
	case *ecdsa.PrivateKey:
		point, err := key.PublicKey.Bytes() // SEC 1 §2.3.3, uncompressed: 4, x, y
		if err != nil {
			return material{}, fmt.Errorf("encode public key: %w", err)
		}
		half := (len(point) - 1) / 2
		m.public.Curve = key.Curve.Params().Name
		m.public.X, m.public.Y = point[1:1+half], point[1+half:]
	default:
		return material{}, fmt.Errorf("a key is a %T", key)
	}
	var err error
	if m.pkcs8, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return material{}, fmt.Errorf("encode private key: %w", err)
	}
	return m, nil
}

// JWK is a private key as it is imported (RFC 7517, RFC 7518 §6). Numbers are big endian.
type JWK struct {
	Type  string
	Curve string

	N, E, D, P, Q []byte // RSA; the numbers that follow from them are not looked at
	X, Y          []byte // EC; its private number is D
}

// material checks a key that was made elsewhere: whatever is not consistent with itself is a refusal.
func (j JWK) material(hsm, premium bool) (material, error) {
	kty := strings.ToUpper(j.Type)
	if hsm && !strings.HasSuffix(kty, "-HSM") {
		kty += "-HSM"
	}
	kty, err := checkType(kty, premium)
	if err != nil {
		return material{}, err
	}
	if isEC(kty) {
		return j.ec(kty)
	}
	return j.rsa(kty)
}

func (j JWK) rsa(kty string) (material, error) {
	n, e, d := number(j.N), number(j.E), number(j.D)
	p, q := number(j.P), number(j.Q)
	if p.Sign() == 0 || q.Sign() == 0 || d.Sign() == 0 {
		return material{}, invalid("An RSA key is imported with its private parts: n, e, d, p and q are required.")
	}
	if err := checkBits(n.BitLen()); err != nil {
		return material{}, err
	}
	const exponent = 65537 // the one that clients and other vaults use, and FIPS 186-5 §A.1.1 allows
	if !e.IsInt64() || e.Int64() != exponent {
		return material{}, invalid("The public exponent of an imported RSA key must be %d.", exponent)
	}
	if d.BitLen() > n.BitLen() || p.BitLen() > n.BitLen() || q.BitLen() > n.BitLen() {
		return material{}, invalid("The parts of the RSA key do not belong together.")
	}
	key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: exponent}, D: d, Primes: []*big.Int{p, q}}
	key.Precompute()
	if err := key.Validate(); err != nil {
		return material{}, invalid("The parts of the RSA key do not belong together.")
	}
	return fromPrivate(kty, key)
}

func (j JWK) ec(kty string) (material, error) {
	curve, err := curveOf(j.Curve)
	if err != nil {
		return material{}, err
	}
	size := (curve.Params().BitSize + 7) / 8
	scalar, ok := fixed(j.D, size)
	if !ok || len(j.D) == 0 {
		return material{}, invalid("An EC key is imported with its private part d, of at most %d bytes.", size)
	}
	key, err := ecdsa.ParseRawPrivateKey(curve, scalar)
	if err != nil {
		return material{}, invalid("The private part d of the EC key does not belong to the curve %s.", j.Curve)
	}
	m, err := fromPrivate(kty, key)
	if err != nil {
		return material{}, err
	}
	x, okX := fixed(j.X, size)
	y, okY := fixed(j.Y, size)
	if !okX || !okY || string(x) != string(m.public.X) || string(y) != string(m.public.Y) {
		m.wipe()
		return material{}, invalid("The point (x, y) of the EC key does not belong to its private part.")
	}
	return m, nil
}

func number(b []byte) *big.Int { return new(big.Int).SetBytes(b) }

// fixed returns a number in as many bytes as it must have; false when it does not fit.
func fixed(b []byte, size int) ([]byte, bool) {
	n := number(b)
	if n.BitLen() > size*8 {
		return nil, false
	}
	return n.FillBytes(make([]byte, size)), true
}
