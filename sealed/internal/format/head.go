package format

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/visage-face/visage/internal/arena"
)

// A head, the authenticated state of a container:
//
//	'H' format suite 0 | generation u32 | epoch u32 | salt 24 | nonce 12 | 130 | tag 16
//
// The head of the root container is sealed under the root key of its pair; the head of any other has its key in the
// root container, and pair zero.

const (
	headFixed = headerSize + 4 + 4 + saltSize
	headPlain = 8 + 1 + 1 + KeySize + 8 + 8 + 32 + 8 + 32
	headSize  = headFixed + sealSize + headPlain

	// MaxHeight is the most levels of pages a container can have; four would do for a thousand million records.
	MaxHeight = 9

	flagDropped = 1
)

// Pair names the keys that the head of a root container is sealed under.
type Pair struct {
	Generation uint32 // of the resource data key
	Epoch      uint32 // of the epoch key
}

// Sum is the hash of a set of terms: their sum modulo 2^256, so that terms come and go without the others.
type Sum [32]byte

// Head is the authenticated state of a container. It holds a secret: wipe Root.Key.
type Head struct {
	Pair     Pair   // zero, save in the root container
	Sequence uint64 // grows with every change of the container
	Dropped  bool   // the container is gone; its rows are going
	Height   byte   // levels of key pages; 0: there is none, and Root.Key is for nursery rows alone
	Root     Secret // key and version of the topmost page
	Rows     uint64 // nursery rows
	Sum      Sum    // of their terms
	Erased   uint64 // in the root container: erasures since the epoch began
	Previous Sum    // in the root container: SHA-256 of the head before
}

// Add adds a term.
func (s *Sum) Add(term []byte) { s.combine(term, bits.Add64) }

// Subtract takes a term out.
func (s *Sum) Subtract(term []byte) { s.combine(term, bits.Sub64) }

func (s *Sum) combine(term []byte, op func(x, y, carry uint64) (uint64, uint64)) {
	var carry uint64
	for i := 24; i >= 0; i -= 8 {
		var v uint64
		v, carry = op(binary.BigEndian.Uint64(s[i:]), binary.BigEndian.Uint64(term[i:]), carry)
		binary.BigEndian.PutUint64(s[i:], v)
	}
}

// Term is what one nursery row adds to the sum of its container: its place and its salt name it, and its own seal binds
// the rest to them.
func Term(setKey []byte, container, record ID, salt []byte) []byte {
	return mac(setKey, labelSet, container[:], record[:], salt)
}

// SealHead seals a head for its container (at.Record is zero) under key.
func SealHead(at Place, key, hedge []byte, h *Head) Sealed {
	b := make([]byte, 0, headSize)
	b = append(b, kindHead, version1, suiteGCM, 0)
	b = binary.BigEndian.AppendUint32(b, h.Pair.Generation)
	b = binary.BigEndian.AppendUint32(b, h.Pair.Epoch)
	arena.Do(func() {
		plain := make([]byte, 0, headPlain)
		plain = binary.BigEndian.AppendUint64(plain, h.Sequence)
		var flags byte
		if h.Dropped {
			flags = flagDropped
		}
		plain = append(plain, flags, h.Height)
		plain = append(plain, h.Root.Key...)
		plain = binary.BigEndian.AppendUint64(plain, h.Root.Version)
		plain = binary.BigEndian.AppendUint64(plain, h.Rows)
		plain = append(plain, h.Sum[:]...)
		plain = binary.BigEndian.AppendUint64(plain, h.Erased)
		plain = append(plain, h.Previous[:]...)
		b = append(b, salted(hedge, at.Container[:], plain)...)
		once, associated := pageContext(labelHead, key, at, b)
		b = seal(b, once, plain, associated)
		clear(once)
		clear(plain)
	})
	return Sealed{b}
}

// PeekPair returns the pair a head says it is sealed under, so that its key can be chosen. Nothing is authenticated
// yet.
func PeekPair(value []byte) (Pair, error) {
	if len(value) < headerSize+8 || value[0] != kindHead {
		return Pair{}, fmt.Errorf("%w: not a head", ErrMalformed)
	}
	return Pair{binary.BigEndian.Uint32(value[headerSize:]), binary.BigEndian.Uint32(value[headerSize+4:])}, nil
}

// OpenHead opens a container's head.
func OpenHead(at Place, key, value []byte) (*Head, error) {
	zero, rest, err := header(kindHead, value)
	if err != nil {
		return nil, err
	}
	if zero != 0 || len(value) != headSize {
		return nil, fmt.Errorf("%w: a head cannot have %d bytes", ErrMalformed, len(value))
	}
	h := &Head{Pair: Pair{binary.BigEndian.Uint32(rest), binary.BigEndian.Uint32(rest[4:])}}
	arena.Do(func() {
		var plain []byte
		once, associated := pageContext(labelHead, key, at, value[:headFixed])
		plain, err = open(make([]byte, 0, headPlain), once, value[headFixed:], associated)
		clear(once)
		if err != nil {
			return
		}
		h.Sequence = binary.BigEndian.Uint64(plain)
		h.Dropped, h.Height = plain[8] == flagDropped, plain[9]
		if plain[8] > flagDropped || h.Height > MaxHeight {
			err = fmt.Errorf("%w: flags %d, height %d", ErrMalformed, plain[8], h.Height)
		}
		rest := plain[10:]
		h.Root = Secret{Key: append([]byte(nil), rest[:KeySize]...), Version: binary.BigEndian.Uint64(rest[KeySize:])}
		rest = rest[KeySize+8:]
		h.Rows = binary.BigEndian.Uint64(rest)
		copy(h.Sum[:], rest[8:])
		h.Erased = binary.BigEndian.Uint64(rest[40:])
		copy(h.Previous[:], rest[48:])
		clear(plain)
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// AuthAnchor authenticates a document of anchors under the instance root: what the states of spaces must not fall
// behind.
func AuthAnchor(root InstanceKey, instance ID, document []byte) []byte {
	b := append([]byte{kindAnchor, version1, suiteGCM, root.mark()}, document...)
	return append(b, anchorMAC(root.Key, instance, b)...)
}

// OpenAnchor returns the document of what AuthAnchor made.
func OpenAnchor(keys InstanceKeys, instance ID, value []byte) (document []byte, err error) {
	mark, _, err := header(kindAnchor, value)
	if err != nil {
		return nil, err
	}
	root, err := keys.marked(mark)
	if err != nil {
		return nil, err
	}
	return authenticated(kindAnchor, value, func(b []byte) []byte { return anchorMAC(root, instance, b) })
}

func anchorMAC(root []byte, instance ID, b []byte) (sum []byte) {
	arena.Do(func() {
		key := expand(root, labelAnchor, instance[:])
		sum = mac(key, labelAnchor, b)
		clear(key)
	})
	return sum
}
