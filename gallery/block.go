package gallery

import (
	"unsafe"

	"github.com/visage-face/visage/gallery/internal/kernel"
	"github.com/visage-face/visage/internal/arena"
)

// row is the data of a vector beside its numbers: 40 bytes a face.
type row struct {
	id, owner ID
	order     uint64
}

// rowBytes is the size of a row in memory.
const rowBytes = 16 + 16 + 8

// block holds vectors in memory that is never swapped or dumped and is wiped when it is freed: the planes of their
// codes, one after another, with their marks, and the inverse length of each code.
type block struct {
	memory *arena.Buffer
	sketch []byte    // kernel.SketchBytes for every kernel.Rows rows, including marks
	second []byte    // kernel.SecondBytes a row
	upper  []uint32  // the marks of sketch and second plane together, one a row
	third  []byte    // kernel.ThirdBytes a row
	marks  []uint32  // the marks of these three planes together, one a row
	last   []byte    // kernel.LastBytes a row
	scales []float32 // one a row
	rows   []row
}

// The sizes of blocks. By default, a new block is a sixteenth of the gallery's rows, so that at most about that share
// is unused. The bound keeps a large gallery from allocating much at once.
const mostRows = 64 << 10

// blockRows returns the size of the next block of a gallery of n rows that is expected to grow to want rows.
func blockRows(n, want int) int {
	rows := max(n/16, 1)
	if want > n {
		rows = want - n
	}
	return min((rows+kernel.Rows-1)/kernel.Rows*kernel.Rows, mostRows)
}

// blockBytes returns the memory of a block.
func (c coding) blockBytes(rows int) int64 {
	return int64(c.planeBytes(rows)) + int64(rows)*rowBytes
}

// planeBytes returns the memory of the planes of that many rows, a multiple of kernel.Rows, with their marks. Kernels
// may read a little behind the last plane; behind the other planes the next one follows.
func (c coding) planeBytes(rows int) int {
	row := kernel.SecondBytes(c.dim) + kernel.ThirdBytes(c.dim) + kernel.LastBytes(c.dim) + 4 + 4 + 4
	return rows/kernel.Rows*kernel.SketchBytes(c.dim) + rows*row + kernel.Slack
}

// needs estimates the memory of the expected vectors.
func (g *Gallery) needs() int64 {
	return Size(g.coding.dim, int(g.want.Load()))
}

// Size returns about how much memory a gallery of so many vectors of dim numbers takes, in bytes.
func Size(dim, vectors int) int64 {
	return newCoding(dim).blockBytes((vectors + kernel.Rows - 1) / kernel.Rows * kernel.Rows)
}

// newBlock makes an empty block for a multiple of kernel.Rows rows.
func newBlock(rows int, c coding) (*block, error) {
	memory, err := arena.New(c.planeBytes(rows))
	if err != nil {
		return nil, err
	}
	b := &block{memory: memory, rows: make([]row, 0, rows)}
	all := memory.Bytes()
	take := func(n int) (part []byte) {
		part, all = all[:n:n], all[n:]
		return part
	}
	b.sketch = take(rows / kernel.Rows * kernel.SketchBytes(c.dim))
	b.upper, b.marks = numbers[uint32](take(4*rows)), numbers[uint32](take(4*rows))
	b.scales = numbers[float32](take(4 * rows))
	b.second, b.third = take(rows*kernel.SecondBytes(c.dim)), take(rows*kernel.ThirdBytes(c.dim))
	b.last = take(rows * kernel.LastBytes(c.dim))
	return b, nil
}

// numbers returns memory as numbers of four bytes. An arena begins at a page and every part of a block is a multiple of
// 64 bytes long, so each part is aligned for its type; none of the types holds a pointer.
func numbers[T uint32 | float32](b []byte) []T {
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

func (b *block) full() bool { return len(b.rows) == cap(b.rows) }

// group returns the group of row i of the sketch.
func (b *block) group(i, dim int) []byte {
	size := kernel.SketchBytes(dim)
	return b.sketch[i/kernel.Rows*size:][:size]
}

// line returns row i of a plane with rows of that size.
func line(plane []byte, i, size int) []byte { return plane[i*size : (i+1)*size : (i+1)*size] }

// append adds a row; the block must not be full.
func (b *block) append(e *Entry, w *work) {
	i, dim := len(b.rows), len(e.Code)/codeBytes
	b.rows = append(b.rows, row{id: e.ID, owner: e.Owner, order: e.Order})
	kernel.SetRow(b.group(i, dim), i%kernel.Rows, w.sketchMark, w.sketch)
	copy(line(b.second, i, kernel.SecondBytes(dim)), w.second)
	copy(line(b.third, i, kernel.ThirdBytes(dim)), w.third)
	copy(line(b.last, i, kernel.LastBytes(dim)), w.last)
	b.upper[i], b.marks[i], b.scales[i] = w.upperMark, w.mark, w.scale
}

// code puts the numbers of row i together.
func (b *block) code(i int, numbers []int16) {
	dim := len(numbers)
	kernel.Row(numbers, b.group(i, dim), i%kernel.Rows, line(b.second, i, kernel.SecondBytes(dim)),
		line(b.third, i, kernel.ThirdBytes(dim)), line(b.last, i, kernel.LastBytes(dim)))
}

// move copies the last row of a block over row to of this one, and removes it from that block.
func (b *block) move(to int, last *block, dim int) {
	from := len(last.rows) - 1
	b.rows[to] = last.rows[from]
	kernel.CopyRow(b.group(to, dim), to%kernel.Rows, last.group(from, dim), from%kernel.Rows)
	kernel.ClearRow(last.group(from, dim), from%kernel.Rows)
	for _, plane := range []struct {
		to, from []byte
		size     int
	}{
		{b.second, last.second, kernel.SecondBytes(dim)}, {b.third, last.third, kernel.ThirdBytes(dim)},
		{b.last, last.last, kernel.LastBytes(dim)},
	} {
		gone := line(plane.from, from, plane.size)
		copy(line(plane.to, to, plane.size), gone)
		clear(gone)
	}
	b.upper[to], b.marks[to], b.scales[to] = last.upper[from], last.marks[from], last.scales[from]
	last.upper[from], last.marks[from], last.scales[from] = 0, 0, 0
	last.rows[from] = row{}
	last.rows = last.rows[:from]
}

// free clears the block's memory and returns it. Nothing may use it afterwards.
func (b *block) free() {
	b.memory.Free()
	clear(b.rows[:cap(b.rows)])
	*b = block{}
}
