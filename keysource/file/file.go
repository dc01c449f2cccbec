// Package file keeps a wrapping key in a file: the protector that needs nothing else, and the least of them, since
// whoever copies the file together with the data has both.
package file

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/internal/local"
)

const what = "root key file"

// Source wraps under the 32 random bytes of a file, which it reads anew at each call and wipes after it. It is safe for
// concurrent use.
type Source struct {
	path string
}

// New returns a source over the key file at path. The file need not be there yet: see Create. It must lie outside of
// dataDir, because a copy of the data must not hold its key. Symbolic links are followed before that is decided.
func New(path, dataDir string) (*Source, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, local.Fail(keysource.ErrUnknown, err, "%s %s: %v", what, path, err)
	}
	data, err := filepath.Abs(dataDir)
	if err != nil {
		return nil, local.Fail(keysource.ErrUnknown, err, "data directory %s: %v", dataDir, err)
	}
	if within(resolve(abs), resolve(data)) {
		return nil, local.Fail(keysource.ErrDenied, nil,
			"%s %s lies inside the data directory %s: keep it elsewhere, so that a copy of the data does not hold its key",
			what, path, dataDir)
	}
	return &Source{path: abs}, nil
}

// Create makes the key file with fresh random bytes and mode 0600. It never replaces one: errors.Is(err, fs.ErrExist)
// then.
func (s *Source) Create() error {
	key := make([]byte, local.KeySize)
	defer clear(key)
	rand.Read(key) // never fails: the runtime ends the process instead
	return local.CreatePrivate(what, s.path, key)
}

// Wrap implements keysource.Source.
func (s *Source) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	key, ref, err := s.read(ctx)
	if err != nil {
		return nil, keysource.Ref{}, err
	}
	defer clear(key)
	blob, err := local.Wrap(local.File, key, nil, ref.Version, inner)
	return blob, ref, err
}

// Unwrap implements keysource.Source. It goes by ref's version, the fingerprint of the key: the file may have moved
// since.
func (s *Source) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	key, have, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	if ref.Version != have.Version {
		return nil, local.Fail(keysource.ErrWrong, nil,
			"%s %s holds key %s, but the data was sealed with key %s: put that file back, from its backup if need be", what,
			s.path, have.Version, ref.Version)
	}
	w, err := local.Parse(local.File, blob)
	if err != nil {
		return nil, err
	}
	// The fingerprint has matched already, so another key cannot be what is wrong.
	return w.Open(key, ref.Version,
		what+" "+s.path+" holds the right key, but the wrapped key in the data was changed: restore the data directory from a backup")
}

// Describe implements keysource.Source.
func (s *Source) Describe(ctx context.Context, ref keysource.Ref) (keysource.Description, error) {
	key, have, err := s.read(ctx)
	if err != nil {
		return keysource.Description{}, err
	}
	clear(key)
	if ref != (keysource.Ref{}) && ref.Version != have.Version {
		return keysource.Description{}, local.Fail(keysource.ErrWrong, nil, "%s %s holds key %s, not key %s", what, s.path,
			have.Version, ref.Version)
	}
	return keysource.Description{Ref: have, Algorithm: local.Algorithm, Enabled: true}, nil
}

// read returns the key, which the caller wipes, and its name.
func (s *Source) read(ctx context.Context) ([]byte, keysource.Ref, error) {
	if ctx.Err() != nil {
		return nil, keysource.Ref{}, context.Cause(ctx)
	}
	key, err := local.ReadPrivate(what, s.path, local.KeySize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, keysource.Ref{}, local.Fail(keysource.ErrUnknown, fs.ErrNotExist,
			"%s %s is missing: restore it from its backup; nothing else opens data that was sealed with it", what, s.path)
	}
	if err != nil {
		return nil, keysource.Ref{}, err
	}
	if len(key) != local.KeySize {
		n := len(key)
		clear(key)
		return nil, keysource.Ref{}, local.Fail(keysource.ErrUnknown, nil,
			"%s %s has %d bytes, not %d: it is damaged; restore it from its backup", what, s.path, n, local.KeySize)
	}
	version, err := local.Fingerprint(key)
	if err != nil {
		clear(key)
		return nil, keysource.Ref{}, err
	}
	return key, keysource.Ref{URI: "file:" + s.path, Version: version}, nil
}

// resolve follows symbolic links as far as the path exists, and keeps the rest as it is.
func resolve(path string) string {
	for at, rest := path, ""; ; at, rest = filepath.Dir(at), filepath.Join(filepath.Base(at), rest) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest)
		}
		if at == filepath.Dir(at) {
			return path
		}
	}
}

// within reports whether path is dir or lies below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
