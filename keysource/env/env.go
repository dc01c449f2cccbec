// Package env reads a wrapping key from an environment variable, where container platforms put secrets.
package env

import (
	"encoding/base64"
	"encoding/hex"
	"os"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/internal/local"
)

// held embeds local.Key under an unexported name.
type held = local.Key

// Source wraps under the 32 bytes that an environment variable holds in base64 (44 characters) or hexadecimal (64). It
// reads the variable at each call and is safe for concurrent use.
type Source struct {
	held
}

// New returns a source over the environment variable name, which need not be set yet.
func New(name string) *Source {
	return &Source{local.NewKey(local.Place{
		Kind: local.Env, Name: "environment variable " + name, URI: "env:" + name, Repair: "set it to that key",
		Read: func() ([]byte, error) { return read(name) },
	})}
}

// read returns the key, which the caller wipes. The variable itself remains in the environment.
func read(name string) ([]byte, error) {
	text, set := os.LookupEnv(name)
	if !set || text == "" {
		return nil, local.Fail(keysource.ErrUnknown, nil,
			"environment variable %s is not set: set it to the 32 bytes of the root key, in base64 or hexadecimal",
			name)
	}
	key := decode(text)
	if key == nil {
		// Only the length is reported: the text is a secret, even if it is broken.
		return nil, local.Fail(keysource.ErrUnknown, nil,
			"environment variable %s is not 32 bytes in base64 (44 characters) or hexadecimal (64 characters); it "+
				"has %d characters: \"head -c 32 /dev/urandom | base64\" makes a key",
			name, len(text))
	}
	return key, nil
}

// decode returns 32 bytes, or nil. The two forms differ in length, so the choice is certain.
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
