package keywrap_test

import (
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/visage-face/visage/internal/keywrap"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// vectors are those of RFC 5649 §6.
var vectors = []struct{ kek, plain, wrapped string }{
	{"5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8", "c37b7e6492584340bed12207808941155068f738",
		"138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a"},
	{"5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8", "466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"},
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		got, err := keywrap.Unwrap(unhex(t, v.kek), unhex(t, v.wrapped))
		if err != nil || !bytes.Equal(got, unhex(t, v.plain)) {
			t.Errorf("%s: got %x, %v", v.wrapped, got, err)
		}
	}
}

// TestDamage alters and cuts what was wrapped, and tries other keys.
func TestDamage(t *testing.T) {
	for _, v := range vectors {
		kek, wrapped := unhex(t, v.kek), unhex(t, v.wrapped)
		for i := range wrapped {
			altered := bytes.Clone(wrapped)
			altered[i] ^= 1 << (i % 8)
			if got, err := keywrap.Unwrap(kek, altered); got != nil || !errors.Is(err, keywrap.ErrIntegrity) {
				t.Errorf("byte %d altered: %x, %v", i, got, err)
			}
		}
		for n := range wrapped {
			if got, err := keywrap.Unwrap(kek, wrapped[:n]); got != nil || !errors.Is(err, keywrap.ErrIntegrity) {
				t.Errorf("the first %d bytes: %x, %v", n, got, err)
			}
		}
		if got, err := keywrap.Unwrap(kek[:16], wrapped); got != nil || !errors.Is(err, keywrap.ErrIntegrity) {
			t.Errorf("another key: %x, %v", got, err)
		}
		if _, err := keywrap.Unwrap(kek[:15], wrapped); err == nil || errors.Is(err, keywrap.ErrIntegrity) {
			t.Errorf("a key of 15 bytes: %v", err)
		}
	}
}

// wrap wraps with an integrity value and a padding of the caller's choice, by the indices of RFC 3394 §2.2.1.
func wrap(t testing.TB, kek, plain []byte, value uint32, length int, padding byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(kek)
	if err != nil {
		t.Fatal(err)
	}
	padded := bytes.Clone(plain)
	for len(padded)%8 != 0 || len(padded) == 0 {
		padded = append(padded, padding)
	}
	var a [16]byte
	binary.BigEndian.PutUint32(a[:], value)
	binary.BigEndian.PutUint32(a[4:], uint32(length))
	n := len(padded) / 8
	if n == 1 {
		copy(a[8:], padded)
		block.Encrypt(a[:], a[:])
		return a[:]
	}
	for j := range 6 {
		for i := range n {
			copy(a[8:], padded[8*i:])
			block.Encrypt(a[:], a[:])
			copy(padded[8*i:], a[8:])
			binary.BigEndian.PutUint64(a[:], binary.BigEndian.Uint64(a[:])^uint64(n*j+i+1))
		}
	}
	return append(bytes.Clone(a[:8]), padded...)
}

// TestIntegrity refuses what was wrapped under the key, but not as the RFC has it.
func TestIntegrity(t *testing.T) {
	kek := bytes.Repeat([]byte{7}, 32)
	for size := 1; size <= 41; size++ {
		plain := bytes.Repeat([]byte{0x5a}, size)
		if got, err := keywrap.Unwrap(kek, wrap(t, kek, plain, 0xa65959a6, size, 0)); err != nil ||
			!bytes.Equal(got, plain) {
			t.Errorf("%d bytes: %x, %v", size, got, err)
		}
		for name, bad := range map[string][]byte{
			"the value of RFC 3394": wrap(t, kek, plain, 0xa6a6a6a6, size, 0),
			"too long":              wrap(t, kek, plain, 0xa65959a6, size+8, 0),
			"too short":             wrap(t, kek, plain, 0xa65959a6, size-8, 0),
			"huge":                  wrap(t, kek, plain, 0xa65959a6, -1, 0),
			"padded with ones":      wrap(t, kek, plain, 0xa65959a6, size, 1),
		} {
			if name == "padded with ones" && size%8 == 0 {
				continue
			}
			if got, err := keywrap.Unwrap(kek, bad); got != nil || !errors.Is(err, keywrap.ErrIntegrity) {
				t.Errorf("%d bytes, %s: %x, %v", size, name, got, err)
			}
		}
	}
}

// FuzzUnwrap holds that what unwraps wraps to the same bytes again.
func FuzzUnwrap(f *testing.F) {
	for _, v := range vectors {
		f.Add(unhex(f, v.kek), unhex(f, v.wrapped))
	}
	f.Fuzz(func(t *testing.T, kek, wrapped []byte) {
		got, err := keywrap.Unwrap(kek, wrapped)
		if err != nil {
			if got != nil {
				t.Fatal("data was returned with an error")
			}
			return
		}
		if again := wrap(t, kek, got, 0xa65959a6, len(got), 0); !bytes.Equal(again, wrapped) {
			t.Errorf("%x wraps to %x, and was %x", got, again, wrapped)
		}
	})
}
