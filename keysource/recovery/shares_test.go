package recovery_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/visage-face/visage/keysource/recovery"
)

// The field by its tables: powers of the generator 3, and their logarithms. Nothing of it is shared with the code.
func tables() (exp [255]byte, log [256]int) {
	x := 1
	for i := range exp {
		exp[i], log[x] = byte(x), i
		x ^= x << 1 // by 3
		if x > 255 {
			x ^= 0x11b
		}
	}
	return exp, log
}

// TestField compares every product and inverse with the tables, and with the examples of FIPS 197 §4.2.
func TestField(t *testing.T) {
	exp, log := tables()
	for a := range 256 {
		for b := range 256 {
			want := byte(0)
			if a != 0 && b != 0 {
				want = exp[(log[a]+log[b])%255]
			}
			if got := recovery.Multiply(byte(a), byte(b)); got != want {
				t.Fatalf("%#x times %#x: got %#x, want %#x", a, b, got, want)
			}
		}
		if a != 0 && recovery.Multiply(byte(a), recovery.Invert(byte(a))) != 1 {
			t.Errorf("the inverse of %#x is %#x", a, recovery.Invert(byte(a)))
		}
	}
	for _, v := range [][3]byte{{0x57, 0x83, 0xc1}, {0x57, 0x13, 0xfe}} {
		if got := recovery.Multiply(v[0], v[1]); got != v[2] {
			t.Errorf("FIPS 197: %#x times %#x: got %#x, want %#x", v[0], v[1], got, v[2])
		}
	}
}

// TestShares: any k of n shares give the secret, in any choice; k-1 of them fit every secret, so they say nothing of
// it.
func TestShares(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for n := 1; n <= 6; n++ {
		for k := 1; k <= n; k++ {
			secret := make([]byte, 32)
			for i := range secret {
				secret[i] = byte(random.Uint32())
			}
			shares := recovery.Split(secret, n, k)
			for mask := range 1 << n {
				chosen := map[byte][]byte{}
				for i := range n {
					if mask>>i&1 == 1 {
						chosen[byte(i+1)] = shares[i]
					}
				}
				if len(chosen) == 0 {
					continue
				}
				got, err := recovery.Combine(chosen)
				if err != nil {
					t.Fatal(err)
				}
				if enough := len(chosen) >= k; enough != bytes.Equal(got, secret) {
					t.Errorf("%d of %d shares, threshold %d: opens %t", len(chosen), n, k, !enough)
				}
				if len(chosen) != k-1 {
					continue
				}
				// Whatever the missing share is taken to be, some secret fits: all 256 values of its first byte give
				// 256 different secrets.
				seen := map[byte]bool{}
				for guess := range 256 {
					more := map[byte][]byte{200: bytes.Repeat([]byte{byte(guess)}, 32)}
					for x, y := range chosen {
						more[x] = y
					}
					got, err := recovery.Combine(more)
					if err != nil {
						t.Fatal(err)
					}
					seen[got[0]] = true
				}
				if len(seen) != 256 {
					t.Errorf("%d shares of threshold %d leave %d values of a byte", k-1, k, len(seen))
				}
			}
		}
	}
}
