// Package format seals values for the disk and opens them, and derives the keys that this takes. It is the only maker
// of what an engine accepts, so nothing reaches an engine that was not sealed here. docs/formats describes every format
// byte by byte, for readers without this code.
//
// Every value begins with its kind, format version and cipher suite. A reader accepts exactly what it knows; there is
// no fallback, and no plaintext form of anything.
package format

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// ErrMalformed says that bytes are not what they must be: wrong kind, unknown version, impossible length.
var ErrMalformed = errors.New("malformed")

// ErrNotAuthentic says that a tag or a commitment does not verify: the bytes were changed, moved, or sealed under
// another key.
var ErrNotAuthentic = errors.New("not authentic")

// ID is 16 bytes that name something: a space or an instance in the clear, a container or a record blinded.
type ID [16]byte

// String returns the id in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MaxID is the upper bound of a container's last page.
var MaxID = ID{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Place is where a value belongs. It is bound into every seal, so that nothing opens anywhere else.
type Place struct {
	Instance  ID
	Space     ID
	Container ID // zero for what belongs to the space as a whole
	Record    ID // a page has its upper bound here
}

// Sealed is a value that may be stored. Only this package makes one.
type Sealed struct{ b []byte }

// Bytes returns the value as it is stored. It must not be changed.
func (s Sealed) Bytes() []byte { return s.b }

// The first bytes of each kind of value.
const (
	kindRecord   = 'V'
	kindPage     = 'P'
	kindNursery  = 'N'
	kindBundle   = 'B'
	kindInstance = 'I'
	kindEpoch    = 'E'
	kindLog      = 'L'
	kindHead     = 'H'
	kindAnchor   = 'A'
	kindPortable = 'X'
	kindFormer   = 'K'
	kindCarried  = 'C'
	kindLease    = 'T'

	version1 = 1 // the format of all of them

	// suiteGCM is HKDF-SHA-256 and AES-256-GCM with a random nonce, as sealing in this package does it. 2 is reserved.
	suiteGCM = 1
)

// headerSize is the length of kind, format, suite and one byte whose meaning depends on the kind.
const headerSize = 4

// header checks the first bytes of a value and returns its fourth byte and the rest.
func header(kind byte, value []byte) (fourth byte, rest []byte, err error) {
	if len(value) < headerSize {
		return 0, nil, fmt.Errorf("%w: %d bytes are too few", ErrMalformed, len(value))
	}
	if value[0] != kind {
		return 0, nil, fmt.Errorf("%w: begins with %#02x, not %q", ErrMalformed, value[0], kind)
	}
	if value[1] != version1 || value[2] != suiteGCM {
		return 0, nil, fmt.Errorf("%w: format %d, suite %d; this version reads format %d, suite %d", ErrMalformed,
			value[1], value[2], version1, suiteGCM)
	}
	return value[3], value[headerSize:], nil
}
