package format

import (
	"fmt"

	"github.com/visage-face/visage/internal/arena"
)

// An entry of a log:
//
//	'L' format suite root | salt 24 | nonce 12 | entry | tag 16
//
// Its key comes from the instance root, so that a log can be read while any space is locked. Its sequence number, which
// is its row's key, is bound into it; the entry with number zero is the log's head.

const logFixed = headerSize + saltSize

// LogID returns the id that a log's rows carry instead of its name. It comes from the first version of the root key,
// for ever.
func LogID(root []byte, instance ID, name string) (id ID) {
	arena.Do(func() { id = ID(mac(root, labelLogName, instance[:], []byte(name))[:16]) })
	return id
}

// SealLogEntry seals an entry for its place in a log.
func SealLogEntry(root InstanceKey, instance, log ID, sequence uint64, entry []byte) Sealed {
	b := []byte{kindLog, version1, suiteGCM, root.mark()}
	arena.Do(func() {
		key := expand(root.Key, labelLog, instance[:], log[:])
		b = append(b, salted(key, log[:], u64(sequence), entry)...)
		once := expand(key, labelLog, b)
		b = seal(b, once, entry, logContext(instance, log, sequence, b))
		clear(once)
		clear(key)
	})
	return Sealed{b}
}

// OpenLogEntry opens the entry at a place in a log.
func OpenLogEntry(keys InstanceKeys, instance, log ID, sequence uint64, value []byte) (entry []byte, err error) {
	mark, _, err := header(kindLog, value)
	if err != nil {
		return nil, err
	}
	if len(value) < logFixed+sealSize {
		return nil, fmt.Errorf("%w: a log entry cannot have %d bytes", ErrMalformed, len(value))
	}
	root, err := keys.marked(mark)
	if err != nil {
		return nil, err
	}
	fixed := value[:logFixed]
	arena.Do(func() {
		key := expand(root, labelLog, instance[:], log[:])
		once := expand(key, labelLog, fixed)
		entry, err = open(nil, once, value[logFixed:], logContext(instance, log, sequence, fixed))
		clear(once)
		clear(key)
	})
	return entry, err
}

func logContext(instance, log ID, sequence uint64, fixed []byte) []byte {
	return Context(labelLog, fixed, instance[:], log[:], u64(sequence))
}
