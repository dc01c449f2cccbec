package format

import (
	"fmt"

	"github.com/visage-face/visage/internal/arena"
)

// A lease:
//
//	'T' format suite root | salt 24 | nonce 12 | document | tag 16
//
// It says which process may do something, while several have the store open. Its key comes from the instance root, and
// the key of its row is bound into it.

const leaseFixed = headerSize + saltSize

// LeaseID returns the id that the row of a lease carries instead of its name. It comes from the first version of the
// root key, for ever.
func LeaseID(root []byte, instance ID, name string) (id ID) {
	arena.Do(func() { id = ID(mac(root, labelLeaseName, instance[:], []byte(name))[:16]) })
	return id
}

// SealLease seals a lease for the row that has a key.
func SealLease(root InstanceKey, instance ID, rowKey, document []byte) Sealed {
	b := []byte{kindLease, version1, suiteGCM, root.mark()}
	arena.Do(func() {
		key := expand(root.Key, labelLease, instance[:])
		b = append(b, salted(key, rowKey, document)...)
		once := expand(key, labelLease, b)
		b = seal(b, once, document, Context(labelLease, b, instance[:], rowKey))
		clear(once)
		clear(key)
	})
	return Sealed{b}
}

// OpenLease opens the lease of a row.
func OpenLease(keys InstanceKeys, instance ID, rowKey, value []byte) (document []byte, err error) {
	mark, _, err := header(kindLease, value)
	if err != nil {
		return nil, err
	}
	if len(value) < leaseFixed+sealSize || len(value) > maxDocument {
		return nil, fmt.Errorf("%w: a lease cannot have %d bytes", ErrMalformed, len(value))
	}
	root, err := keys.marked(mark)
	if err != nil {
		return nil, err
	}
	fixed := value[:leaseFixed]
	arena.Do(func() {
		key := expand(root, labelLease, instance[:])
		once := expand(key, labelLease, fixed)
		document, err = open(nil, once, value[leaseFixed:], Context(labelLease, fixed, instance[:], rowKey))
		clear(once)
		clear(key)
	})
	return document, err
}
