// Package weakkey checks RSA keys and refuses those that are easier to break than their size suggests.
//
// A key that was made elsewhere is only as good as the program that made it. The package has two checks: one of the
// public half, which looks for the faults of known bad generators, and one of the private half, which holds the key to
// the rules of FIPS 186-5 §A.1.1 and SP 800-56B r2 §6.4.1.4. Both take big integers, so that callers can check numbers
// that crypto/rsa would not even hold. Neither runs in constant time.
package weakkey

import (
	"errors"
	"fmt"
	"math/big"
	"math/bits"
	"sync"
)

// Weakness says in words why a key is refused, as the end of a sentence: "its two primes are too close together".
type Weakness string

// Error implements error.
func (w Weakness) Error() string { return string(w) }

// Weaknesses of a public half that tests and logs distinguish.
const (
	ErrExponent Weakness = "its public exponent e is not an odd number above 65536 and below 2^256 (FIPS 186-5 §A.1.1)"
	ErrModulus  Weakness = "its modulus n is not the product of two large primes"
	ErrFactor   Weakness = "its modulus n has a small prime factor"
	ErrPattern  Weakness = "its modulus n is not random: it has a repeated pattern, " +
		"or far more bits of one kind than of the other"
	ErrROCA  Weakness = "its modulus n was made by the faulty generator of Infineon chips (ROCA, CVE-2017-15361)"
	ErrClose Weakness = "its two primes are too close together, so that anyone can factor its modulus n"
)

// Bounds of what is done for one key.
const (
	smallest     = 1 << 16 // primes below it are tried as factors
	fermatRounds = 110     // of Fermat's method: keys of faulty generators fall in the first few
	primeRounds  = 20      // of Miller and Rabin besides Baillie-PSW: an error of less than 2^-40 for any number
)

// Public checks a public key (n, e) and returns a Weakness, or nil when it finds none. It does not check the size of n.
// A key that passes may still have a weakness that only its generator reveals.
func Public(n, e *big.Int) error {
	if e.Bit(0) == 0 || e.BitLen() < 17 || e.BitLen() > 256 {
		return ErrExponent
	}
	if n.Sign() <= 0 || n.BitLen() < 64 {
		return ErrModulus
	}
	if new(big.Int).GCD(nil, nil, n, smallPrimes().product).Cmp(big.NewInt(1)) != 0 {
		return ErrFactor
	}
	if patterned(n) {
		return ErrPattern
	}
	if isROCA(n) {
		return ErrROCA
	}
	if n.ProbablyPrime(0) {
		return ErrModulus
	}
	if isClose(n) {
		return ErrClose
	}
	return nil
}

// primes are 2 and the odd primes up to 65537, and their product.
type primes struct {
	list    []uint32
	product *big.Int
}

var smallPrimes = sync.OnceValue(func() primes {
	composite := make([]bool, smallest+2)
	p := primes{product: big.NewInt(1)}
	for i := 2; i <= smallest+1; i++ { // 65537 is one too
		if composite[i] {
			continue
		}
		p.list = append(p.list, uint32(i))
		p.product.Mul(p.product, big.NewInt(int64(i)))
		for j := i * i; j < len(composite); j += i {
			composite[j] = true
		}
	}
	return p
})

// patterned reports whether n cannot have come from a random generator: sixteen equal bytes in a row, or a share of
// ones outside of 40 to 60 %, which is nine standard deviations for 2,048 bits.
func patterned(n *big.Int) bool {
	const longest = 16
	b, run := n.Bytes(), 1
	for i := 1; i < len(b); i++ {
		if b[i] != b[i-1] {
			run = 1
			continue
		}
		if run++; run == longest {
			return true
		}
	}
	ones := 0
	for _, x := range b {
		ones += bits.OnesCount8(x)
	}
	share := ones * 100 / n.BitLen()
	return share < 40 || share >= 60
}

// isROCA reports whether n looks like a product of primes k·M + (65537^a mod M), M a product of the first primes: then
// n is a power of 65537 modulo each of them (Nemec and others, The Return of Coppersmith's Attack, 2017, §3). A random
// n passes as one less than once in 2^27.
func isROCA(n *big.Int) bool {
	rest := new(big.Int)
	for _, p := range smallPrimes().list {
		if p == 2 {
			continue
		}
		if p > 167 {
			break
		}
		prime := uint64(p)
		got := rest.Mod(n, big.NewInt(int64(p))).Uint64()
		power := uint64(1)
		for power != got {
			if power = power * 65537 % prime; power == 1 {
				return false
			}
		}
	}
	return true
}

// isClose runs the first rounds of Fermat's method: n = a² - b² with a next to the root of n.
func isClose(n *big.Int) bool {
	a := new(big.Int).Sqrt(n)
	square, root := new(big.Int), new(big.Int)
	if square.Mul(a, a).Cmp(n) == 0 {
		return true // the same prime twice
	}
	one := big.NewInt(1)
	for range fermatRounds {
		a.Add(a, one)
		square.Mul(a, a).Sub(square, n)
		if root.Sqrt(square); new(big.Int).Mul(root, root).Cmp(square) == 0 {
			return true
		}
	}
	return false
}

// Private checks a key with both of its primes, its public half included. The error is a Weakness or says which parts
// are inconsistent; nil: the key holds FIPS 186-5 §A.1.1, save that d may be computed modulo (p-1)(q-1) in place of its
// least common multiple, as many programs do. The size of n, an even number of bits, is the caller's to check.
func Private(n, e, d, p, q *big.Int) error {
	half := n.BitLen() / 2
	if p.Sign() <= 0 || q.Sign() <= 0 || d.Sign() <= 0 || new(big.Int).Mul(p, q).Cmp(n) != 0 {
		return errors.New("its parts are inconsistent: n is not p times q")
	}
	for _, f := range []struct {
		name   string
		number *big.Int
	}{{"p", p}, {"q", q}} {
		if f.number.BitLen() != half {
			return Weakness(fmt.Sprintf("its prime %s has %d bits; each of the two must have %d (FIPS 186-5 §A.1.1)",
				f.name, f.number.BitLen(), half))
		}
		// p ≥ √2·2^(half-1), squared to stay in integers.
		if new(big.Int).Mul(f.number, f.number).BitLen() < 2*half {
			return Weakness(fmt.Sprintf("its prime %s is below √2·2^%d (FIPS 186-5 §A.1.1)", f.name, half-1))
		}
	}
	if apart := new(big.Int).Sub(p, q); apart.Abs(apart).BitLen() <= half-100 {
		return ErrClose
	}
	if err := Public(n, e); err != nil {
		return err
	}
	for _, f := range []*big.Int{p, q} {
		if !f.ProbablyPrime(primeRounds) {
			return Weakness("one of p and q is not a prime")
		}
	}
	return exponents(n, e, d, p, q)
}

// exponents checks that d is the inverse of e, and large.
func exponents(n, e, d, p, q *big.Int) error {
	one := big.NewInt(1)
	p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	common := new(big.Int).GCD(nil, nil, p1, q1)
	lcm := new(big.Int).Mul(p1, q1)
	lcm.Div(lcm, common)
	inverse := new(big.Int).ModInverse(e, lcm)
	if inverse == nil {
		return Weakness("its public exponent e has a common factor with p-1 or q-1")
	}
	if d.Cmp(n) >= 0 || new(big.Int).Mod(d, lcm).Cmp(inverse) != 0 {
		return errors.New("its parts are inconsistent: d is not the inverse of e")
	}
	if inverse.BitLen() <= n.BitLen()/2 {
		return Weakness("its private exponent d is too small (FIPS 186-5 §A.1.1)")
	}
	return nil
}

// Derived checks the derived numbers of RFC 8017 §3.2: dp = d mod (p-1), dq = d mod (q-1), and qi, the inverse of q
// modulo p. Nil numbers are skipped.
func Derived(d, p, q, dp, dq, qi *big.Int) error {
	one := big.NewInt(1)
	for _, c := range []struct {
		name      string
		got, want *big.Int
	}{
		{"dp", dp, new(big.Int).Mod(d, new(big.Int).Sub(p, one))},
		{"dq", dq, new(big.Int).Mod(d, new(big.Int).Sub(q, one))},
		{"qi", qi, new(big.Int).ModInverse(q, p)},
	} {
		if c.got != nil && (c.want == nil || c.got.Cmp(c.want) != 0) {
			return fmt.Errorf("its parts are inconsistent: %s does not follow from the others", c.name)
		}
	}
	return nil
}
