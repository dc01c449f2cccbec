// Package file keeps a wrapping key in a file. It is the simplest protector and the weakest: anyone who copies the file
// together with the data can open the data.
package file

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/internal/local"
)

const what = "root key file"

// Source wraps under the 32 random bytes of a file, which it reads at each call and wipes afterwards. It is safe for
// concurrent use.
type Source struct {
	held
	path string
}

// held embeds local.Key under an unexported name.
type held = local.Key

// New returns a source over the key file at path. The file need not exist yet: see Create. With symbolic links
// resolved, it must lie outside dataDir, because a copy of the data must not contain its key.
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
			"%s %s lies inside the data directory %s: keep it elsewhere, so that a copy of the data does not hold "+
				"its key",
			what, path, dataDir)
	}
	return &Source{path: abs, held: local.NewKey(local.Place{
		Kind: local.File, Name: what + " " + abs, URI: "file:" + abs,
		Repair: "put that file back, from its backup if need be", Read: func() ([]byte, error) { return read(abs) },
	})}, nil
}

// Create makes the key file with fresh random bytes and mode 0600. If the file exists, it is kept and the error wraps
// fs.ErrExist.
func (s *Source) Create() error {
	key := make([]byte, local.KeySize)
	defer clear(key)
	rand.Read(key) // never fails: the runtime ends the process instead
	return local.CreatePrivate(what, s.path, key)
}

// read returns the key, which the caller wipes.
func read(path string) ([]byte, error) {
	key, err := local.ReadPrivate(what, path, local.KeySize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, local.Fail(keysource.ErrUnknown, fs.ErrNotExist,
			"%s %s is missing: restore it from its backup; nothing else opens data that was sealed with it", what, path)
	}
	if err != nil {
		return nil, err
	}
	if len(key) != local.KeySize {
		n := len(key)
		clear(key)
		return nil, local.Fail(keysource.ErrUnknown, nil,
			"%s %s has %d bytes, not %d: it is damaged; restore it from its backup", what, path, n, local.KeySize)
	}
	return key, nil
}

// resolve follows symbolic links as far as the path exists, and keeps the rest unchanged.
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
