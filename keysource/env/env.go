// Package env takes a wrapping key from an environment variable, where container platforms put their secrets.
package env

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"os"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/internal/local"
)

// Source wraps under the 32 bytes that an environment variable holds in base64 (44 characters) or hexadecimal (64). It
// reads the variable anew at each call and is safe for concurrent use.
type Source struct {
	name string
}

// New returns a source over the environment variable name, which need not be set yet.
func New(name string) *Source { return &Source{name: name} }

// Wrap implements keysource.Source.
func (s *Source) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	key, ref, err := s.read(ctx)
	if err != nil {
		return nil, keysource.Ref{}, err
	}
	defer clear(key)
	blob, err := local.Wrap(local.Env, key, nil, ref.Version, inner)
	return blob, ref, err
}

// Unwrap implements keysource.Source. It goes by ref's version, the fingerprint of the key: the variable may have
// another name now.
func (s *Source) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	key, have, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	if ref.Version != have.Version {
		return nil, local.Fail(keysource.ErrWrong, nil,
			"environment variable %s holds key %s, but the data was sealed with key %s: set it to that key", s.name,
			have.Version, ref.Version)
	}
	w, err := local.Parse(local.Env, blob)
	if err != nil {
		return nil, err
	}
	// The fingerprint has matched already, so another key cannot be what is wrong.
	return w.Open(key, ref.Version,
		"environment variable "+s.name+" holds the right key, but the wrapped key in the data was changed: restore the data directory from a backup")
}

// Describe implements keysource.Source.
func (s *Source) Describe(ctx context.Context, ref keysource.Ref) (keysource.Description, error) {
	key, have, err := s.read(ctx)
	if err != nil {
		return keysource.Description{}, err
	}
	clear(key)
	if ref != (keysource.Ref{}) && ref.Version != have.Version {
		return keysource.Description{}, local.Fail(keysource.ErrWrong, nil,
			"environment variable %s holds key %s, not key %s", s.name, have.Version, ref.Version)
	}
	return keysource.Description{Ref: have, Algorithm: local.Algorithm, Enabled: true}, nil
}

// read returns the key, which the caller wipes, and its name. The variable itself stays where the platform put it.
func (s *Source) read(ctx context.Context) ([]byte, keysource.Ref, error) {
	if ctx.Err() != nil {
		return nil, keysource.Ref{}, context.Cause(ctx)
	}
	text, set := os.LookupEnv(s.name)
	if !set || text == "" {
		return nil, keysource.Ref{}, local.Fail(keysource.ErrUnknown, nil,
			"environment variable %s is not set: set it to the 32 bytes of the root key, in base64 or hexadecimal", s.name)
	}
	key := decode(text)
	if key == nil {
		// The length alone is said: the text is a secret, if a broken one.
		return nil, keysource.Ref{}, local.Fail(keysource.ErrUnknown, nil,
			"environment variable %s is not 32 bytes in base64 (44 characters) or hexadecimal (64 characters); it has %d characters: \"head -c 32 /dev/urandom | base64\" makes a key",
			s.name, len(text))
	}
	version, err := local.Fingerprint(key)
	if err != nil {
		clear(key)
		return nil, keysource.Ref{}, err
	}
	return key, keysource.Ref{URI: "env:" + s.name, Version: version}, nil
}

// decode returns 32 bytes, or nil. The two forms differ in length, so nothing is guessed.
func decode(text string) []byte {
	switch len(text) {
	case hex.EncodedLen(local.KeySize):
		if b, err := hex.DecodeString(text); err == nil {
			return b
		}
	case base64.StdEncoding.EncodedLen(local.KeySize):
		if b, err := base64.StdEncoding.Strict().DecodeString(text); err == nil && len(b) == local.KeySize {
			return b
		}
	}
	return nil
}
