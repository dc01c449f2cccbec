package gallery

import (
	"unsafe"

	"github.com/visage-face/visage/internal/arena"
)

// row is what is known of a vector beside its numbers: 40 bytes a face.
type row struct {
	id, owner ID
	order     uint64
}

// rowBytes is the size of a row in memory.
const rowBytes = 16 + 16 + 8

// block holds vectors one after another, in memory that is not swapped or dumped and is wiped when it is given back.
type block struct {
	memory  *arena.Buffer
	numbers []float32 // the memory, as cap(rows) vectors
	rows    []row
}

// The sizes of blocks. A new block is an eighth of what is there, so about a ninth of a gallery is unused at most. They
// come in steps of rows that fill whole pages when the vectors' length is a multiple of 64, and are bounded so that
// loading a large gallery never asks for much at once.
const (
	stepRows = 16
	mostRows = 64 << 10
)

// blockRows returns the size of the next block of a gallery of n rows.
func blockRows(n int) int {
	return min(max((n/8+stepRows-1)/stepRows, 1)*stepRows, mostRows)
}

// blockBytes returns the memory of a block.
func blockBytes(rows, dim int) int64 { return int64(rows) * (int64(dim)*4 + rowBytes) }

// newBlock makes an empty block for so many rows.
func newBlock(rows, dim int) (*block, error) {
	memory, err := arena.New(rows * dim * 4)
	if err != nil {
		return nil, err
	}
	// An arena begins at a page, so it is aligned for any number; and a float32 holds no pointer.
	numbers := unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(memory.Bytes()))), rows*dim)
	return &block{memory: memory, numbers: numbers, rows: make([]row, 0, rows)}, nil
}

func (b *block) full() bool { return len(b.rows) == cap(b.rows) }

// vector returns the numbers of row i.
func (b *block) vector(i, dim int) []float32 { return b.numbers[i*dim : (i+1)*dim : (i+1)*dim] }

// append adds a row; the block must not be full.
func (b *block) append(e Entry) {
	i := len(b.rows)
	b.rows = append(b.rows, row{id: e.ID, owner: e.Owner, order: e.Order})
	copy(b.vector(i, len(e.Vector)), e.Vector)
}

// free clears the block's memory and gives it back. Nothing may look at the numbers any more.
func (b *block) free() {
	b.memory.Free()
	clear(b.rows[:cap(b.rows)])
	b.memory, b.numbers, b.rows = nil, nil, nil
}
