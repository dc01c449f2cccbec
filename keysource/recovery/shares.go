package recovery

import (
	"crypto/rand"
	"errors"
)

// Shamir's secret sharing over GF(256), byte by byte, with the field of AES (x^8 + x^4 + x^3 + x + 1). Share n of a
// secret is the value at n of a random polynomial that has the secret at 0; k points give a polynomial of degree k-1
// back, and fewer say nothing of its value at 0. Multiplication has no tables and no branches on secrets.

// split returns n shares of a secret, of which any k give it back: share i is at i-1.
func split(secret []byte, n, k int) [][]byte {
	shares := make([][]byte, n)
	for i := range shares {
		shares[i] = make([]byte, len(secret))
	}
	polynomial := make([]byte, k)
	defer clear(polynomial)
	for at, b := range secret {
		rand.Read(polynomial) // never fails: the runtime ends the process instead
		polynomial[0] = b
		for i := range shares {
			shares[i][at] = valueAt(polynomial, byte(i+1))
		}
	}
	return shares
}

// valueAt evaluates a polynomial, the constant first.
func valueAt(polynomial []byte, x byte) (y byte) {
	for i := len(polynomial) - 1; i >= 0; i-- {
		y = multiply(y, x) ^ polynomial[i]
	}
	return y
}

// combine returns the value at 0 of the polynomial through shares, by their numbers.
func combine(shares map[byte][]byte) ([]byte, error) {
	var secret []byte
	for x, share := range shares {
		if x == 0 || secret != nil && len(share) != len(secret) {
			return nil, errors.New("the shares do not belong together")
		}
		if secret == nil {
			secret = make([]byte, len(share))
		}
		weight := byte(1) // of Lagrange's interpolation at 0
		for other := range shares {
			if other != x {
				weight = multiply(weight, multiply(other, invert(other^x)))
			}
		}
		for i, y := range share {
			secret[i] ^= multiply(weight, y)
		}
	}
	return secret, nil
}

func multiply(a, b byte) (product byte) {
	for range 8 {
		product ^= -(b & 1) & a
		a = a<<1 ^ -(a>>7)&0x1b
		b >>= 1
	}
	return product
}

// invert returns the inverse, a^254; of 0 it is 0.
func invert(a byte) byte {
	result := byte(1)
	for range 254 {
		result = multiply(result, a)
	}
	return result
}
