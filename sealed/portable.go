package sealed

import (
	"errors"
	"fmt"

	"github.com/visage-face/visage/sealed/internal/format"
)

// ErrNotPortable says that bytes are not what Portable.Seal of the same instance made for the same purpose.
var ErrNotPortable = errors.New("not sealed by this instance for this purpose")

// Portable is values that a caller takes away and brings back, for a purpose that is bound into them. They open in this
// instance only, under whatever protectors, and no other instance makes one that opens here. They do not depend on the
// keys of any space.
type Portable struct {
	store   *Store
	purpose string
}

// Portable returns the verbs for portable values of a purpose.
func (s *Store) Portable(purpose string) *Portable { return &Portable{s, purpose} }

// Seal seals a value. Error: ErrClosed.
func (p *Portable) Seal(plaintext []byte) ([]byte, error) {
	s := p.store
	defer s.root.Hold()()
	if s.isClosed() {
		return nil, ErrClosed
	}
	return format.SealPortable(s.root.Current(), s.root.Instance, p.purpose, plaintext), nil
}

// Open opens what Seal made. The caller wipes the plaintext when it is secret. Errors: ErrNotPortable, ErrClosed.
func (p *Portable) Open(value []byte) (plaintext []byte, err error) {
	s := p.store
	defer s.root.Hold()()
	if s.isClosed() {
		return nil, ErrClosed
	}
	if plaintext, err = format.OpenPortable(s.root.Of, s.root.Instance, p.purpose, value); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotPortable, err)
	}
	return plaintext, nil
}
