package weakkey_test

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"testing"

	"github.com/visage-face/visage/internal/weakkey"
)

var (
	one = big.NewInt(1)
	f4  = big.NewInt(65537)
)

// key is an RSA key of any two numbers.
type key struct{ n, e, d, p, q *big.Int }

func compose(e, p, q *big.Int) key {
	p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	return key{new(big.Int).Mul(p, q), e, new(big.Int).ModInverse(e, new(big.Int).Mul(p1, q1)), p, q}
}

func (k key) public() error  { return weakkey.Public(k.n, k.e) }
func (k key) private() error { return weakkey.Private(k.n, k.e, k.d, k.p, k.q) }

// prime returns a prime of the given bits whose two upper bits are set and for which e has an inverse.
func prime(t testing.TB, bits int, e *big.Int) *big.Int {
	t.Helper()
	for {
		p, err := rand.Prime(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		if new(big.Int).GCD(nil, nil, new(big.Int).Sub(p, one), e).Cmp(one) == 0 {
			return p
		}
	}
}

// after returns the first prime above n for which 65537 has an inverse.
func after(n *big.Int) *big.Int {
	p := new(big.Int).SetBit(new(big.Int).Add(n, big.NewInt(2)), 0, 1)
	for !p.ProbablyPrime(0) || new(big.Int).Mod(p, f4).Cmp(one) == 0 {
		p.Add(p, big.NewInt(2))
	}
	return p
}

// infineon returns a prime of 1,024 bits as the chips of CVE-2017-15361 made them: k·M + (65537^a mod M), M the product
// of the first 126 primes for keys of this size.
func infineon(t testing.TB) *big.Int {
	t.Helper()
	m, count := big.NewInt(1), 0
	for i := int64(2); count < 126; i++ {
		if big.NewInt(i).ProbablyPrime(0) {
			m.Mul(m, big.NewInt(i))
			count++
		}
	}
	lowest := new(big.Int).Div(new(big.Int).Lsh(big.NewInt(3), 1022), m)
	for {
		a, err := rand.Int(rand.Reader, m)
		if err != nil {
			t.Fatal(err)
		}
		k, err := rand.Int(rand.Reader, new(big.Int).Rsh(lowest, 3))
		if err != nil {
			t.Fatal(err)
		}
		k.Add(k, lowest)
		p := k.Mul(k, m)
		p.Add(p, new(big.Int).Exp(f4, a, m))
		if p.BitLen() == 1024 && p.ProbablyPrime(0) && new(big.Int).Mod(p, f4).Cmp(one) != 0 {
			return p
		}
	}
}

func TestGoodKeys(t *testing.T) {
	for _, bits := range []int{2048, 3072, 4096} {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		p, q := k.Primes[0], k.Primes[1]
		if err := weakkey.Private(k.N, f4, k.D, p, q); err != nil {
			t.Errorf("%d bits: %v", bits, err)
		}
		if err := weakkey.Private(k.N, f4, k.D, q, p); err != nil {
			t.Errorf("%d bits, primes exchanged: %v", bits, err)
		}
		if err := weakkey.Derived(k.D, p, q, k.Precomputed.Dp, k.Precomputed.Dq, k.Precomputed.Qinv); err != nil {
			t.Errorf("%d bits: %v", bits, err)
		}
		for i, part := range []**big.Int{&k.Precomputed.Dp, &k.Precomputed.Dq, &k.Precomputed.Qinv} {
			old := *part
			*part = new(big.Int).Add(old, one)
			if weakkey.Derived(k.D, p, q, k.Precomputed.Dp, k.Precomputed.Dq, k.Precomputed.Qinv) == nil {
				t.Errorf("%d bits: derived number %d is wrong but passes", bits, i)
			}
			*part = old
		}
	}
	p, q := prime(t, 1024, f4), prime(t, 1024, f4)
	k := compose(f4, p, q)
	k.d.Mod(k.d, new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))) // modulo (p-1)(q-1)
	if err := k.private(); err != nil {
		t.Errorf("d modulo the product: %v", err)
	}
	e := big.NewInt(65539)
	if err := compose(e, prime(t, 1024, e), prime(t, 1024, e)).private(); err != nil {
		t.Errorf("another exponent: %v", err)
	}
}

func TestWeakKeys(t *testing.T) {
	p, q := prime(t, 1024, f4), prime(t, 1024, f4)
	good := compose(f4, p, q)
	with := func(change func(*key)) key {
		k := good
		change(&k)
		return k
	}
	low := new(big.Int).Lsh(big.NewInt(5), 1021) // 1.25·2^1023
	three := big.NewInt(3)
	order := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	wiener := prime(t, 200, f4)
	zeros := new(big.Int).Lsh(big.NewInt(0xA8), 1016)
	for _, c := range []struct {
		name   string
		key    key
		public error // the weakness of the public half alone
	}{
		{"a prime of 64 bits", compose(f4, prime(t, 64, f4), prime(t, 1984, f4)), nil},
		{"a prime of 1000 bits", compose(f4, prime(t, 1000, f4), prime(t, 1048, f4)), nil},
		{"a prime of 1023 bits", compose(f4, prime(t, 1023, f4), prime(t, 1025, f4)), nil},
		{"a prime below the root", compose(f4, after(low), prime(t, 1024, f4)), nil},
		{"a small factor", compose(f4, big.NewInt(65521), prime(t, 2033, f4)), weakkey.ErrFactor},
		{"the next prime", compose(f4, p, after(p)), weakkey.ErrClose},
		{"a prime 900 bits away", compose(f4, p, after(new(big.Int).Add(p, new(big.Int).Lsh(one, 900)))), nil},
		{"one prime twice", key{new(big.Int).Mul(p, p), f4, good.d, p, p}, weakkey.ErrClose},
		{"a product for a prime", compose(f4, new(big.Int).Mul(prime(t, 512, f4), prime(t, 512, f4)), q), nil},
		{"e of 3", compose(three, prime(t, 1024, three), prime(t, 1024, three)), weakkey.ErrExponent},
		{"e of 1", with(func(k *key) { k.e, k.d = one, one }), weakkey.ErrExponent},
		{"an even e", with(func(k *key) { k.e = big.NewInt(65538) }), weakkey.ErrExponent},
		{"e of 257 bits", compose(after(new(big.Int).Lsh(one, 257)), p, q), weakkey.ErrExponent},
		{"a small d", compose(new(big.Int).ModInverse(wiener, order), p, q), weakkey.ErrExponent},
		{"d of another key", with(func(k *key) { k.d = new(big.Int).Add(k.d, big.NewInt(2)) }), nil},
		{"d beyond n", with(func(k *key) {
			k.d = new(big.Int).Add(k.d, new(big.Int).Mul(k.n, new(big.Int).Sub(p, one)))
		}), nil},
		{"another n", with(func(k *key) { k.n = new(big.Int).Add(k.n, big.NewInt(2)) }), errAny},
		{"the generator of Infineon", compose(f4, infineon(t), infineon(t)), weakkey.ErrROCA},
		{"primes of zeros", compose(f4, after(zeros), after(new(big.Int).Add(zeros, new(big.Int).Lsh(one, 1016)))),
			weakkey.ErrPattern},
		{"a prime for n", key{prime(t, 2048, f4), f4, good.d, p, q}, weakkey.ErrModulus},
		{"n of zero", key{new(big.Int), f4, good.d, p, q}, weakkey.ErrModulus},
		{"p of zero", key{good.n, f4, good.d, new(big.Int), q}, nil},
	} {
		if err := c.key.private(); err == nil {
			t.Errorf("%s: the private half passes", c.name)
		}
		if err := c.key.public(); c.public != errAny && !errors.Is(err, c.public) {
			t.Errorf("%s: the public half: %v, want %v", c.name, err, c.public)
		}
	}
	if err := good.private(); err != nil {
		t.Errorf("the original key: %v", err)
	}
}

// errAny is for public halves of random numbers, which may pass or not.
var errAny = errors.New("any")

func BenchmarkPrivate(b *testing.B) {
	k := compose(f4, prime(b, 1024, f4), prime(b, 1024, f4))
	for b.Loop() {
		if err := k.private(); err != nil {
			b.Fatal(err)
		}
	}
}
