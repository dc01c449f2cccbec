package face

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
)

// uuid is the id of a face, a person, or an incarnation of a collection.
type uuid [16]byte

// newUUID makes a random UUID (RFC 9562, version 4).
func newUUID() uuid {
	var u uuid
	// Since Go 1.24 Read never fails: it ends the program when the system has no randomness.
	_, _ = rand.Read(u[:])
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}

// String returns the id as clients see it, in lower case.
func (u uuid) String() string {
	var text [36]byte
	hex.Encode(text[:8], u[:4])
	hex.Encode(text[9:13], u[4:6])
	hex.Encode(text[14:18], u[6:8])
	hex.Encode(text[19:23], u[8:10])
	hex.Encode(text[24:], u[10:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}

var errNotUUID = errors.New("not a lower-case UUID")

// parseUUID reads what String wrote, and nothing else: ids are case-sensitive.
func parseUUID(s string) (uuid, error) {
	var u uuid
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return uuid{}, errNotUUID
	}
	if _, err := hex.Decode(u[:], []byte(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:])); err != nil || u.String() != s {
		return uuid{}, errNotUUID
	}
	return u, nil
}

// The id of a detected face tells in five of its 122 random bits the hour in which the face expires, modulo 32. At most
// 25 such hours are alive at any moment, so these bits say which container the face is in, without a pointer beside it
// that would have to be swept too. They tell nobody anything: whoever has the id asked for the time to live.
const hourBits = 0x1f

// newFaceID makes the id of a face that expires in that hour (counted from 1970).
func newFaceID(hour int64) uuid {
	u := newUUID()
	u[15] = u[15]&^hourBits | byte(hour)&hourBits
	return u
}

// hourOf returns the hour in which a face of that id expires, if it is alive in the hour now.
func hourOf(u uuid, now int64) int64 { return now + (int64(u[15]&hourBits)-now)&hourBits }
