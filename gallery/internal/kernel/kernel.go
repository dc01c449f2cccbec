// Package kernel compares probes with many rows of small integers at once: the inner loops of a search, in assembly where
// the processor has the instructions, and in Go, which says what the others must do to the bit.
//
// # Layout
//
// A row is a vector of codes of eight bits. Their upper halves form the front plane, which every search reads, their
// lower halves the back plane, which is read for the few rows that the front plane does not rule out.
//
// Beside them stands the sketch, of codes of two bits that are made for it alone, which tells a search with one probe that
// wants only what is near enough without the planes.
//
// The front plane comes in groups of 16 rows. A group is 16 marks, one a row, followed by vectors of 64 bytes: bytes 4r
// to 4r+3 of vector j belong to row r and hold the upper halves, as 0 to 15, of its codes 8j to 8j+3 in the lower
// nibbles and of its codes 8j+4 to 8j+7 in the upper ones. So a vector is loaded, split in two and multiplied with four
// codes of a probe in every lane, and lane r ends with the sum of row r: nothing is ever added across lanes.
//
// The sketch is made the same way: bits 2i and 2i+1 of byte 4r+k of vector j are code 16j+4i+k of row r.
//
// A mark is two numbers of 16 bits, never negative. With the weights of a Limit they say what a row's sum must reach.
//
// The back plane is one row after another, each of a multiple of 16 bytes: byte 4j+k holds the lower halves of codes
// 8j+k and 8j+4+k. Codes behind the last are zero, in rows and probes alike.
package kernel

import "encoding/binary"

// Rows is the number of rows in a group of the front plane.
const Rows = 16

// vectorBytes is the size of a vector of the front plane, and of a group's marks.
const vectorBytes = 64

// Vectors returns the number of vectors that hold so many codes a row.
func Vectors(dim int) int { return (dim + 7) / 8 }

// GroupBytes returns the size of a group of the front plane.
func GroupBytes(dim int) int { return vectorBytes * (1 + Vectors(dim)) }

// SketchBytes returns the size of a group of the sketch.
func SketchBytes(dim int) int { return vectorBytes * (1 + sketchVectors(dim)) }

func sketchVectors(dim int) int { return (dim + 15) / 16 }

// BackBytes returns the size of a row of the back plane.
func BackBytes(dim int) int { return (4*Vectors(dim) + 15) &^ 15 }

// Mark packs the two numbers that the front plane keeps of a row beside its codes, each 0 to 32,767.
func Mark(first, second int) uint32 { return uint32(first) | uint32(second)<<16 }

// Limit says which rows pass a scan: those for which Start plus the sum of products is at least
// (mark1·weight1 + mark2·weight2) >> Shift. No sum that is formed here may leave 32 bits; that is the caller's duty.
type Limit struct {
	Weights uint32 // two signed numbers of 16 bits, the lower half for the first of a mark
	Start   int32
	Shift   uint32 // 0 to 31
	_       uint32
}

// Weights packs the two weights of a Limit.
func Weights(first, second int) uint32 {
	return uint32(uint16(int16(first))) | uint32(uint16(int16(second)))<<16
}

// Passes says whether a row with that mark passes with a sum.
func (l *Limit) Passes(sum int32, mark uint32) bool { return sum >= l.threshold(mark) }

// RowMark returns the mark of row r of a group of the front plane or the sketch.
func RowMark(group []byte, r int) uint32 { return binary.LittleEndian.Uint32(group[4*r:]) }

// Never is a limit that no row passes.
func Never() Limit { return Limit{Start: -1 << 30} }

// Pack splits a row's codes, plus 128, into what the two planes keep of them: four bytes a vector for the front plane,
// BackBytes for the back plane. codes is a multiple of 16 long and zero behind the last code.
func Pack(codes, front, back []byte) {
	clear(back)
	for j := 0; j < len(front); j += 4 {
		low, high := binary.LittleEndian.Uint32(codes[2*j:]), binary.LittleEndian.Uint32(codes[2*j+4:])
		binary.LittleEndian.PutUint32(front[j:], low>>4&0x0f0f0f0f|high&0xf0f0f0f0)
		binary.LittleEndian.PutUint32(back[j:], low&0x0f0f0f0f|high&0x0f0f0f0f<<4)
	}
}

// PackSketch packs a row's codes for the sketch, 0 to 3: four bytes for every 16. codes is a multiple of 16 long and zero
// behind the last code.
func PackSketch(codes, sketch []byte) {
	for j := 0; j < len(sketch); j += 4 {
		c := codes[4*j:][:16]
		binary.LittleEndian.PutUint32(sketch[j:], binary.LittleEndian.Uint32(c)|binary.LittleEndian.Uint32(c[4:])<<2|
			binary.LittleEndian.Uint32(c[8:])<<4|binary.LittleEndian.Uint32(c[12:])<<6)
	}
}

// SetRow writes a row's mark and what was packed for the plane into row r of a group of the front plane or the sketch.
func SetRow(group []byte, r int, mark uint32, front []byte) {
	binary.LittleEndian.PutUint32(group[4*r:], mark)
	for at := 4 * r; len(front) > 0; front = front[4:] {
		at += vectorBytes
		copy(group[at:at+4], front[:4])
	}
}

// CopyRow copies row from of a group over row to of another one of the same plane.
func CopyRow(dst []byte, to int, src []byte, from int) {
	for at := 0; at < len(src); at += vectorBytes {
		copy(dst[at+4*to:][:4], src[at+4*from:])
	}
}

// ClearRow removes what a group holds of row r. Such a row may still pass a scan: who scans knows which rows there are.
func ClearRow(group []byte, r int) {
	for at := 4 * r; at < len(group); at += vectorBytes {
		clear(group[at : at+4])
	}
}

// Hits are the rows that passed a scan. Where holds the number of the probe in its upper half and that of the row,
// counted from the first group of the scan, in its lower half; Sums what Limit was compared with; Backs, after Back, the
// sums over the back plane and Marks the marks that belong to it.
type Hits struct {
	Where []uint32
	Sums  []int32
	Backs []int32
	Marks []uint32
}

// NewHits returns room for the hits of a scan of so many rows by so many probes.
func NewHits(rows, probes int) *Hits {
	room := rows*probes + Rows // a kernel stores whole vectors
	return &Hits{
		Where: make([]uint32, 0, room), Sums: make([]int32, 0, room), Backs: make([]int32, room), Marks: make([]uint32, room),
	}
}

// Probes are vectors of codes that are compared with rows in one pass.
type Probes struct {
	Limits []Limit // one a probe; may be changed between scans
	Sketch Limit   // the same for Sketch, of a single probe

	n, dim int
	blocks []block
	sketch []int8 // of a single probe
	back   []int8 // of each probe: what meets lower nibbles of the back plane, then what meets upper ones
}

// block is a number of probes that a kernel takes together.
type block struct {
	first, width int
	codes        []int8 // for each vector, of each probe, eight codes
}

// NewProbes prepares probes of dim codes each, of which -128 is not one, for a kernel.
func (k *Kernel) NewProbes(dim int, codes [][]int8) *Probes {
	p := &Probes{n: len(codes), dim: dim, back: make([]int8, 2*BackBytes(dim)*len(codes))}
	for at := 0; at < p.n; {
		width := k.width(p.n - at)
		b := block{first: at, width: width, codes: make([]int8, width*8*Vectors(dim))}
		for i := range min(width, p.n-at) {
			for d, code := range codes[at+i] {
				b.codes[(d/8*width+i)*8+d%8] = code
				p.back[(2*(at+i)+d/4%2)*BackBytes(dim)+d/8*4+d%4] = code
			}
		}
		p.blocks = append(p.blocks, b)
		at += width
	}
	if p.n == 1 {
		p.sketch = make([]int8, 16*sketchVectors(dim))
		copy(p.sketch, codes[0])
	}
	last := p.blocks[len(p.blocks)-1]
	p.Limits = make([]Limit, last.first+last.width)
	for i := range p.Limits {
		p.Limits[i] = Never()
	}
	return p
}

// Len returns the number of probes.
func (p *Probes) Len() int { return p.n }

// Scan compares n groups at the start of groups with every probe and sets hits to those that pass. A probe's hits are in
// the order of rows, mixed with those of other probes. hits must have room for them.
func (k *Kernel) Scan(p *Probes, groups []byte, n int, hits *Hits) {
	hits.Where, hits.Sums = hits.Where[:0], hits.Sums[:0]
	if n == 0 {
		return
	}
	_ = groups[n*GroupBytes(p.dim)-1]
	if room := n*Rows*p.n + Rows; cap(hits.Where) < room || n*Rows > 1<<16 {
		panic("kernel: no room for the hits of a scan")
	}
	found := 0
	for i := range p.blocks {
		b := &p.blocks[i]
		scan := k.scan1
		switch b.width {
		case 4:
			scan = k.scan4
		case 16:
			scan = k.scan16
		}
		found += scan(&groups[0], n, Vectors(p.dim), &b.codes[0], &p.Limits[b.first],
			&hits.Where[:cap(hits.Where)][found], &hits.Sums[:cap(hits.Sums)][found], uint32(b.first)<<16)
	}
	hits.Where, hits.Sums = hits.Where[:found], hits.Sums[:found]
}

// Sketch compares n groups at the start of the sketch with a single probe and sets hits.Where and hits.Sums to the rows that
// pass the probes' Sketch.
func (k *Kernel) Sketch(p *Probes, sketch []byte, n int, hits *Hits) {
	hits.Where, hits.Sums = hits.Where[:0], hits.Sums[:0]
	if n == 0 {
		return
	}
	if p.n != 1 || cap(hits.Where) < (n+1)*Rows {
		panic("kernel: no room for the hits of a sketch")
	}
	_ = sketch[n*SketchBytes(p.dim)-1]
	found := k.sketch(&sketch[0], n, sketchVectors(p.dim), &p.sketch[0], &p.Sketch, &hits.Where[:1][0],
		&hits.Sums[:1][0])
	hits.Where, hits.Sums = hits.Where[:found], hits.Sums[:found]
}

// Prefetch asks for memory that will be read soon.
func (k *Kernel) Prefetch(v []float32) { k.prefetch(&v[0], 4*len(v)) }

// Back sets hits.Backs to the sums of products of the back plane, and hits.Marks to the rows' marks. plane and marks begin
// with the first row of the scan.
func (k *Kernel) Back(p *Probes, plane []byte, marks []uint32, hits *Hits) {
	n := len(hits.Where)
	if n == 0 {
		return
	}
	k.back(&plane[0], BackBytes(p.dim), &marks[0], &hits.Where[0], n, &p.back[0], &hits.Backs[0], &hits.Marks[0])
}

// Dot returns the dot product of two vectors of the same length. Products of two float32 are exact in float64. Those of
// every eighth number are added in order, the eight sums ((0+1)+(2+3))+((4+5)+(6+7)), and what is left of a length that is
// no multiple of eight in order: so all kernels return the same.
func (k *Kernel) Dot(a, b []float32) (sum float64) {
	b = b[:len(a)]
	whole := len(a) &^ 7
	if whole > 0 {
		sum = k.dot(&a[0], &b[0], whole)
	}
	for i := whole; i < len(a); i++ {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

// Clear wipes the probes' codes, after which they must not be used.
func (p *Probes) Clear() {
	for _, b := range p.blocks {
		clear(b.codes)
	}
	clear(p.sketch)
	clear(p.back)
}
