package kernel

import (
	"encoding/binary"
	"unsafe"
)

// A Kernel is one implementation of the loops.
type Kernel struct {
	// Name names the instructions in use.
	Name string

	// sketch stores the numbers and the sums of the rows of n groups that pass, and returns how many there are. It may
	// store up to 15 values behind the last.
	sketch sketchFunc
	// second keeps those of n hits that pass, and returns how many there are. The threshold is limit's, of a sum that
	// is four times the hit's, the second plane's and add. It may read 16 values behind the last hit.
	second secondFunc
	// upper compares n groups with one probe, by sketch and second plane at once, stores the hits, and returns how many
	// there are. It may store up to 15 values behind the last. nil: tiles are used for one probe as well.
	upper upperFunc
	// tile makes a tile of n groups of words vectors in the sketch.
	tile func(sketch, second *byte, marks *uint32, n, words int, tile *byte)
	// tile8 makes a tile of the upper eight bits, with the marks that belong to them. nil: scans use at most four bits.
	tile8 func(sketch, second, third *byte, marks *uint32, n, words int, tile *byte)
	// scan1, scan4 and scan8 compare n groups of a tile, a multiple of TileGroups, with one, four or eight probes,
	// store the hits, and return how many there are. They may store up to 15 values behind the last. Where of row r for
	// probe i is first + i<<16 + r. Meanwhile scan8 prefetches the memory from next on, the given number of lines of 64
	// bytes with every two groups.
	scan1, scan4 scanFunc
	scan8        scan8Func
	// third computes the third plane's sums for n hits and copies their marks. It may read 16 values behind the last
	// hit.
	third thirdFunc
	// dot is Dot for n numbers, a multiple of 16 and not zero.
	dot func(a, b *int16, n int) int64
	// code is Code for n codes, a multiple of 32 and not zero.
	code codeFunc
}

type (
	sketchFunc func(groups *byte, n, vectors int, codes *int8, limit *Limit, where *uint32, sums *int32) int
	secondFunc func(plane *byte, rowBytes int, marks, where *uint32, sums *int32, n int, codes *int8, limit *Limit,
		add int32) int
	upperFunc func(
		sketch, second *byte, marks *uint32, n, words int, codes *int8, limit *Limit, where *uint32, sums *int32,
		first uint32,
	) int
	scan8Func func(
		tile *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32, next *byte,
		lines int,
	) int
	scanFunc  func(tile *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int
	thirdFunc func(plane *byte, rowBytes int, marks, where *uint32, n int, codes *int8, backs *int32, out *uint32)
	codeFunc  func(codes *byte, n int, sketch, second, third, last *byte, out *Coded)
)

// width returns how many of the remaining probes are best compared together.
func (k *Kernel) width(left int) int {
	switch {
	case k.scan8 != nil && left > 4:
		return 8
	case k.scan4 != nil && left > 1:
		return 4
	}
	return 1
}

// portable is the implementation in Go.
var portable = Kernel{
	Name: "portable", sketch: sketchPortable, second: secondPortable, tile: tilePortable, tile8: tile8Portable,
	scan1: scanPortable, third: thirdPortable, dot: dotPortable, code: codePortable,
}

func sketchPortable(groups *byte, n, vectors int, codes *int8, limit *Limit, where *uint32, sums *int32) (found int) {
	groupBytes := vectorBytes * (1 + vectors)
	all := slice(groups, n*groupBytes)
	probe, wheres, out := slice(codes, 16*vectors), slice(where, n*Rows), slice(sums, n*Rows)
	for g := range n {
		group := all[g*groupBytes : (g+1)*groupBytes]
		for r := range Rows {
			sum := limit.Start
			for j := range vectors {
				sum += twoBits(group[vectorBytes*(1+j)+4*r:][:4], probe[16*j:][:16])
			}
			if sum >= limit.threshold(rowMark(group, r)) {
				wheres[found], out[found] = uint32(g*Rows+r), sum
				found++
			}
		}
	}
	return found
}

// twoBits is the sum of products of 16 codes of two bits with those of a probe.
func twoBits(b []byte, u []int8) (sum int32) {
	for k, x := range b {
		sum += int32(x&3)*int32(u[k]) + int32(x>>2&3)*int32(u[4+k]) + int32(x>>4&3)*int32(u[8+k]) +
			int32(x>>6)*int32(u[12+k])
	}
	return sum
}

func rowMark(group []byte, r int) uint32 { return binary.LittleEndian.Uint32(group[4*r:]) }

func secondPortable(
	plane *byte, rowBytes int, marks, where *uint32, sums *int32, n int, codes *int8, limit *Limit, add int32,
) (left int) {
	probe, wheres, all := slice(codes, 4*rowBytes), slice(where, n), slice(sums, n)
	for i, at := range wheres {
		row := slice((*byte)(unsafe.Add(unsafe.Pointer(plane), int(at)*rowBytes)), rowBytes)
		sum := 4*all[i] + add
		for k, x := range row {
			sum += int32(x&3)*int32(probe[k]) + int32(x>>2&3)*int32(probe[rowBytes+k]) +
				int32(x>>4&3)*int32(probe[2*rowBytes+k]) + int32(x>>6)*int32(probe[3*rowBytes+k])
		}
		if sum >= limit.threshold(*(*uint32)(unsafe.Add(unsafe.Pointer(marks), 4*int(at)))) {
			wheres[left], all[left] = at, sum
			left++
		}
	}
	return left
}

func tilePortable(sketch, second *byte, marks *uint32, n, words int, tile *byte) {
	groupBytes, tileBytes := vectorBytes*(1+words), vectorBytes*(1+4*words)
	groups, rows, mark := slice(sketch, n*groupBytes), slice(second, n*Rows*4*words), slice(marks, n*Rows)
	out := slice(tile, n*tileBytes)
	for g := range n {
		group, to := groups[g*groupBytes:][:groupBytes], out[g*tileBytes:][:tileBytes]
		for r := range Rows {
			binary.LittleEndian.PutUint32(to[4*r:], mark[g*Rows+r])
			for j := range words {
				upper := group[vectorBytes*(1+j)+4*r:][:4]
				lower := rows[(g*Rows+r)*4*words+4*j:][:4]
				for k := range 4 {
					for i := range 4 {
						to[vectorBytes*(1+4*j+i)+4*r+k] = upper[k]>>(2*i)&3<<2 | lower[k]>>(2*i)&3
					}
				}
			}
		}
	}
}

func tile8Portable(sketch, second, third *byte, marks *uint32, n, words int, tile *byte) {
	tilePortable(sketch, second, marks, n, words, tile)
	tileBytes, rowBytes := vectorBytes*(1+4*words), (8*words+15)&^15
	rows, out := slice(third, n*Rows*rowBytes), slice(tile, n*tileBytes)
	for g := range n {
		codes := out[g*tileBytes+vectorBytes:][:tileBytes-vectorBytes]
		for r := range Rows {
			for j := range 4 * words {
				for k, x := range rows[(g*Rows+r)*rowBytes+j/2*4:][:4] {
					code := &codes[vectorBytes*j+4*r+k]
					*code = *code<<4 | x>>(j%2*4)&15
				}
			}
		}
	}
}

func scanPortable(
	tile *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32,
) (found int) {
	groupBytes := vectorBytes * (1 + vectors)
	all := slice(tile, n*groupBytes)
	probe := slice(codes, 4*vectors)
	wheres, out := slice(where, n*Rows), slice(sums, n*Rows)
	for g := range n {
		group := all[g*groupBytes : (g+1)*groupBytes]
		for r := range Rows {
			sum := limits.Start
			for j := range vectors {
				b, u := group[vectorBytes*(1+j)+4*r:][:4], probe[4*j:][:4]
				sum += int32(b[0])*int32(u[0]) + int32(b[1])*int32(u[1]) + int32(b[2])*int32(u[2]) +
					int32(b[3])*int32(u[3])
			}
			if sum >= limits.threshold(rowMark(group, r)) {
				wheres[found], out[found] = first+uint32(g*Rows+r), sum
				found++
			}
		}
	}
	return found
}

func thirdPortable(plane *byte, rowBytes int, marks, where *uint32, n int, codes *int8, backs *int32, out *uint32) {
	for i, at := range slice(where, n) {
		r := int(at & 0xffff)
		row := slice((*byte)(unsafe.Add(unsafe.Pointer(plane), r*rowBytes)), rowBytes)
		probe := slice((*int8)(unsafe.Add(unsafe.Pointer(codes), int(at>>16)*2*rowBytes)), 2*rowBytes)
		lower, upper := probe[:rowBytes], probe[rowBytes:]
		sum := int32(0)
		for k, x := range row {
			sum += int32(x&15)*int32(lower[k]) + int32(x>>4)*int32(upper[k])
		}
		slice(backs, n)[i] = sum
		slice(out, n)[i] = *(*uint32)(unsafe.Add(unsafe.Pointer(marks), 4*r))
	}
}

func dotPortable(a, b *int16, n int) (sum int64) {
	x, y := slice(a, n), slice(b, n)
	for i, v := range x {
		sum += int64(v) * int64(y[i])
	}
	return sum
}

func codePortable(codes *byte, n int, sketch, second, third, last *byte, out *Coded) {
	codeRest(slice(codes, 2*n), slice(sketch, n/4), slice(second, n/4), slice(third, n/2), slice(last, n), out)
}

// slice returns n values beginning at p.
func slice[T any](p *T, n int) []T { return unsafe.Slice(p, n) }
