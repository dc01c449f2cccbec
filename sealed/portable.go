package sealed

import (
	"errors"
	"fmt"

	"github.com/visage-face/visage/sealed/internal/format"
)

// ErrNotPortable says that bytes are not what SealPortable of the same instance made for the same purpose.
var ErrNotPortable = errors.New("not sealed by this instance for this purpose")

// SealPortable seals a value that its caller takes away and brings back, for a purpose that is bound into it. It opens
// in this instance only, under whatever protectors, and no other instance makes one that opens here. It does not depend
// on the keys of any space. Error: ErrClosed.
func (s *Store) SealPortable(purpose string, plaintext []byte) ([]byte, error) {
	s.root.Hold()
	defer s.root.Release()
	if s.isClosed() {
		return nil, ErrClosed
	}
	return format.SealPortable(s.root.Key(), s.root.Instance, purpose, plaintext), nil
}

// OpenPortable opens what SealPortable made. The caller wipes the plaintext when it is secret. Errors: ErrNotPortable,
// ErrClosed.
func (s *Store) OpenPortable(purpose string, value []byte) (plaintext []byte, err error) {
	s.root.Hold()
	defer s.root.Release()
	if s.isClosed() {
		return nil, ErrClosed
	}
	if plaintext, err = format.OpenPortable(s.root.Key(), s.root.Instance, purpose, value); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotPortable, err)
	}
	return plaintext, nil
}
