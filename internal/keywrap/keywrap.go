// Package keywrap unwraps keys that others have wrapped with AES Key Wrap with Padding (RFC 5649; SP 800-38F, KWP).
package keywrap

import (
	"crypto/aes"
	"encoding/binary"
	"errors"
)

// ErrIntegrity says that something was not wrapped under the key, or was altered since.
var ErrIntegrity = errors.New("the wrapped key does not open")

const semiblock = 8 // bytes

// The first half of the alternative initial value (RFC 5649 §3). The second is the length of the plaintext in bytes.
const initial = 0xa65959a6

// Unwrap returns what was wrapped under kek, an AES key of 16, 24 or 32 bytes. The caller wipes it. Every failure but
// that of a key of another length is ErrIntegrity.
func Unwrap(kek, wrapped []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	n := len(wrapped)/semiblock - 1
	if len(wrapped)%semiblock != 0 || n < 1 {
		return nil, ErrIntegrity
	}
	// in takes one block of the cipher: the integrity check and a semiblock of the plaintext.
	var in [2 * semiblock]byte
	defer clear(in[:])
	copy(in[:semiblock], wrapped)
	plain := append([]byte(nil), wrapped[semiblock:]...)
	if n == 1 { // RFC 5649 §4.2: a single block, not wrapped in steps
		copy(in[semiblock:], plain)
		block.Decrypt(in[:], in[:])
		copy(plain, in[semiblock:])
	} else {
		for t := 6 * n; t > 0; t-- { // RFC 3394 §2.2.2, steps from 6n down to 1
			part := plain[(t-1)%n*semiblock:][:semiblock]
			binary.BigEndian.PutUint64(in[:], binary.BigEndian.Uint64(in[:])^uint64(t))
			copy(in[semiblock:], part)
			block.Decrypt(in[:], in[:])
			copy(part, in[semiblock:])
		}
	}
	length := int(binary.BigEndian.Uint32(in[4:semiblock]))
	padding := len(plain) - length
	if binary.BigEndian.Uint32(in[:4]) != initial || padding < 0 || padding >= semiblock || !zero(plain[length:]) {
		clear(plain)
		return nil, ErrIntegrity
	}
	return plain[:length], nil
}

func zero(padding []byte) bool {
	var or byte
	for _, b := range padding {
		or |= b
	}
	return or == 0
}
