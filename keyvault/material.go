package keyvault

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"math/big"
	"strings"

	"github.com/visage-face/visage/internal/weakkey"
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
			return "", invalid("Keys of type %s need a vault with sku premium.", known)
		}
		return known, nil
	}
	return "", invalid("The key type (kty) must be one of RSA, EC, RSA-HSM, EC-HSM; symmetric keys are not kept here.")
}

// generate makes a key.
func (s *Service) generate(kty string, bits int, curveName string, premium bool) (material, error) {
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
	key, err := s.cfg.NewRSA(bits)
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

	N, E, D, P, Q []byte // RSA
	DP, DQ, QI    []byte // RSA; not looked at when they are left out, since they follow from the others
	Others        bool   // RSA: that there are more than two primes (RFC 7518 §6.3.2.7)
	X, Y          []byte // EC; its private number is D
}

// material checks a key that was made elsewhere: whatever is weak, or not consistent with itself, is a refusal.
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
	if j.Others {
		return material{}, invalid("Multi-prime RSA keys (oth) are not supported: import a key with two primes, " +
			"p and q.")
	}
	for _, part := range []*big.Int{d, p, q} {
		if part.BitLen() > n.BitLen() {
			return material{}, invalid("The RSA key is not valid: its parts do not belong together.")
		}
	}
	if err := checkRSA(n, e, d, p, q); err != nil {
		return material{}, err
	}
	given := func(b []byte) *big.Int {
		if b == nil {
			return nil
		}
		return number(b)
	}
	if err := weakkey.Derived(d, p, q, given(j.DP), given(j.DQ), given(j.QI)); err != nil {
		return material{}, refusedRSA(err)
	}
	key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: int(e.Int64())}, D: d, Primes: []*big.Int{p, q}}
	key.Precompute()
	if err := key.Validate(); err != nil {
		return material{}, invalid("The RSA key is not valid: its parts do not belong together.")
	}
	return fromPrivate(kty, key)
}

// checkRSA refuses an RSA key that was not made here and is weak, or is not one.
func checkRSA(n, e, d, p, q *big.Int) error {
	if err := checkBits(n.BitLen()); err != nil {
		return err
	}
	const most = 1<<31 - 1 // what crypto/rsa computes with
	if e.BitLen() <= 256 && e.Cmp(big.NewInt(most)) > 0 {
		return invalid("The RSA key is refused: its public exponent e is above %d; most keys have 65537.", most)
	}
	if err := weakkey.Private(n, e, d, p, q); err != nil {
		return refusedRSA(err)
	}
	return nil
}

func refusedRSA(why error) error {
	return invalid("The RSA key is refused: %s. Make a new one, with a current program or in the vault.", why)
}

// checkStored refuses the private key of a backup when it would be refused as an import.
func checkStored(public Public, pkcs8 []byte) error {
	parsed, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return invalid("The private key is not valid, or does not match its public key.")
	}
	switch key := parsed.(type) {
	case *rsa.PrivateKey:
		if len(key.Primes) != 2 {
			return invalid("An RSA key must have exactly two primes.")
		}
		if err := checkRSA(key.N, big.NewInt(int64(key.E)), key.D, key.Primes[0], key.Primes[1]); err != nil {
			return err
		}
	case *ecdsa.PrivateKey:
		scalar, err := key.Bytes()
		if err != nil {
			return invalid("The private key is not valid for its curve.")
		}
		defer clear(scalar)
		if err := checkScalar(key.Curve, scalar); err != nil {
			return err
		}
	}
	m, err := fromPrivate(public.Type, parsed)
	if err != nil {
		return err
	}
	defer m.wipe()
	for _, part := range [][2][]byte{
		{m.public.N, public.N}, {m.public.E, public.E}, {m.public.X, public.X}, {m.public.Y, public.Y},
	} {
		if !bytes.Equal(part[0], part[1]) {
			return invalid("The private key does not match its public key.")
		}
	}
	return nil
}

// checkScalar refuses private numbers of EC keys that anyone would try: a random one has its upper half empty, or is
// that close to the order of the curve, less than once in 2^100.
func checkScalar(curve elliptic.Curve, scalar []byte) error {
	half := curve.Params().BitSize / 2
	d := number(scalar)
	if d.BitLen() <= half || new(big.Int).Sub(curve.Params().N, d).BitLen() <= half {
		return invalid(
			"The private part d of the EC key is not random: it has at most %d bits, or is next to the order of the "+
				"curve. "+
				"Make a new key.", half)
	}
	return nil
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
		return material{}, invalid("The private part d of the EC key is not valid for the curve %s.", j.Curve)
	}
	if err := checkScalar(curve, scalar); err != nil {
		return material{}, err
	}
	m, err := fromPrivate(kty, key)
	if err != nil {
		return material{}, err
	}
	x, okX := fixed(j.X, size)
	y, okY := fixed(j.Y, size)
	if !okX || !okY || string(x) != string(m.public.X) || string(y) != string(m.public.Y) {
		m.wipe()
		return material{}, invalid("The point (x, y) of the EC key does not match its private part.")
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
