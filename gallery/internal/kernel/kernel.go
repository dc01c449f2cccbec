// Package kernel compares probes with many rows of small integers at once: the inner loops of a search, in assembly
// where the processor has the instructions, and in Go, which says what the others must do to the bit.
//
// # Planes
//
// A row is a vector of codes of 16 bits, signed, in offset binary: code plus 32,768. Its bits are spread over four
// planes, and nothing of it is held anywhere else:
//
//	sketch  bits 15 and 14   0 to 3     2 bits a code
//	second  bits 13 and 12   0 to 3     2 bits a code
//	third   bits 11 to 8     0 to 15    4 bits a code
//	last    bits 7 to 0      0 to 255   8 bits a code
//
// The planes contribute separately to a sum of products with a probe's codes, so the sum over the upper bits of a row
// is the sum over fewer bits plus that of one more plane.
//
// The sketch comes in groups of 16 rows. A group is 16 marks, one a row, followed by vectors of 64 bytes: bits 2i and
// 2i+1 of byte 4r+k of vector j belong to code 16j+4i+k of row r. So a vector is loaded, split in four and multiplied
// with four codes of a probe in every lane, and lane r ends with the sum of row r: nothing is ever added across lanes.
//
// The others are one row after another. The second plane has the bytes of a row in the order of the sketch: bits 2i and
// 2i+1 of byte 4j+k belong to code 16j+4i+k. Byte 4j+k of the third plane holds the bits of code 8j+k in its lower half
// and those of code 8j+4+k in its upper one. Byte i of the last plane belongs to code i. Rows of the third and the last
// plane are multiples of 16 bytes long.
//
// A tile is the upper four bits of some groups, 0 to 15, or the upper eight, 0 to 255, taken apart for many probes to
// meet: of each group its marks, and vectors of 64 bytes of which byte 4r+k of vector j is code 4j+k of row r.
//
// Codes behind the last are zero in probes and on every plane.
//
// A mark is two numbers of 16 bits, never negative. With the weights of a Limit they give the least sum that a row must
// reach.
package kernel

import (
	"encoding/binary"
	"unsafe"
)

// Rows is the number of rows in a group.
const Rows = 16

// vectorBytes is the size of a vector of a group, and of a group's marks.
const vectorBytes = 64

// DimMost is the largest number of codes a row may have: sums of products of a code with one of 8 bits stay within 32
// bits in every lane.
const DimMost = 2048

// Words returns the number of vectors of a group of the sketch for dim codes a row: 16 codes each.
func Words(dim int) int { return (dim + 15) / 16 }

// SketchBytes returns the size of a group of the sketch.
func SketchBytes(dim int) int { return vectorBytes * (1 + Words(dim)) }

// SecondBytes returns the size of a row of the second plane.
func SecondBytes(dim int) int { return 4 * Words(dim) }

// ThirdBytes returns the size of a row of the third plane.
func ThirdBytes(dim int) int { return (4*((dim+7)/8) + 15) &^ 15 }

// LastBytes returns the size of a row of the last plane.
func LastBytes(dim int) int { return 16 * Words(dim) }

// TileBytes returns the size of a group in a tile.
func TileBytes(dim int) int { return vectorBytes * (1 + 4*Words(dim)) }

// Slack is the number of bytes behind the rows of a plane that a kernel may read, whatever they contain.
const Slack = 64

// Mark packs the two numbers that a plane stores of a row beside its codes, each 0 to 65,535. Those of marks that
// kernels compare are at most 32,767.
func Mark(first, second int) uint32 { return uint32(first) | uint32(second)<<16 }

// Limit says which rows pass: those for which Start plus the sum of products is at least (mark1·weight1 +
// mark2·weight2) >> Shift. The caller ensures that no sum in this comparison exceeds 32 bits.
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

// Never is a limit that no row passes.
func Never() Limit { return Limit{Start: -1 << 30} }

// threshold returns the least sum that passes for a row with that mark.
func (l *Limit) threshold(m uint32) int32 {
	return (int32(m&0xffff)*int32(int16(l.Weights)) + int32(m>>16)*int32(int16(l.Weights>>16))) >> l.Shift
}

// SetRow writes a row's mark and its bits of the sketch into row r of a group.
func SetRow(group []byte, r int, mark uint32, sketch []byte) {
	binary.LittleEndian.PutUint32(group[4*r:], mark)
	for at := 4 * r; len(sketch) > 0; sketch = sketch[4:] {
		at += vectorBytes
		copy(group[at:at+4], sketch[:4])
	}
}

// CopyRow copies row from of a group of the sketch over row to of another one.
func CopyRow(dst []byte, to int, src []byte, from int) {
	for at := 0; at < len(src); at += vectorBytes {
		copy(dst[at+4*to:][:4], src[at+4*from:])
	}
}

// ClearRow clears row r of a group. Such a row may still pass a scan: the caller of the scan knows which rows exist.
func ClearRow(group []byte, r int) {
	for at := 4 * r; at < len(group); at += vectorBytes {
		clear(group[at : at+4])
	}
}

// Hits are rows that passed. Where holds the number of the probe in its upper half and that of the row, counted from
// the first of the scan, in its lower half; Sums the sums that were compared with Limit; Backs, after Third, the sums
// over the third plane and Marks the marks that belong to it.
type Hits struct {
	Where []uint32
	Sums  []int32
	Backs []int32
	Marks []uint32
}

// NewHits returns room for the hits of a scan of rows by probes.
func NewHits(rows, probes int) *Hits {
	room := rows*probes + Rows // a kernel stores whole vectors
	return &Hits{
		Where: make([]uint32, 0, room), Sums: make([]int32, 0, room), Backs: make([]int32, room),
		Marks: make([]uint32, room),
	}
}

// Reset empties the hits.
func (h *Hits) Reset() { h.Where, h.Sums = h.Where[:0], h.Sums[:0] }

// Clear empties the hits and wipes their memory.
func (h *Hits) Clear() {
	h.Reset()
	for _, sums := range [][]int32{h.Sums, h.Backs} {
		clear(sums[:cap(sums)])
	}
	clear(h.Where[:cap(h.Where)])
	clear(h.Marks)
}

// Room returns for how many more hits there is room.
func (h *Hits) Room() int { return cap(h.Where) - Rows - len(h.Where) }

// Probes are vectors of codes of 8 bits that are compared with rows in one pass.
type Probes struct {
	Sketch []Limit // one a probe: the least sum that a row of the sketch must have. They may be changed between calls
	Upper  []Limit // the same over sketch and second plane together
	Eight  []Limit // and over these and the third

	n, dim int
	blocks []block // of the probes in order
	sketch []int8  // of each probe, its codes
	// of each probe, four rows of the second plane: the codes that are multiplied with the bits 0 and 1, 2 and 3, and
	// so on; and Slack
	second []int8
	// of each probe, two rows of the third plane: the codes that are multiplied with the lower halves, and with the
	// upper ones
	third []int8
}

// block is some probes that are compared with a tile together. Their codes are stored in the order of use: four of each
// probe for every vector.
type block struct {
	first, width int
	codes        []int8
}

// NewProbes prepares probes of dim codes each for a kernel. Codes are -127 to 127.
func (k *Kernel) NewProbes(dim int, codes [][]int8) *Probes {
	n, padded := len(codes), 16*Words(dim)
	p := &Probes{
		n: n, dim: dim, sketch: make([]int8, n*padded), second: make([]int8, n*4*SecondBytes(dim)+Slack),
		third: make([]int8, n*2*ThirdBytes(dim)),
	}
	for i, c := range codes {
		copy(p.sketch[i*padded:], c)
		second, third := p.second[i*4*SecondBytes(dim):], p.third[i*2*ThirdBytes(dim):]
		for d, code := range c {
			second[d/4%4*SecondBytes(dim)+d/16*4+d%4] = code
			third[d/4%2*ThirdBytes(dim)+d/8*4+d%4] = code
		}
	}
	limits := 0
	for at := 0; at < n; {
		width := k.width(n - at)
		b := block{first: at, width: width, codes: make([]int8, width*padded)}
		for i := range min(width, n-at) {
			for d, code := range codes[at+i] {
				b.codes[(d/4*width+i)*4+d%4] = code
			}
		}
		p.blocks = append(p.blocks, b)
		at += width
		limits = at
	}
	p.Sketch, p.Upper, p.Eight = make([]Limit, limits), make([]Limit, limits), make([]Limit, limits)
	for i := range limits {
		p.Sketch[i], p.Upper[i], p.Eight[i] = Never(), Never(), Never()
	}
	return p
}

// Clear wipes the probes' codes, after which they must not be used.
func (p *Probes) Clear() {
	for _, b := range p.blocks {
		clear(b.codes)
	}
	clear(p.sketch)
	clear(p.second)
	clear(p.third)
}

// ScanSketch compares n groups at the start of the sketch with probe i and sets hits.Where and hits.Sums to the rows
// that pass. Here hits.Where has no number of the probe in its upper half.
func (k *Kernel) ScanSketch(p *Probes, i int, sketch []byte, n int, hits *Hits) {
	hits.Reset()
	if n == 0 {
		return
	}
	if hits.Room() < n*Rows || n*Rows > 1<<16 {
		panic("kernel: no room for the hits of a sketch")
	}
	_ = sketch[n*SketchBytes(p.dim)-1]
	found := k.sketch(&sketch[0], n, Words(p.dim), &p.sketch[i*16*Words(p.dim)], &p.Sketch[i], &hits.Where[:1][0],
		&hits.Sums[:1][0])
	hits.Where, hits.Sums = hits.Where[:found], hits.Sums[:found]
}

// Second keeps those hits of ScanSketch by probe i that pass with the second plane as well, and sets their sums to
// those over both planes. plane and marks begin with the first row of the scan.
func (k *Kernel) Second(p *Probes, i int, plane []byte, marks []uint32, hits *Hits) {
	n := len(hits.Where)
	if n == 0 {
		return
	}
	// A sum of the sketch includes its limit's start: four times that is replaced by the other limit's start.
	add := p.Upper[i].Start - 4*p.Sketch[i].Start
	left := k.second(&plane[0], SecondBytes(p.dim), &marks[0], &hits.Where[0], &hits.Sums[0], n,
		&p.second[i*4*SecondBytes(p.dim)], &p.Upper[i], add)
	hits.Where, hits.Sums = hits.Where[:left], hits.Sums[:left]
}

// Tiles reports whether ScanUpper makes tiles for that many probes.
func (k *Kernel) Tiles(probes int) bool { return probes > 1 || k.upper == nil }

// ScanUpper compares n groups with every probe by sketch and second plane and adds those that pass to the hits, which
// must have room for them and for the groups that fill up a tile. sketch, second and marks begin with the first row;
// first is its number. tile is memory for a tile of them, needed if Tiles reports true. More groups may follow the n;
// the next call is expected to scan them.
func (k *Kernel) ScanUpper(p *Probes, sketch, second []byte, marks []uint32, n, first int, tile []byte, hits *Hits) {
	if !k.Tiles(p.n) && n > 0 {
		if hits.Room() < n*Rows || first+n*Rows > 1<<16 {
			panic("kernel: no room for the hits of a scan")
		}
		_, _, _ = sketch[n*SketchBytes(p.dim)-1], second[n*Rows*SecondBytes(p.dim)-1], marks[n*Rows-1]
		found := len(hits.Where)
		found += k.upper(&sketch[0], &second[0], &marks[0], n, Words(p.dim), &p.blocks[0].codes[0], &p.Upper[0],
			&hits.Where[:found+1][found], &hits.Sums[:found+1][found], uint32(first))
		hits.Where, hits.Sums = hits.Where[:found], hits.Sums[:found]
		return
	}
	if n > 0 {
		k.makeTile(p.dim, n, sketch, second, marks, tile)
		size, row := SketchBytes(p.dim), Rows*SecondBytes(p.dim)
		more := min(n, len(sketch)/size-n, len(second)/row-n)
		sketch, second = sketch[n*size:][:more*size], second[n*row:][:more*row]
		half1, half2 := len(sketch)/2, len(second)/2
		k.scanTile(p, p.Upper, tile, n, first, hits,
			[4][]byte{sketch[:half1], second[:half2], sketch[half1:], second[half2:]})
	}
}

// makeTile makes a tile of the first n groups of sketch, second plane and marks.
func (k *Kernel) makeTile(dim, n int, sketch, second []byte, marks []uint32, tile []byte) {
	_, _ = sketch[n*SketchBytes(dim)-1], second[n*Rows*SecondBytes(dim)-1]
	_, _ = marks[n*Rows-1], tile[n*TileBytes(dim)-1]
	k.tile(&sketch[0], &second[0], &marks[0], n, Words(dim), &tile[0])
}

// Eights reports whether ScanEight is available for that many probes.
func (k *Kernel) Eights(probes int) bool { return k.tile8 != nil && probes > 1 }

// ScanEight is ScanUpper by sketch, second and third plane at once, all of which begin with the first row, and with the
// marks that belong to these. It reads nearly twice as much memory, makes tiles in twice the time, and leaves a
// twentieth as many hits to look at.
func (k *Kernel) ScanEight(
	p *Probes, sketch, second, third []byte, marks []uint32, n, first int, tile []byte, hits *Hits,
) {
	if n == 0 {
		return
	}
	size, row2, row3 := SketchBytes(p.dim), Rows*SecondBytes(p.dim), Rows*ThirdBytes(p.dim)
	_, _, _, _, _ = sketch[n*size-1], second[n*row2-1], third[n*row3-1], marks[n*Rows-1], tile[n*TileBytes(p.dim)-1]
	k.tile8(&sketch[0], &second[0], &third[0], &marks[0], n, Words(p.dim), &tile[0])
	more := min(n, len(sketch)/size-n, len(second)/row2-n, len(third)/row3-n)
	next := third[n*row3:][:more*row3]
	k.scanTile(p, p.Eight, tile, n, first, hits, [4][]byte{
		next[:len(next)/2], sketch[n*size:][:more*size], next[len(next)/2:], second[n*row2:][:more*row2],
	})
}

// scanTile compares a tile of n groups with every probe, and leaves out the groups that fill it up to a multiple of
// TileGroups. Where the kernel can, it prefetches the memory of the next tile, a quarter with every fourth block of
// probes: prefetching all at once would stall.
func (k *Kernel) scanTile(p *Probes, limits []Limit, tile []byte, n, first int, hits *Hits, next [4][]byte) {
	whole, before := (n+TileGroups-1)/TileGroups*TileGroups, len(hits.Where)
	if hits.Room() < whole*Rows*p.n || first+whole*Rows > 1<<16 {
		panic("kernel: no room for the hits of a tile")
	}
	_ = tile[whole*TileBytes(p.dim)-1]
	found := before
	for i := range p.blocks {
		b := &p.blocks[i]
		where, sums := &hits.Where[:cap(hits.Where)][found], &hits.Sums[:cap(hits.Sums)][found]
		id := uint32(b.first)<<16 + uint32(first)
		switch b.width {
		case 1:
			found += k.scan1(&tile[0], whole, 4*Words(p.dim), &b.codes[0], &limits[b.first], where, sums, id)
		case 4:
			found += k.scan4(&tile[0], whole, 4*Words(p.dim), &b.codes[0], &limits[b.first], where, sums, id)
		case 8:
			quarter, part, parts := next[i%4], i/4, (len(p.blocks)-i%4+3)/4
			quarter = quarter[len(quarter)*part/parts : len(quarter)*(part+1)/parts]
			lines := (len(quarter)/64 + whole/2 - 1) / (whole / 2)
			found += k.scan8(&tile[0], whole, 4*Words(p.dim), &b.codes[0], &limits[b.first], where, sums, id,
				unsafe.SliceData(quarter), lines)
		}
	}
	hits.Where, hits.Sums = hits.Where[:found], hits.Sums[:found]
	if n == whole {
		return
	}
	kept := before
	for i := before; i < len(hits.Where); i++ {
		if int(hits.Where[i]&0xffff) < first+n*Rows {
			hits.Where[kept], hits.Sums[kept] = hits.Where[i], hits.Sums[i]
			kept++
		}
	}
	hits.Where, hits.Sums = hits.Where[:kept], hits.Sums[:kept]
}

// ScanTile compares n groups of a tile, a multiple of TileGroups, with every probe and adds those that pass by Upper to
// the hits, which must have room for them. first is the number of the tile's first row. A probe's hits are in the order
// of rows, interleaved with those of others.
func (k *Kernel) ScanTile(p *Probes, tile []byte, n, first int, hits *Hits) {
	if n > 0 {
		k.scanTile(p, p.Upper, tile, n, first, hits, [4][]byte{})
	}
}

// TileGroups divides the number of groups of every tile: kernels process that many at once. Groups that only fill up a
// tile may hold anything.
const TileGroups = 4

// Third sets hits.Backs to the sums of products of the third plane, and hits.Marks to the rows' marks. plane and marks
// begin with the row that hits.Where counts from.
func (k *Kernel) Third(p *Probes, plane []byte, marks []uint32, hits *Hits) {
	n := len(hits.Where)
	if n == 0 {
		return
	}
	k.third(&plane[0], ThirdBytes(p.dim), &marks[0], &hits.Where[0], n, &p.third[0], &hits.Backs[0], &hits.Marks[0])
}

// Dot returns the dot product of two vectors of codes of the same length, none of which is below -32,767.
func (k *Kernel) Dot(a, b []int16) (sum int64) {
	b = b[:len(a)]
	whole := len(a) &^ 15
	if whole > 0 {
		sum = k.dot(&a[0], &b[0], whole)
	}
	for i := whole; i < len(a); i++ {
		sum += int64(a[i]) * int64(b[i])
	}
	return sum
}
