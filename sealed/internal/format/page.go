package format

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/visage-face/visage/internal/arena"
)

// A key page:
//
//	'P' format suite 0 | generation u32 | epoch u32 | page version u64 | lower 16 | salt 24 | nonce 12 | n × 56 | tag 16
//
// with n of 16, 64 or 256 slots, each { id 16, secret 32, version u64 }, sorted by id, unused ones zero and last. Its upper bound is its row's key.
//
// A nursery row, a secret that no page holds yet:
//
//	'N' format suite 0 | generation u32 | epoch u32 | salt 24 | nonce 12 | secret 32, version u64 | tag 16

// PageSlots is the most entries a page can hold.
const PageSlots = 256

const (
	entrySize    = 16 + KeySize + 8
	pageFixed    = headerSize + 4 + 4 + 8 + 16 + saltSize
	nurseryFixed = headerSize + 4 + 4 + saltSize
	nurserySize  = nurseryFixed + nonceSize + KeySize + 8 + tagSize
)

// slotClasses are the sizes a page may have, so that its length tells little about how full it is.
var slotClasses = [...]int{16, 64, PageSlots}

// Pair names the keys that a page or nursery row is sealed under.
type Pair struct {
	Generation uint32 // of the resource data key
	Epoch      uint32 // of the epoch key
}

// Page is an opened key page. It holds secrets: Wipe it.
type Page struct {
	Pair    Pair
	Version uint64 // how often this page was rewritten
	Lower   ID     // exclusive; zero: none, this is the first page
	Upper   ID     // inclusive

	entries []byte // entrySize each, sorted by id
}

// NewPage returns an empty page for the range (lower, upper].
func NewPage(lower, upper ID) *Page { return &Page{Lower: lower, Upper: upper} }

// Covers reports whether id lies in the page's range. A page whose lower bound is zero is the first one and begins with the zero id itself.
func (p *Page) Covers(id ID) bool {
	return (p.Lower == ID{} || bytes.Compare(id[:], p.Lower[:]) > 0) && bytes.Compare(id[:], p.Upper[:]) <= 0
}

// Len is the number of entries.
func (p *Page) Len() int { return len(p.entries) / entrySize }

// At returns entry i. The secret's key is the page's own memory.
func (p *Page) At(i int) (ID, Secret) {
	e := p.entries[i*entrySize:][:entrySize]
	return ID(e[:16]), Secret{Key: e[16:48:48], Version: binary.BigEndian.Uint64(e[48:])}
}

// Lookup finds the secret of an id.
func (p *Page) Lookup(id ID) (Secret, bool) {
	i, ok := p.search(id)
	if !ok {
		return Secret{}, false
	}
	_, s := p.At(i)
	return s, true
}

// Remove takes the entry of an id out, and reports whether there was one.
func (p *Page) Remove(id ID) bool {
	i, ok := p.search(id)
	if !ok {
		return false
	}
	n := len(p.entries)
	copy(p.entries[i*entrySize:], p.entries[(i+1)*entrySize:])
	clear(p.entries[n-entrySize:])
	p.entries = p.entries[:n-entrySize]
	return true
}

// RemoveUpTo takes the entries out whose ids are not above id.
func (p *Page) RemoveUpTo(id ID) {
	i, ok := p.search(id)
	if ok {
		i++
	}
	n := copy(p.entries, p.entries[i*entrySize:])
	clear(p.entries[n:])
	p.entries = p.entries[:n]
}

// Append adds an entry after all others; the caller adds them in order. It copies the secret.
func (p *Page) Append(id ID, s Secret) {
	if p.entries == nil {
		p.entries = make([]byte, 0, PageSlots*entrySize)
	}
	p.entries = append(p.entries, id[:]...)
	p.entries = append(p.entries, s.Key...)
	p.entries = binary.BigEndian.AppendUint64(p.entries, s.Version)
}

// Wipe clears the page's secrets; the page is empty afterwards.
func (p *Page) Wipe() {
	clear(p.entries[:cap(p.entries)])
	p.entries = p.entries[:0]
}

func (p *Page) search(id ID) (int, bool) {
	lo, hi := 0, p.Len()
	for lo < hi {
		mid := (lo + hi) / 2
		switch bytes.Compare(p.entries[mid*entrySize:][:16], id[:]) {
		case 0:
			return mid, true
		case -1:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return lo, false
}

// SealPage seals a page for its place (at.Record is ignored: the upper bound takes its part) under the page key of pair.
func SealPage(at Place, pair Pair, pageKey, hedge []byte, p *Page) Sealed {
	i := slices.IndexFunc(slotClasses[:], func(n int) bool { return n >= p.Len() })
	if i < 0 {
		panic(fmt.Sprintf("format: page of %d entries", p.Len()))
	}
	size := slotClasses[i] * entrySize
	at.Record = p.Upper
	b := make([]byte, 0, pageFixed+sealSize+size)
	b = append(b, kindPage, version1, suiteGCM, 0)
	b = binary.BigEndian.AppendUint32(b, pair.Generation)
	b = binary.BigEndian.AppendUint32(b, pair.Epoch)
	b = binary.BigEndian.AppendUint64(b, p.Version)
	b = append(b, p.Lower[:]...)
	arena.Do(func() {
		plain := make([]byte, size)
		copy(plain, p.entries)
		b = append(b, salted(hedge, p.Upper[:], u64(p.Version), plain)...)
		key, associated := pageContext(labelPage, pageKey, at, b)
		b = seal(b, key, plain, associated)
		clear(key)
		clear(plain)
	})
	return Sealed{b}
}

// PeekPair returns the pair a page or nursery row says it is sealed under, so that its key can be chosen. Nothing is authenticated yet.
func PeekPair(value []byte) (Pair, error) {
	if len(value) < headerSize+8 || value[0] != kindPage && value[0] != kindNursery {
		return Pair{}, fmt.Errorf("%w: neither a key page nor a nursery row", ErrMalformed)
	}
	return Pair{binary.BigEndian.Uint32(value[headerSize:]), binary.BigEndian.Uint32(value[headerSize+4:])}, nil
}

// OpenPage opens the page with the given upper bound.
func OpenPage(at Place, upper ID, pageKey, value []byte) (*Page, error) {
	zero, rest, err := header(kindPage, value)
	if err != nil {
		return nil, err
	}
	slots := (len(value) - pageFixed - sealSize) / entrySize
	if zero != 0 || len(value) < pageFixed || len(value) != pageFixed+sealSize+slots*entrySize || !slices.Contains(slotClasses[:], slots) {
		return nil, fmt.Errorf("%w: a key page cannot have %d bytes", ErrMalformed, len(value))
	}
	p := &Page{
		Pair:    Pair{binary.BigEndian.Uint32(rest), binary.BigEndian.Uint32(rest[4:])},
		Version: binary.BigEndian.Uint64(rest[8:]),
		Lower:   ID(rest[16:32]),
		Upper:   upper,
	}
	at.Record = upper
	arena.Do(func() {
		key, associated := pageContext(labelPage, pageKey, at, value[:pageFixed])
		p.entries, err = open(make([]byte, 0, slots*entrySize), key, value[pageFixed:], associated)
		clear(key)
	})
	if err != nil {
		return nil, err
	}
	n := 0
	var last ID
	for ; n < slots; n++ {
		id, s := p.At(n)
		if s.Version == 0 {
			break
		}
		if !p.Covers(id) || n > 0 && bytes.Compare(last[:], id[:]) >= 0 {
			p.Wipe()
			return nil, fmt.Errorf("%w: the page's entries are out of order", ErrMalformed)
		}
		last = id
	}
	for _, b := range p.entries[n*entrySize:] {
		if b != 0 {
			p.Wipe()
			return nil, fmt.Errorf("%w: the page's unused slots are not empty", ErrMalformed)
		}
	}
	p.entries = p.entries[:n*entrySize]
	return p, nil
}

// SealNursery seals a record's secret for its nursery row; salt is that of the record's version.
func SealNursery(at Place, pair Pair, pageKey, salt []byte, s Secret) Sealed {
	b := make([]byte, 0, nurserySize)
	b = append(b, kindNursery, version1, suiteGCM, 0)
	b = binary.BigEndian.AppendUint32(b, pair.Generation)
	b = binary.BigEndian.AppendUint32(b, pair.Epoch)
	arena.Do(func() {
		plain := binary.BigEndian.AppendUint64(append(make([]byte, 0, KeySize+8), s.Key...), s.Version)
		b = append(b, salt...)
		key, associated := pageContext(labelNursery, pageKey, at, b)
		b = seal(b, key, plain, associated)
		clear(key)
		clear(plain)
	})
	return Sealed{b}
}

// OpenNursery opens a nursery row. The caller wipes the secret.
func OpenNursery(at Place, pageKey, value []byte) (s Secret, err error) {
	zero, _, err := header(kindNursery, value)
	if err != nil {
		return Secret{}, err
	}
	if zero != 0 || len(value) != nurserySize {
		return Secret{}, fmt.Errorf("%w: a nursery row cannot have %d bytes", ErrMalformed, len(value))
	}
	arena.Do(func() {
		var plain []byte
		key, associated := pageContext(labelNursery, pageKey, at, value[:nurseryFixed])
		plain, err = open(make([]byte, 0, KeySize+8), key, value[nurseryFixed:], associated)
		clear(key)
		if err == nil {
			s = Secret{Key: plain[:KeySize:KeySize], Version: binary.BigEndian.Uint64(plain[KeySize:])}
		}
	})
	if err == nil && s.Version == 0 {
		clear(s.Key)
		return Secret{}, fmt.Errorf("%w: version zero", ErrMalformed)
	}
	return s, err
}

// pageContext derives the single-use key of a page or nursery row from everything that stands before its nonce (the salt is its end), and the context
// that is authenticated with it.
func pageContext(label string, pageKey []byte, at Place, before []byte) (key, associated []byte) {
	associated = Context(label, before, at.Instance[:], at.Space[:], at.Container[:], at.Record[:])
	return expand(pageKey, label, associated), associated
}
