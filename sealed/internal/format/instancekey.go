package format

import (
	"encoding/binary"
	"fmt"

	"github.com/visage-face/visage/internal/arena"
)

// What the instance root key seals carries the version of that key: its fourth byte is the version less one. Values of
// a root that was never rotated have a zero there.
//
// Two more kinds of values belong to a rotation:
//
//	former  'K' format suite root | salt 24 | nonce 12 | root key of an earlier version 32 | tag 16
//	carried 'C' format suite root | epoch u32 | salt 24 | nonce 12 | epoch value 'E' … | tag 16
//
// An epoch key is sealed under the data key too, which a rotation does not have. So its value is sealed once more as it
// is, under the new version, and never twice: the next rotation takes the outer seal off first.

// InstanceKey is one version of the instance root key.
type InstanceKey struct {
	Version uint32 // from 1 to MaxVersion
	Key     []byte
}

// MaxVersion is how many versions the root key of an instance can have.
const MaxVersion = 256

func (k InstanceKey) mark() byte {
	if k.Version < 1 || k.Version > MaxVersion {
		panic(fmt.Sprintf("format: the root key cannot have version %d", k.Version))
	}
	return byte(k.Version - 1)
}

// InstanceKeys returns the root key of a version; nil: there is none. An error says that there may be one, which cannot
// be used now.
type InstanceKeys func(version uint32) ([]byte, error)

// marked returns the key that a value's mark names.
func (keys InstanceKeys) marked(mark byte) ([]byte, error) {
	version := uint32(mark) + 1
	if key, err := keys(version); key != nil || err != nil {
		return key, err
	}
	return nil, fmt.Errorf("%w: it is sealed under version %d of the root key, which is not known here", ErrMalformed,
		version)
}

// RootVersion returns the version of the root key that a value is sealed under. The value must be of a kind that has
// one.
func RootVersion(value []byte) (uint32, error) {
	if len(value) < headerSize {
		return 0, fmt.Errorf("%w: %d bytes are too few", ErrMalformed, len(value))
	}
	return uint32(value[3]) + 1, nil
}

// SealFormer seals the root key of an earlier version under the current one.
func SealFormer(root InstanceKey, instance ID, former InstanceKey) []byte {
	b := []byte{kindFormer, version1, suiteGCM, root.mark()}
	arena.Do(func() {
		store := expand(root.Key, labelFormer, instance[:])
		b = append(b, salted(store, u32(former.Version), former.Key)...)
		key := expand(store, labelFormer, b)
		b = seal(b, key, former.Key, Context(labelFormer, b, instance[:], u32(former.Version)))
		clear(key)
		clear(store)
	})
	return b
}

const formerSize = headerSize + saltSize + sealSize + KeySize

// OpenFormer opens the root key of an earlier version into dst, which has KeySize bytes.
func OpenFormer(dst []byte, root InstanceKey, instance ID, version uint32, value []byte) error {
	mark, _, err := header(kindFormer, value)
	if err != nil {
		return err
	}
	if len(value) != formerSize || len(dst) != KeySize {
		return fmt.Errorf("%w: a former root key cannot have %d bytes", ErrMalformed, len(value))
	}
	if mark != root.mark() {
		return fmt.Errorf("%w: it is sealed under another version of the root key", ErrNotAuthentic)
	}
	fixed := value[:headerSize+saltSize]
	arena.Do(func() {
		store := expand(root.Key, labelFormer, instance[:])
		key := expand(store, labelFormer, fixed)
		var plain []byte
		plain, err = open(nil, key, value[len(fixed):], Context(labelFormer, fixed, instance[:], u32(version)))
		copy(dst, plain)
		clear(plain)
		clear(key)
		clear(store)
	})
	return err
}

// CarryEpoch returns the value of an epoch key for a root of a new version: the value that SealEpoch made, sealed once
// more. What is of that version already is returned as it is.
func CarryEpoch(keys InstanceKeys, root InstanceKey, instance, space ID, epoch uint32, value []byte) ([]byte, error) {
	if at, err := RootVersion(value); err != nil || at == root.Version {
		return value, err
	}
	value, err := uncarried(keys, instance, space, epoch, value)
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint32([]byte{kindCarried, version1, suiteGCM, root.mark()}, epoch)
	arena.Do(func() {
		store := expand(root.Key, labelCarried, instance[:], space[:])
		b = append(b, salted(store, space[:], value)...)
		key := expand(store, labelCarried, b)
		b = seal(b, key, value, Context(labelCarried, b, instance[:], space[:]))
		clear(key)
		clear(store)
	})
	return b, nil
}

// uncarried takes off the outer seal of an epoch's value, if it has one.
func uncarried(keys InstanceKeys, instance, space ID, epoch uint32, value []byte) (inner []byte, err error) {
	if len(value) == 0 || value[0] != kindCarried {
		return value, nil
	}
	mark, rest, err := header(kindCarried, value)
	if err != nil {
		return nil, err
	}
	if len(value) != epochFixed+sealSize+epochSize {
		return nil, fmt.Errorf("%w: an epoch key cannot have %d bytes", ErrMalformed, len(value))
	}
	if e := binary.BigEndian.Uint32(rest); e != epoch {
		return nil, fmt.Errorf("%w: epoch %d where %d belongs", ErrNotAuthentic, e, epoch)
	}
	root, err := keys.marked(mark)
	if err != nil {
		return nil, err
	}
	fixed := value[:epochFixed]
	arena.Do(func() {
		store := expand(root, labelCarried, instance[:], space[:])
		key := expand(store, labelCarried, fixed)
		inner, err = open(nil, key, value[epochFixed:], Context(labelCarried, fixed, instance[:], space[:]))
		clear(key)
		clear(store)
	})
	return inner, err
}
