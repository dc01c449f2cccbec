package keysource_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"log"

	"github.com/visage-face/visage/keysource"
)

// box is a key source: an AES key in memory that can be switched off.
type box struct {
	ref  keysource.Ref
	aead cipher.AEAD
	off  bool
}

func newBox(name string, key []byte) (*box, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &box{ref: keysource.Ref{URI: "box:" + name}, aead: aead}, err
}

// ready returns an error of the right class: a key that is switched off is certainly denied. An ended context has its
// own cause.
func (b *box) ready(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if b.off {
		return &keysource.Error{
			Class: keysource.ErrDenied, Reason: keysource.Disabled, Text: "the box is off; switch it on",
		}
	}
	return nil
}

// Wrap implements keysource.Source.
func (b *box) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	if err := b.ready(ctx); err != nil {
		return nil, keysource.Ref{}, err
	}
	return b.aead.Seal(nil, nil, inner, []byte(b.ref.URI)), b.ref, nil
}

// Unwrap implements keysource.Source. A blob that does not open is ErrWrong, not ErrDenied: the key was not revoked.
func (b *box) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	if err := b.ready(ctx); err != nil {
		return nil, err
	}
	inner, err := b.aead.Open(nil, nil, blob, []byte(ref.URI))
	if err != nil {
		return nil, &keysource.Error{Class: keysource.ErrWrong, Text: "wrapped by another key, or changed since"}
	}
	return inner, nil
}

// Describe implements keysource.Source. It also describes a key that is off, with Enabled false.
func (b *box) Describe(ctx context.Context, ref keysource.Ref) (keysource.Description, error) {
	if ctx.Err() != nil {
		return keysource.Description{}, context.Cause(ctx)
	}
	return keysource.Description{Ref: b.ref, Algorithm: "A256GCM", Enabled: !b.off}, nil
}

// Write a key source, wrap a data key with it, and distinguish a key that is switched off from a wrong one.
// sourcetest.Run checks that a source keeps the contract of Source; it tests this one as well.
func Example() {
	ctx := context.Background()
	source, err := newBox("mine", bytes.Repeat([]byte("k3y!"), 8))
	if err != nil {
		log.Fatal(err)
	}
	dataKey := []byte("32 bytes that encrypt some data.")
	blob, ref, err := source.Wrap(ctx, dataKey)
	if err != nil {
		log.Fatal(err)
	}
	again, err := source.Unwrap(ctx, ref, blob)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ref.URI, "gives it back:", bytes.Equal(dataKey, again))

	// Programs decide by the class, people read the sentence.
	blob[0] ^= 1
	_, err = source.Unwrap(ctx, ref, blob)
	fmt.Println(errors.Is(err, keysource.ErrWrong), err)

	source.off = true
	_, err = source.Unwrap(ctx, ref, blob)
	fmt.Println(errors.Is(err, keysource.ErrDenied), err)
	// Output:
	// box:mine gives it back: true
	// true wrapped by another key, or changed since: the key does not open this
	// true the box is off; switch it on: the key source refuses
}
