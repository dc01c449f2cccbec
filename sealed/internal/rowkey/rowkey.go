// Package rowkey makes and parses the keys under which rows lie in an engine, and scans ranges of them. It knows the
// places of rows and never their content. docs/formats/containers.md describes the same.
package rowkey

import (
	"fmt"
	"iter"
	"slices"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
)

// The kinds of rows, by the byte after the space id in a row's key. See docs/formats/containers.md.
const (
	Instance = 'I' // under the zero space
	Log      = 'L' // under the zero space
	Lease    = 'T' // outside spaces: see LeaseScope
	Member   = 'M' // outside spaces: see LeaseScope
	Bundle   = 'B'
	Head     = 'H'
	Page     = 'P' // of level 0
	upper    = '0' // plus the level: '1', '2', …
	Nursery  = 'N'
	Record   = 'R'
)

// Size is the length of the key of a page, nursery or record row.
const Size = 16 + 1 + 16 + 16

// Root is the root container. It holds the blinding key, under the zero id, and the key of every container's head,
// under the container's id.
var Root format.ID

// PageKind returns the kind of row that pages of a level are.
func PageKind(level byte) byte {
	if level == 0 {
		return Page
	}
	return upper + level
}

// IsPage reports whether a kind of row is a page's.
func IsPage(kind byte) bool {
	return kind == Page || kind > upper && kind < upper+format.MaxHeight
}

// OfSpace returns the key of the one row of a kind that a space has, or with which its rows of that kind begin.
func OfSpace(space format.ID, kind byte) []byte {
	return append(append(make([]byte, 0, 17), space[:]...), kind)
}

// Of returns the key of a head, page, nursery or record row.
func Of(space format.ID, kind byte, container, id format.ID) []byte {
	k := make([]byte, 0, Size)
	k = append(k, space[:]...)
	k = append(k, kind)
	k = append(k, container[:]...)
	return append(k, id[:]...)
}

// After returns the first key behind all keys that begin with prefix. A prefix of nothing but 0xff has none; ours never
// is, since a kind byte is a letter and a space id of all ones is refused.
func After(prefix []byte) []byte {
	b := append([]byte(nil), prefix...)
	for i := len(b) - 1; i >= 0; i-- {
		b[i]++
		if b[i] != 0 {
			return b[:i+1]
		}
	}
	panic("sealed: no key comes after " + string(prefix))
}

// Range returns the range of keys of one kind in a container, from the id from on.
func Range(space format.ID, kind byte, container, from format.ID) (lower, upper []byte) {
	first := Of(space, kind, container, from)
	return first, After(first[:Size-16])
}

// Scan scans rows of containers and passes over keys of another length: nobody but an intruder writes one, and
// verification tells of it.
func Scan(r engine.Reader, from, to []byte) iter.Seq2[engine.Row, error] {
	return func(yield func(engine.Row, error) bool) {
		for row, err := range r.Scan(from, to) {
			if (err != nil || len(row.Key) == Size) && !yield(row, err) {
				return
			}
		}
	}
}

// Parse returns the container and id that a page, nursery or record row's key names.
func Parse(key []byte) (container, id format.ID) {
	return format.ID(key[17:33]), format.ID(key[33:49])
}

// Next returns the id after id, and false when there is none.
func Next(id format.ID) (format.ID, bool) {
	for i := len(id) - 1; i >= 0; i-- {
		id[i]++
		if id[i] != 0 {
			return id, true
		}
	}
	return id, false
}

// Collect returns the keys of at most limit rows of a range.
func Collect(r engine.Reader, lower, upper []byte, limit int) ([][]byte, error) {
	var keys [][]byte
	for row, err := range r.Scan(lower, upper) {
		if err != nil {
			return nil, err
		}
		keys = append(keys, slices.Clone(row.Key))
		if len(keys) == limit {
			break
		}
	}
	return keys, nil
}

// EachSpace calls fn with every space id that has a row, skipping from one to the next.
func EachSpace(r engine.Reader, fn func(format.ID) error) error {
	from := FirstSpace
	for {
		var found *format.ID
		for row, err := range r.Scan(from[:], format.MaxID[:]) {
			if err != nil {
				return err
			}
			if len(row.Key) < 17 {
				continue // not ours; a longer one of the same space tells
			}
			id := format.ID(row.Key[:16])
			found = &id
			break
		}
		if found == nil {
			return nil
		}
		if err := fn(*found); err != nil {
			return err
		}
		ok := false
		if from, ok = Next(*found); !ok {
			return nil
		}
	}
}

// FirstSpace is the lowest id a space can have; below it lies the instance's own row.
var FirstSpace = format.ID{15: 1}

// LeaseScope is the scope of leases. No space has this id, and its rows come after those of all spaces: what is there
// is of the processes that have the store open, and no part of a backup.
var LeaseScope = format.MaxID

// OfLease returns the key of a lease, or with the kind Member of a process that has the store open.
func OfLease(kind byte, id format.ID) []byte { return append(OfSpace(LeaseScope, kind), id[:]...) }

// Strange returns the error of a row key that no row of ours has.
func Strange(key []byte) error {
	if len(key) < 17 {
		return fmt.Errorf("%w: a row key of %d bytes", format.ErrMalformed, len(key))
	}
	return fmt.Errorf("%w: a row of the unknown kind %q with a key of %d bytes", format.ErrMalformed, key[16], len(key))
}

// Kinds lists the kinds of rows that a space has, in the order of their keys.
func Kinds() (kinds []byte) {
	for level := byte(1); level < format.MaxHeight; level++ {
		kinds = append(kinds, PageKind(level))
	}
	return append(kinds, Bundle, Head, Nursery, Page, Record)
}

// Possible reports whether a row of a kind, in a space, can have a key.
func Possible(kind byte, key []byte) bool {
	if kind == Bundle {
		return len(key) == 17
	}
	if len(key) != Size {
		return false
	}
	container, id := Parse(key)
	return (kind != Head || id == format.ID{}) && (container != Root || kind == Head || IsPage(kind))
}
