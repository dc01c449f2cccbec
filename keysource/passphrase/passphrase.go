// Package passphrase derives a wrapping key from a passphrase, which people can remember or keep in a safe.
package passphrase

import (
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/internal/local"
)

const (
	// iterations is the cost of one guess with PBKDF2-HMAC-SHA-256: OWASP's figure for it since 2023, about a fifth of
	// a second here. It is stored in each wrapped form, so it can be raised without rewriting existing ones.
	iterations = 600_000
	// Bounds of the iterations in a wrapped form: fewer would be a downgrade, more a denial of service.
	minIterations, maxIterations = 600_000, 20_000_000

	saltSize   = 16 // NIST SP 800-132 §5.1: at least 128 bits
	paramsSize = 4 + saltSize

	// minLength is the minimal length of a new passphrase in bytes. Older data may be wrapped under a shorter one.
	minLength = 12
	maxLength = 1024
)

// Source wraps under a key that PBKDF2 derives from a passphrase, with a salt of its own for each wrapped form. It
// reads the passphrase at each call and is safe for concurrent use. A call takes about a fifth of a second, by design.
type Source struct {
	uri  string
	from string // where the passphrase comes from, in words
	read func() ([]byte, error)
}

// FromEnv returns a source over the passphrase in the environment variable name.
func FromEnv(name string) *Source {
	return &Source{uri: "passphrase:env:" + name, from: "environment variable " + name, read: func() ([]byte, error) {
		text, set := os.LookupEnv(name)
		if !set || text == "" {
			return nil, local.Fail(keysource.ErrUnknown, nil,
				"environment variable %s is not set: set it to the passphrase of the root key", name)
		}
		return []byte(text), nil
	}}
}

// FromFile returns a source over the passphrase that is the first line of the file at path. The file is refused when
// others can read it.
func FromFile(path string) *Source {
	return &Source{uri: "passphrase:file:" + path, from: "file " + path, read: func() ([]byte, error) {
		b, err := local.ReadPrivate("passphrase file", path, maxLength+2)
		if err != nil {
			return nil, err
		}
		line, _, _ := bytes.Cut(b, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) == 0 {
			clear(b)
			return nil, local.Fail(keysource.ErrUnknown, nil,
				"passphrase file %s is empty: its first line must be the passphrase of the root key", path)
		}
		return line, nil
	}}
}

// Wrap implements keysource.Source.
func (s *Source) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	words, err := s.words(ctx)
	if err != nil {
		return nil, keysource.Ref{}, err
	}
	defer clear(words)
	if len(words) < minLength {
		return nil, keysource.Ref{}, local.Fail(keysource.ErrUnknown, nil,
			"the passphrase has %d characters; a new one needs at least %d (five random words are a good one)",
			len(words),
			minLength)
	}
	const fewest = 5 // different characters
	if local.Distinct(words) < fewest {
		return nil, keysource.Ref{}, local.Fail(keysource.ErrUnknown, nil,
			"the passphrase has fewer than %d different characters, so it can be guessed; five random words are a "+
				"good one", fewest)
	}
	params := binary.BigEndian.AppendUint32(nil, iterations)
	params = append(params, make([]byte, saltSize)...)
	rand.Read(params[4:]) // never fails: the runtime ends the process instead
	key, err := derive(words, params)
	if err != nil {
		return nil, keysource.Ref{}, err
	}
	defer clear(key)
	blob, err := local.Wrap(local.Passphrase, key, params, "", inner)
	return blob, keysource.Ref{URI: s.uri}, err
}

// Unwrap implements keysource.Source. ref's URI is the place of the passphrase when it wrapped; the passphrase may now
// be in another place.
func (s *Source) Unwrap(ctx context.Context, _ keysource.Ref, blob []byte) ([]byte, error) {
	w, err := local.Parse(local.Passphrase, blob)
	if err != nil {
		return nil, err
	}
	words, err := s.words(ctx)
	if err != nil {
		return nil, err
	}
	defer clear(words)
	key, err := derive(words, w.Params)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return w.Open(key, "", "the passphrase from "+s.from+
		" does not open this data: check it for typing errors, and that it is the one this instance was made with")
}

// Describe implements keysource.Source. Only Unwrap can check whether the passphrase is correct.
func (s *Source) Describe(ctx context.Context, ref keysource.Ref) (keysource.Description, error) {
	words, err := s.words(ctx)
	if err != nil {
		return keysource.Description{}, err
	}
	clear(words)
	if ref.Version != "" {
		return keysource.Description{},
			local.Fail(keysource.ErrWrong, nil, "a passphrase has no version, so it is not %q",
				ref.Version)
	}
	return keysource.Description{Ref: keysource.Ref{URI: s.uri}, Algorithm: "PBKDF2-SHA256+" + local.Algorithm,
		Enabled: true}, nil
}

func (s *Source) words(ctx context.Context) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	words, err := s.read()
	if err != nil {
		return nil, err
	}
	if len(words) > maxLength {
		clear(words)
		return nil, local.Fail(keysource.ErrUnknown, nil, "the passphrase is longer than %d bytes", maxLength)
	}
	return words, nil
}

// derive derives the key of a wrapped form with the given params.
func derive(words, params []byte) ([]byte, error) {
	if len(params) != paramsSize {
		return nil, local.Fail(keysource.ErrWrong, nil,
			"the wrapped key is damaged: %d bytes of passphrase parameters, not %d", len(params), paramsSize)
	}
	n := binary.BigEndian.Uint32(params)
	if n < minIterations || n > maxIterations {
		return nil, local.Fail(keysource.ErrWrong, nil,
			"the wrapped key is damaged: it asks for %d iterations; between %d and %d are possible",
			n, minIterations, maxIterations)
	}
	// The library takes a string: a copy of the passphrase that cannot be wiped and stays in memory until it is
	// collected.
	key, err := pbkdf2.Key(sha256.New, string(words), params[4:], int(n), local.KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive key from passphrase: %w", err)
	}
	return key, nil
}
