package servertest

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"sync"
	"testing"
)

// rsaKeys lends RSA keys to servers, since making one takes as long as a whole test. A server has each key once, and
// alone: what it has is lent to others when its test has ended.
type rsaKeys struct {
	mu   sync.Mutex
	free map[int][]*rsa.PrivateKey // by the number of bits
}

var lender = rsaKeys{free: map[int][]*rsa.PrivateKey{}}

// lend returns what makes RSA keys for a server of a test. Call it before the cleanup that stops the server is
// registered, so that the keys come back after it.
func (k *rsaKeys) lend(t testing.TB) func(bits int) (*rsa.PrivateKey, error) {
	var lent []*rsa.PrivateKey
	t.Cleanup(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, key := range lent {
			bits := key.N.BitLen()
			k.free[bits] = append(k.free[bits], key)
		}
	})
	return func(bits int) (*rsa.PrivateKey, error) {
		key, err := k.take(bits)
		if err != nil {
			return nil, fmt.Errorf("make an RSA key: %w", err)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		lent = append(lent, key)
		return key, nil
	}
}

// take returns a key that is free, or makes one.
func (k *rsaKeys) take(bits int) (*rsa.PrivateKey, error) {
	k.mu.Lock()
	if free := k.free[bits]; len(free) > 0 {
		key := free[len(free)-1]
		k.free[bits] = free[:len(free)-1]
		k.mu.Unlock()
		return key, nil
	}
	k.mu.Unlock()
	return rsa.GenerateKey(rand.Reader, bits)
}
