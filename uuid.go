package visage

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
)

// UUID is an identifier of RFC 9562. It is stored as its 16 bytes.
type UUID [16]byte

// NewUUID makes a random UUID (RFC 9562 §5.4, version 4).
func NewUUID() UUID {
	var id UUID
	rand.Read(id[:]) // never fails: the runtime ends the process instead
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// String returns the UUID in lower case.
func (id UUID) String() string {
	var text [36]byte
	hex.Encode(text[:8], id[:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:], id[10:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}

var errNotUUID = errors.New("not a lower-case UUID")

// ParseUUID parses the output of String, for UUIDs of any version, and nothing else: ids are case-sensitive.
func ParseUUID(text string) (UUID, error) {
	var id UUID
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return UUID{}, errNotUUID
	}
	digits := text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:]
	if _, err := hex.Decode(id[:], []byte(digits)); err != nil || id.String() != text {
		return UUID{}, errNotUUID
	}
	return id, nil
}

// IsUUID reports whether ParseUUID would read a text.
func IsUUID(text string) bool {
	_, err := ParseUUID(text)
	return err == nil
}

// FoldUUID returns a UUID in lower case, the form in which ids are stored and answered (RFC 9562 §4): some clients send
// upper case. Text that is no UUID is returned unchanged.
func FoldUUID(text string) string {
	if lower := strings.ToLower(text); IsUUID(lower) {
		return lower
	}
	return text
}
