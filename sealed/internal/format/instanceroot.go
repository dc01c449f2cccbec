package format

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/visage-face/visage/internal/arena"
)

// What the instance root key seals or authenticates itself:
//
//	inner   1 | nonce 12 | data key 32 | tag 16                                             61 bytes, inside a slot
//	bundle  'B' format suite root | salt 24 | nonce 12 | document | tag 16
//	epoch   'E' format suite root | epoch u32 | salt 24 | nonce 12 | epoch key 32 | tag 16     outside the data store
//	instance 'I' format suite 0 | document | HMAC-SHA-256 32
//
// The instance document cannot be encrypted, since what opens it is in it; it holds ids, commitments and wrapped keys.

const (
	innerFormat = 1

	// InnerSize is the length of a data key sealed for its slot: it fits what RSA-2048 with OAEP-SHA-256 can wrap, 190
	// bytes.
	InnerSize = 1 + sealSize + KeySize

	bundleFixed = headerSize + saltSize
	epochFixed  = headerSize + 4 + saltSize
	epochSize   = epochFixed + sealSize + KeySize

	// maxDocument bounds documents before anything is spent on them.
	maxDocument = 1 << 20
)

// Slot is what a wrapped data key is bound to, besides its space: someone who can write the store and knows a vault's
// public key cannot plant a data key, nor move one.
type Slot struct {
	Number     uint32
	Role       string // "service" or, later, "customer"
	Generation uint32
	URI        string // of a vault's key; empty for the service-managed slot
	Version    string // of that key, exactly
	Algorithm  string
	Commitment []byte // DataKeyCommitment
}

// SealInner seals a data key under the instance root, for its slot.
func SealInner(root []byte, instance, space ID, slot Slot, dataKey []byte) (inner []byte) {
	arena.Do(func() {
		key := expand(root, labelInner, instance[:], space[:])
		inner = seal([]byte{innerFormat}, key, dataKey, slotContext(instance, space, slot))
		clear(key)
	})
	return inner
}

// OpenInner reverses SealInner into dst, which has KeySize bytes, and checks the commitment.
func OpenInner(dst, root []byte, instance, space ID, slot Slot, inner []byte) error {
	if len(inner) != InnerSize || inner[0] != innerFormat || len(dst) != KeySize {
		return fmt.Errorf("%w: wrapped data key of %d bytes", ErrMalformed, len(inner))
	}
	var err error
	arena.Do(func() {
		key := expand(root, labelInner, instance[:], space[:])
		defer clear(key)
		var plain []byte
		if plain, err = open(nil, key, inner[1:], slotContext(instance, space, slot)); err != nil {
			return
		}
		copy(dst, plain)
		clear(plain)
	})
	if err != nil {
		return err
	}
	if !hmac.Equal(DataKeyCommitment(dst, space, slot.Generation), slot.Commitment) {
		clear(dst)
		return fmt.Errorf("%w: the data key does not match its commitment", ErrNotAuthentic)
	}
	return nil
}

func slotContext(instance, space ID, s Slot) []byte {
	return Context(labelSlot, instance[:], space[:], u32(s.Generation), u32(s.Number), []byte(s.Role), []byte(s.URI),
		[]byte(s.Version), []byte(s.Algorithm), s.Commitment)
}

// SealBundle seals a space's bundle document.
func SealBundle(root InstanceKey, instance, space ID, document []byte) Sealed {
	b := []byte{kindBundle, version1, suiteGCM, root.mark()}
	arena.Do(func() {
		registry := expand(root.Key, labelRegistry, instance[:], space[:])
		b = append(b, salted(registry, space[:], document)...)
		key := expand(registry, labelBundle, b)
		b = seal(b, key, document, Context(labelBundle, b, instance[:], space[:]))
		clear(key)
		clear(registry)
	})
	return Sealed{b}
}

// OpenBundle opens a space's bundle document.
func OpenBundle(keys InstanceKeys, instance, space ID, value []byte) (document []byte, err error) {
	mark, _, err := header(kindBundle, value)
	if err != nil {
		return nil, err
	}
	if len(value) < bundleFixed+sealSize || len(value) > maxDocument {
		return nil, fmt.Errorf("%w: a bundle cannot have %d bytes", ErrMalformed, len(value))
	}
	root, err := keys.marked(mark)
	if err != nil {
		return nil, err
	}
	fixed := value[:bundleFixed]
	arena.Do(func() {
		registry := expand(root, labelRegistry, instance[:], space[:])
		key := expand(registry, labelBundle, fixed)
		document, err = open(nil, key, value[bundleFixed:], Context(labelBundle, fixed, instance[:], space[:]))
		clear(key)
		clear(registry)
	})
	return document, err
}

// epochStoreKey derives what a space's epoch keys are sealed under. It takes the data key as well: a copy of the key
// store from before the data key was changed opens with the old data key alone, which lives in no slot any more.
func epochStoreKey(root, dataKey []byte, instance, space ID) []byte {
	store := expand(root, labelEpochs, instance[:], space[:])
	defer clear(store)
	key, err := hkdf.Extract(sha256.New, dataKey, store)
	if err != nil {
		panic("format: extract the key of epoch keys: " + err.Error())
	}
	return key
}

// SealEpoch seals an epoch key for the key store, under the instance root and the data key of its generation.
func SealEpoch(root InstanceKey, dataKey []byte, instance, space ID, epoch uint32, epochKey []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kindEpoch, version1, suiteGCM, root.mark()}, epoch)
	arena.Do(func() {
		store := epochStoreKey(root.Key, dataKey, instance, space)
		b = append(b, salted(store, space[:], epochKey)...)
		key := expand(store, labelEpochs, b)
		b = seal(b, key, epochKey, Context(labelEpochs, b, instance[:], space[:]))
		clear(key)
		clear(store)
	})
	return b
}

// OpenEpoch opens an epoch key into dst, which has KeySize bytes.
func OpenEpoch(
	dst []byte, keys InstanceKeys, dataKey []byte, instance, space ID, epoch uint32, value []byte,
) error {
	value, err := uncarried(keys, instance, space, epoch, value)
	if err != nil {
		return err
	}
	mark, rest, err := header(kindEpoch, value)
	if err != nil {
		return err
	}
	if len(value) != epochSize || len(dst) != KeySize {
		return fmt.Errorf("%w: an epoch key cannot have %d bytes", ErrMalformed, len(value))
	}
	if e := binary.BigEndian.Uint32(rest); e != epoch {
		return fmt.Errorf("%w: epoch %d where %d belongs", ErrNotAuthentic, e, epoch)
	}
	root, err := keys.marked(mark)
	if err != nil {
		return err
	}
	fixed := value[:epochFixed]
	arena.Do(func() {
		store := epochStoreKey(root, dataKey, instance, space)
		key := expand(store, labelEpochs, fixed)
		var plain []byte
		plain, err = open(nil, key, value[epochFixed:], Context(labelEpochs, fixed, instance[:], space[:]))
		copy(dst, plain)
		clear(plain)
		clear(key)
		clear(store)
	})
	return err
}

// AuthInstance authenticates an instance document under the root key.
func AuthInstance(root, document []byte) Sealed {
	b := append([]byte{kindInstance, version1, suiteGCM, 0}, document...)
	return Sealed{append(b, instanceMAC(root, b)...)}
}

// ReadInstance returns the document of an instance row, whose authenticity only CheckInstance can tell: the root key is
// found through it.
func ReadInstance(value []byte) (document []byte, err error) {
	zero, rest, err := header(kindInstance, value)
	if err != nil {
		return nil, err
	}
	if zero != 0 || len(rest) < sha256.Size || len(rest) > maxDocument {
		return nil, fmt.Errorf("%w: an instance document cannot have %d bytes", ErrMalformed, len(value))
	}
	return rest[:len(rest)-sha256.Size], nil
}

// CheckInstance verifies an instance row with the root key that was found through it.
func CheckInstance(root, value []byte) error {
	if len(value) < headerSize+sha256.Size {
		return fmt.Errorf("%w: an instance document cannot have %d bytes", ErrMalformed, len(value))
	}
	end := len(value) - sha256.Size
	if !hmac.Equal(instanceMAC(root, value[:end]), value[end:]) {
		return fmt.Errorf("%w: the instance document was changed", ErrNotAuthentic)
	}
	return nil
}

func instanceMAC(root, b []byte) (sum []byte) {
	arena.Do(func() {
		key := expand(root, labelInstance)
		sum = mac(key, labelInstance, b)
		clear(key)
	})
	return sum
}

// authenticated returns the document inside a value that carries its MAC at the end.
func authenticated(kind byte, value []byte, sum func([]byte) []byte) ([]byte, error) {
	_, rest, err := header(kind, value)
	if err != nil {
		return nil, err
	}
	if len(rest) < sha256.Size {
		return nil, fmt.Errorf("%w: a document of kind %q cannot have %d bytes", ErrMalformed, kind, len(value))
	}
	end := len(value) - sha256.Size
	if !hmac.Equal(sum(value[:end]), value[end:]) {
		return nil, fmt.Errorf("%w: the document was changed", ErrNotAuthentic)
	}
	return value[headerSize:end], nil
}
