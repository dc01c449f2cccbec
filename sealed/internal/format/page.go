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
//	'P' format suite level | page version u64 | salt 24 | nonce 12 | n × 56 | tag 16
//
// with n of 16, 64 or 256 slots, each { id 16, secret 32, version u64 }, sorted by id, unused ones zero and last. Its
// upper bound is its row's key. A page of level 0 holds the secrets of records; one above holds the keys and versions
// of pages, under their upper bounds. The key of a page is random, its own, and lies in the page above it or in the
// container's head.
//
// A nursery row, a secret that no page holds yet, sealed under the key of the page that covers it:
//
//	'N' format suite 0 | salt 24 | nonce 12 | secret 32, version u64 | tag 16

// PageSlots is the most entries a page can hold.
const PageSlots = 256

const (
	entrySize    = 16 + KeySize + 8
	pageFixed    = headerSize + 8 + saltSize
	nurseryFixed = headerSize + saltSize
	nurserySize  = nurseryFixed + nonceSize + KeySize + 8 + tagSize
)

// slotClasses are the sizes a page may have, so that its length tells little about how full it is.
var slotClasses = [...]int{16, 64, PageSlots}

// Page is an opened key page. It holds secrets: Wipe it.
type Page struct {
	Level   byte
	Version uint64 // how often this page was rewritten
	Lower   ID     // exclusive; zero: none, this is the first page
	Upper   ID     // inclusive

	entries []byte // entrySize each, sorted by id
}

// NewPage returns an empty page for the range (lower, upper].
func NewPage(level byte, lower, upper ID) *Page {
	return &Page{Level: level, Lower: lower, Upper: upper}
}

// Clone returns a page of its own with the same content.
func (p *Page) Clone() *Page {
	c := *p
	arena.Do(func() { c.entries = append(make([]byte, 0, PageSlots*entrySize), p.entries...) })
	return &c
}

// Covers reports whether id lies in the page's range. A page whose lower bound is zero is the first one and begins with
// the zero id itself.
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

// Find returns the index of the first entry whose id is not below id, Len when there is none.
func (p *Page) Find(id ID) int {
	i, _ := p.search(id)
	return i
}

// Append adds an entry after all others; the caller adds them in order. It copies the secret.
func (p *Page) Append(id ID, s Secret) {
	if len(p.entries)+entrySize > cap(p.entries) {
		arena.Do(func() {
			grown := append(make([]byte, 0, max(PageSlots*entrySize, 2*cap(p.entries))), p.entries...)
			clear(p.entries)
			p.entries = grown
		})
	}
	p.entries = append(p.entries, id[:]...)
	p.entries = append(p.entries, s.Key...)
	p.entries = binary.BigEndian.AppendUint64(p.entries, s.Version)
}

// Set puts an entry in its place, or in place of the one of the same id. It copies the secret.
func (p *Page) Set(id ID, s Secret) {
	i, ok := p.search(id)
	if !ok {
		p.Append(id, s)
		copy(p.entries[(i+1)*entrySize:], p.entries[i*entrySize:])
	}
	e := p.entries[i*entrySize:][:entrySize]
	copy(e, id[:])
	copy(e[16:], s.Key)
	binary.BigEndian.PutUint64(e[48:], s.Version)
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

// SealPage seals a page for its place (at.Record is ignored: the upper bound takes its part) under its own key.
func SealPage(at Place, pageKey, hedge []byte, p *Page) Sealed {
	i := slices.IndexFunc(slotClasses[:], func(n int) bool { return n >= p.Len() })
	if i < 0 {
		panic(fmt.Sprintf("format: page of %d entries", p.Len()))
	}
	size := slotClasses[i] * entrySize
	at.Record = p.Upper
	b := make([]byte, 0, pageFixed+sealSize+size)
	b = append(b, kindPage, version1, suiteGCM, p.Level)
	b = binary.BigEndian.AppendUint64(b, p.Version)
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

// OpenPage opens the page of a level and range under its own key. It must be the version that the page above names: an
// older copy does not open.
func OpenPage(at Place, level byte, lower, upper ID, pageKey []byte, version uint64, value []byte) (*Page, error) {
	got, rest, err := header(kindPage, value)
	if err != nil {
		return nil, err
	}
	slots := (len(value) - pageFixed - sealSize) / entrySize
	if got != level || len(value) < pageFixed || len(value) != pageFixed+sealSize+slots*entrySize ||
		!slices.Contains(slotClasses[:], slots) {
		return nil, fmt.Errorf("%w: a key page of level %d cannot begin so and have %d bytes", ErrMalformed, level,
			len(value))
	}
	p := &Page{Level: level, Version: binary.BigEndian.Uint64(rest), Lower: lower, Upper: upper}
	if p.Version != version {
		return nil, fmt.Errorf("%w: the page has version %d, where %d belongs", ErrNotAuthentic, p.Version, version)
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
func SealNursery(at Place, pageKey, salt []byte, s Secret) Sealed {
	b := make([]byte, 0, nurserySize)
	b = append(b, kindNursery, version1, suiteGCM, 0)
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

// NurserySalt returns the salt of a nursery row, which names it among all rows of its place. Nothing is authenticated.
// A row that is too short has none.
func NurserySalt(value []byte) []byte {
	if len(value) < nurseryFixed {
		return nil
	}
	return value[headerSize:nurseryFixed]
}

// pageContext derives the single-use key of a page or nursery row from everything that stands before its nonce (the
// salt is its end), and the context that is authenticated with it.
func pageContext(label string, pageKey []byte, at Place, before []byte) (key, associated []byte) {
	associated = Context(label, before, at.Instance[:], at.Space[:], at.Container[:], at.Record[:])
	return expand(pageKey, label, associated), associated
}
