package gallery

import (
	"unsafe"

	"github.com/visage-face/visage/gallery/internal/kernel"
	"github.com/visage-face/visage/internal/arena"
)

// row is what is known of a vector beside its numbers: 40 bytes a face.
type row struct {
	id, owner ID
	order     uint64
}

// rowBytes is the size of a row in memory.
const rowBytes = 16 + 16 + 8

// block holds vectors in memory that is not swapped or dumped and is wiped when it is given back: for all rows the
// sketch, then the front plane, then the back plane, then the marks that belong to it, then the numbers in full.
type block struct {
	memory    *arena.Buffer
	sketch    []byte    // kernel.SketchBytes for every kernel.Rows rows
	groups    []byte    // the front plane, kernel.GroupBytes for every kernel.Rows rows
	back      []byte    // the back plane, kernel.BackBytes a row
	backMarks []uint32  // one a row
	numbers   []float32 // dim a row
	rows      []row
}

// The sizes of blocks. Unless more is known a new block is a sixteenth of what is there, so that about as much of a
// gallery is unused at most, and bounded so that growing a large gallery never asks for much at once.
const mostRows = 64 << 10

// blockRows returns the size of the next block of a gallery of n rows that is known to become want.
func blockRows(n, want int) int {
	rows := max(n/16, 1)
	if want > n {
		rows = want - n
	}
	return min((rows+kernel.Rows-1)/kernel.Rows*kernel.Rows, mostRows)
}

// blockBytes returns the memory of a block.
func (c coding) blockBytes(rows int) int64 {
	sketch, groups, back := c.bytes(rows)
	return int64(sketch) + int64(groups) + int64(back) + int64(rows)*int64(4+4*c.dim+rowBytes)
}

// needs returns about how much memory the vectors that are expected need.
func (g *Gallery) needs() int64 {
	return g.coding.blockBytes((int(g.want.Load()) + kernel.Rows - 1) / kernel.Rows * kernel.Rows)
}

// newBlock makes an empty block for so many rows, a multiple of kernel.Rows.
func newBlock(rows int, c coding) (*block, error) {
	sketch, groups, back := c.bytes(rows)
	memory, err := arena.New(sketch + groups + back + rows*4 + rows*c.dim*4)
	if err != nil {
		return nil, err
	}
	b := &block{memory: memory, rows: make([]row, 0, rows)}
	all := memory.Bytes()
	b.sketch, all = all[:sketch:sketch], all[sketch:]
	b.groups, all = all[:groups:groups], all[groups:]
	b.back, all = all[:back:back], all[back:]
	// An arena begins at a page and every part is a multiple of 64 bytes long, so each is aligned for its kind; and none of
	// them holds a pointer.
	b.backMarks = unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(all))), rows)
	all = all[rows*4:]
	b.numbers = unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(all))), rows*c.dim)
	return b, nil
}

func (b *block) full() bool { return len(b.rows) == cap(b.rows) }

// vector returns the numbers of row i.
func (b *block) vector(i, dim int) []float32 { return b.numbers[i*dim : (i+1)*dim : (i+1)*dim] }

// group returns the group of row i on a plane with groups of that size.
func group(plane []byte, i, size int) []byte { return plane[i/kernel.Rows*size:][:size] }

// backRow returns the back plane's part of row i.
func (b *block) backRow(i, dim int) []byte {
	size := kernel.BackBytes(dim)
	return b.back[i*size : (i+1)*size]
}

// append adds a row; the block must not be full.
func (b *block) append(e *Entry, code *work) {
	i, dim := len(b.rows), len(code.vector)
	b.rows = append(b.rows, row{id: e.ID, owner: e.Owner, order: e.Order})
	kernel.SetRow(group(b.sketch, i, kernel.SketchBytes(dim)), i%kernel.Rows, code.sketchMark, code.sketch)
	kernel.SetRow(group(b.groups, i, kernel.GroupBytes(dim)), i%kernel.Rows, code.frontMark, code.front)
	copy(b.backRow(i, dim), code.back)
	b.backMarks[i] = code.backMark
	copy(b.vector(i, dim), code.vector)
}

// move copies the last row of a block over row to of this one, and takes it away there.
func (b *block) move(to int, last *block, dim int) {
	from := len(last.rows) - 1
	b.rows[to] = last.rows[from]
	for _, plane := range []struct {
		dst, src []byte
		size     int
	}{{b.sketch, last.sketch, kernel.SketchBytes(dim)}, {b.groups, last.groups, kernel.GroupBytes(dim)}} {
		src := group(plane.src, from, plane.size)
		kernel.CopyRow(group(plane.dst, to, plane.size), to%kernel.Rows, src, from%kernel.Rows)
		kernel.ClearRow(src, from%kernel.Rows)
	}
	copy(b.backRow(to, dim), last.backRow(from, dim))
	b.backMarks[to] = last.backMarks[from]
	copy(b.vector(to, dim), last.vector(from, dim))

	clear(last.backRow(from, dim))
	last.backMarks[from] = 0
	clear(last.vector(from, dim))
	last.rows[from] = row{}
	last.rows = last.rows[:from]
}

// free clears the block's memory and gives it back. Nothing may look at it any more.
func (b *block) free() {
	b.memory.Free()
	clear(b.rows[:cap(b.rows)])
	*b = block{}
}
