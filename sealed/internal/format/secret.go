package format

import (
	"bytes"
	"crypto/rand"

	"github.com/visage-face/visage/internal/arena"
)

// NewSecret makes a random key. It is made where the collector erases what it frees, in builds that can.
func NewSecret(version uint64) (s Secret) {
	arena.Do(func() {
		s = Secret{Key: make([]byte, KeySize), Version: version}
		rand.Read(s.Key) // never fails: the runtime ends the process instead
	})
	return s
}

// Clone returns a copy that shares no memory with s.
func (s Secret) Clone() (c Secret) {
	arena.Do(func() { c = Secret{Key: bytes.Clone(s.Key), Version: s.Version} })
	return c
}
