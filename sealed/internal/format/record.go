package format

import (
	"encoding/binary"
	"fmt"

	"github.com/visage-face/visage/internal/arena"
)

// A record:
//
//	'V' format suite schema | version u64 | salt 24 | nonce 12 | ciphertext | tag 16
//
// Its key is HKDF-Expand(record secret; schema, id, version, salt) and seals nothing else.

// RecordOverhead is what sealing adds to a record's plaintext, in bytes.
const RecordOverhead = headerSize + 8 + saltSize + sealSize

// Secret is what a key page or a nursery row holds for one record.
type Secret struct {
	Key     []byte // KeySize bytes
	Version uint64 // of the record that is current; never zero
}

// Salt makes the salt of one version of a record, which its nursery row shares: the keys that are derived with it come
// from different secrets. hedge is the space's hedging key.
func Salt(hedge []byte, at Place, secret Secret, plaintext []byte) (salt []byte) {
	arena.Do(func() { salt = salted(hedge, at.Record[:], u64(secret.Version), secret.Key, plaintext) })
	return salt
}

// SealRecord seals a record. schema is the version of its encoding; salt is Salt's for this plaintext.
func SealRecord(at Place, schema byte, secret Secret, salt, plaintext []byte) Sealed {
	b := make([]byte, 0, RecordOverhead+len(plaintext))
	b = append(b, kindRecord, version1, suiteGCM, schema)
	b = binary.BigEndian.AppendUint64(b, secret.Version)
	arena.Do(func() {
		b = append(b, salt...)
		key := recordKey(secret.Key, schema, at, secret.Version, salt)
		b = seal(b, key, plaintext, recordContext(schema, at, secret.Version, salt))
		clear(key)
	})
	return Sealed{b}
}

// OpenRecord appends the plaintext of a record to dst and returns the schema it was sealed with. The record must be the
// version that its secret names: an older copy does not open.
func OpenRecord(dst []byte, at Place, secret Secret, value []byte) (plaintext []byte, schema byte, err error) {
	schema, rest, err := header(kindRecord, value)
	if err != nil {
		return nil, 0, err
	}
	if len(rest) < 8+saltSize+sealSize {
		return nil, 0, fmt.Errorf("%w: %d bytes are too few for a record", ErrMalformed, len(value))
	}
	if v := binary.BigEndian.Uint64(rest); v != secret.Version {
		return nil, 0, fmt.Errorf("%w: the row has version %d, its secret version %d", ErrNotAuthentic, v,
			secret.Version)
	}
	salt, sealed := rest[8:8+saltSize], rest[8+saltSize:]
	arena.Do(func() {
		key := recordKey(secret.Key, schema, at, secret.Version, salt)
		plaintext, err = open(dst, key, sealed, recordContext(schema, at, secret.Version, salt))
		clear(key)
	})
	return plaintext, schema, err
}

func recordKey(secret []byte, schema byte, at Place, version uint64, salt []byte) []byte {
	return expand(secret, labelRecord, []byte{schema}, at.Record[:], u64(version), salt)
}

// recordContext binds a record to everything about its place. Columns that a later engine stores in clear beside it
// belong here too.
func recordContext(schema byte, at Place, version uint64, salt []byte) []byte {
	return Context(labelRecord, []byte{kindRecord, version1, suiteGCM, schema}, at.Instance[:], at.Space[:],
		at.Container[:], at.Record[:],
		u64(version), salt)
}
