package local

import (
	"context"

	"github.com/visage-face/visage/keysource"
)

// Place is where a random key of KeySize bytes is stored in the clear.
type Place struct {
	Kind   Kind
	Name   string // in sentences: "environment variable X"
	URI    string // in a keysource.Ref
	Repair string // what to do when it contains another key than the one that sealed the data
	// returns KeySize bytes, which the caller wipes, or an error of one of keysource's classes
	Read func() ([]byte, error)
}

// Key is a source over the key of a place. It reads the key at each call and wipes it afterwards. It is safe for
// concurrent use if the place's Read is.
type Key struct {
	at Place
}

// NewKey returns a source over the key at a place.
func NewKey(at Place) Key { return Key{at} }

// Wrap implements keysource.Source.
func (k Key) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	key, ref, err := k.read(ctx)
	if err != nil {
		return nil, keysource.Ref{}, err
	}
	defer clear(key)
	blob, err := Wrap(k.at.Kind, key, nil, ref.Version, inner)
	return blob, ref, err
}

// Unwrap implements keysource.Source. The key must have the fingerprint that is ref's version; the place may have
// another name than ref's.
func (k Key) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	key, have, err := k.read(ctx)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	if ref.Version != have.Version {
		return nil, Fail(keysource.ErrWrong, nil, "%s holds key %s, but the data was sealed with key %s: %s", k.at.Name,
			have.Version, ref.Version, k.at.Repair)
	}
	w, err := Parse(k.at.Kind, blob)
	if err != nil {
		return nil, err
	}
	// The fingerprint has matched, so the key is the right one and the wrapped form was changed.
	return w.Open(key, ref.Version,
		k.at.Name+
			" holds the right key, but the wrapped key in the data was changed: restore the data directory from a "+
			"backup")
}

// Describe implements keysource.Source.
func (k Key) Describe(ctx context.Context, ref keysource.Ref) (keysource.Description, error) {
	key, have, err := k.read(ctx)
	if err != nil {
		return keysource.Description{}, err
	}
	clear(key)
	if ref != (keysource.Ref{}) && ref.Version != have.Version {
		return keysource.Description{},
			Fail(keysource.ErrWrong, nil, "%s holds key %s, not key %s", k.at.Name, have.Version,
				ref.Version)
	}
	return keysource.Description{Ref: have, Algorithm: Algorithm, Enabled: true}, nil
}

// read returns the key, which the caller wipes, and its name.
func (k Key) read(ctx context.Context) ([]byte, keysource.Ref, error) {
	if ctx.Err() != nil {
		return nil, keysource.Ref{}, context.Cause(ctx)
	}
	key, err := k.at.Read()
	if err != nil {
		return nil, keysource.Ref{}, err
	}
	if why := Degenerate(key); why != "" {
		clear(key)
		return nil, keysource.Ref{}, Fail(keysource.ErrDenied, nil,
			"%s holds no random key: it %s, so it can be guessed; make one with \"head -c 32 /dev/urandom\"",
			k.at.Name, why)
	}
	version, err := Fingerprint(key)
	if err != nil {
		clear(key)
		return nil, keysource.Ref{}, err
	}
	return key, keysource.Ref{URI: k.at.URI, Version: version}, nil
}
