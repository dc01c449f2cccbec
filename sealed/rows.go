package sealed

import (
	"iter"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
)

// The kinds of rows, by the byte after the space id in a row's key. See docs/formats/containers.md.
const (
	rowInstance = 'I' // under the zero space
	rowLog      = 'L' // under the zero space
	rowBundle   = 'B'
	rowHead     = 'H'
	rowPage     = 'P' // of level 0
	rowUpper    = '0' // plus the level: '1', '2', …
	rowNursery  = 'N'
	rowRecord   = 'R'
)

// keySize is the length of the key of a page, nursery or record row.
const keySize = 16 + 1 + 16 + 16

// rootContainer holds the blinding key, under the zero id, and the key of every container's head, under the container's
// id.
var rootContainer format.ID

// pageRow returns the kind of row that pages of a level are.
func pageRow(level byte) byte {
	if level == 0 {
		return rowPage
	}
	return rowUpper + level
}

// isPageRow reports whether a kind of row is a page's.
func isPageRow(kind byte) bool {
	return kind == rowPage || kind > rowUpper && kind < rowUpper+format.MaxHeight
}

func spaceKey(space format.ID, kind byte) []byte {
	return append(append(make([]byte, 0, 17), space[:]...), kind)
}

func rowKey(space format.ID, kind byte, container, id format.ID) []byte {
	k := make([]byte, 0, keySize)
	k = append(k, space[:]...)
	k = append(k, kind)
	k = append(k, container[:]...)
	return append(k, id[:]...)
}

// after returns the first key behind all keys that begin with prefix. A prefix of nothing but 0xff has none; ours never
// is, since a kind byte is a letter and a space id of all ones is refused.
func after(prefix []byte) []byte {
	b := append([]byte(nil), prefix...)
	for i := len(b) - 1; i >= 0; i-- {
		b[i]++
		if b[i] != 0 {
			return b[:i+1]
		}
	}
	panic("sealed: no key comes after " + string(prefix))
}

// containerRange returns the range of keys of one kind in a container, from the id from on.
func containerRange(space format.ID, kind byte, container, from format.ID) (lower, upper []byte) {
	first := rowKey(space, kind, container, from)
	return first, after(first[:keySize-16])
}

// scanRows scans rows of containers and passes over keys of another length: nobody but an intruder writes one, and
// Verify tells of it.
func scanRows(r engine.Reader, from, to []byte) iter.Seq2[engine.Row, error] {
	return func(yield func(engine.Row, error) bool) {
		for row, err := range r.Scan(from, to) {
			if (err != nil || len(row.Key) == keySize) && !yield(row, err) {
				return
			}
		}
	}
}

// idAt returns the container and id that a page, nursery or record row's key names.
func idAt(key []byte) (container, id format.ID) {
	return format.ID(key[17:33]), format.ID(key[33:49])
}

// next returns the id after id, and false when there is none.
func next(id format.ID) (format.ID, bool) {
	for i := len(id) - 1; i >= 0; i-- {
		id[i]++
		if id[i] != 0 {
			return id, true
		}
	}
	return id, false
}
