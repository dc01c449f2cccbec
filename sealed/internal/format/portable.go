package format

import (
	"encoding/binary"
	"fmt"

	"github.com/visage-face/visage/internal/arena"
)

// A portable value:
//
//	'X' format suite root | salt 24 | nonce 12 | value | tag 16
//
// It leaves the store with its caller, and opens in the same instance only. Its key comes from the instance
// root, its purpose is bound into it.

const portableFixed = headerSize + saltSize

// SealPortable seals a value for a purpose.
func SealPortable(root InstanceKey, instance ID, purpose string, plaintext []byte) []byte {
	b := []byte{kindPortable, version1, suiteGCM, root.mark()}
	arena.Do(func() {
		key := expand(root.Key, labelPortable, instance[:], []byte(purpose))
		b = append(b, salted(key, plaintext)...)
		once := expand(key, labelPortable, b)
		b = seal(b, once, plaintext, portableContext(instance, purpose, b))
		clear(once)
		clear(key)
	})
	return b
}

// OpenPortable opens what SealPortable made for the same purpose.
func OpenPortable(keys InstanceKeys, instance ID, purpose string, value []byte) (plaintext []byte, err error) {
	mark, _, err := header(kindPortable, value)
	if err != nil {
		return nil, err
	}
	if len(value) < portableFixed+sealSize {
		return nil, fmt.Errorf("%w: a portable value cannot have %d bytes", ErrMalformed, len(value))
	}
	root, err := keys.marked(mark)
	if err != nil {
		return nil, err
	}
	fixed := value[:portableFixed]
	arena.Do(func() {
		key := expand(root, labelPortable, instance[:], []byte(purpose))
		once := expand(key, labelPortable, fixed)
		plaintext, err = open(nil, once, value[portableFixed:], portableContext(instance, purpose, fixed))
		clear(once)
		clear(key)
	})
	return plaintext, err
}

func portableContext(instance ID, purpose string, fixed []byte) []byte {
	return Context(labelPortable, fixed, instance[:], []byte(purpose))
}

// BackupKey derives the key of the code at the end of a backup stream.
func BackupKey(root []byte, instance ID, content string) []byte {
	return expand(root, labelBackup, instance[:], []byte(content))
}

// Restored accepts a row's value from a backup for a row of the given kind: it must look like what this package makes
// for such rows. Whether it is authentic shows when it is opened, as with every row.
func Restored(rowKind byte, value []byte) (Sealed, error) {
	kind := rowKind
	switch {
	case rowKind == 'R':
		kind = kindRecord
	case rowKind > '0' && rowKind <= '9': // the level of a page
		kind = kindPage
	}
	if _, _, err := header(kind, value); err != nil {
		return Sealed{}, err
	}
	return Sealed{append([]byte(nil), value...)}, nil
}

// RecordVersion returns the version that a record's row carries.
func RecordVersion(value []byte) (uint64, error) {
	_, rest, err := header(kindRecord, value)
	if err != nil {
		return 0, err
	}
	if len(rest) < 8 {
		return 0, fmt.Errorf("%w: %d bytes are too few for a record", ErrMalformed, len(value))
	}
	return binary.BigEndian.Uint64(rest), nil
}

// RecordSalt returns the salt that a record's row carries, which its nursery row has too; nil when it is too short.
func RecordSalt(value []byte) []byte {
	if len(value) < headerSize+8+saltSize {
		return nil
	}
	return value[headerSize+8:][:saltSize]
}
