package sourcetest

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/visage-face/visage/keysource"
)

// Fake is a source in memory that behaves like a real one: with another key or an altered blob, Unwrap fails. It keeps
// the secrets itself; its blobs are only tickets for them. Fail makes it fail. It is safe for concurrent use.
type Fake struct {
	ref keysource.Ref
	key [32]byte

	mu   sync.Mutex
	kept map[string][]byte // by ticket
	fail error
}

// NewFake returns a source over a new random key with the given name.
func NewFake(name string) *Fake {
	f := &Fake{ref: keysource.Ref{URI: "fake:" + name, Version: "1"}, kept: map[string][]byte{}}
	rand.Read(f.key[:]) // never fails: the runtime ends the process instead
	return f
}

// Fail makes every later call return err, which should have one of keysource's classes; nil makes it work again.
func (f *Fake) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

// Wrap implements keysource.Source.
func (f *Fake) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(ctx); err != nil {
		return nil, keysource.Ref{}, err
	}
	ticket := make([]byte, 16, 16+sha256.Size)
	rand.Read(ticket)
	ticket = f.sign(ticket)
	f.kept[string(ticket)] = append([]byte(nil), inner...)
	return ticket, f.ref, nil
}

// Unwrap implements keysource.Source.
func (f *Fake) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(ctx); err != nil {
		return nil, err
	}
	inner, found := f.kept[string(blob)]
	if !found || ref != f.ref {
		return nil, fmt.Errorf("fake key %s: %w", f.ref.URI, keysource.ErrWrong)
	}
	return append([]byte(nil), inner...), nil
}

// Describe implements keysource.Source.
func (f *Fake) Describe(ctx context.Context, ref keysource.Ref) (keysource.Description, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ready(ctx); err != nil {
		return keysource.Description{}, err
	}
	if ref != (keysource.Ref{}) && ref != f.ref {
		return keysource.Description{}, fmt.Errorf("fake key %s: %w", f.ref.URI, keysource.ErrWrong)
	}
	return keysource.Description{Ref: f.ref, Algorithm: "fake", Enabled: true}, nil
}

func (f *Fake) ready(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return f.fail
}

func (f *Fake) sign(ticket []byte) []byte {
	mac := hmac.New(sha256.New, f.key[:])
	mac.Write(ticket)
	return mac.Sum(ticket)
}
