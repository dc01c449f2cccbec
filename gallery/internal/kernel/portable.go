package kernel

import (
	"unsafe"
)

// A Kernel is one implementation of the loops.
type Kernel struct {
	// Name says which instructions it uses.
	Name string

	// scan1, scan4 and scan16 compare n groups with one, four or sixteen probes, store the hits, and return how many there
	// are. They may store up to 15 values behind the last. Where of row r for probe i is first + i<<16 + r.
	scan1, scan4, scan16 scanFunc
	// sketch stores the numbers and the sums of the rows of n groups that pass, and returns how many there are. It may store up to 15
	// values behind the last.
	sketch sketchFunc
	// back computes the back plane's sums for n hits and copies their marks. It may read 16 values behind the last hit.
	back backFunc
	// dot is Dot for n numbers, a multiple of eight and not zero.
	dot func(a, b *float32, n int) float64
	// peak and code are Peak and Code for n numbers, a multiple of eight and not zero.
	peak func(v *float32, n int) float32
	code func(v *float32, n int, scale, cell float32, codes, sketch *byte, along *[3]float64, long *[3]int32)
	// prefetch asks for n bytes that will be read soon.
	prefetch func(p *float32, n int)
}

type (
	scanFunc   func(groups *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int
	sketchFunc func(groups *byte, n, vectors int, codes *int8, limit *Limit, where *uint32, sums *int32) int
	backFunc   func(plane *byte, rowBytes int, marks, where *uint32, n int, codes *int8, backs *int32, out *uint32)
)

// width returns how many of so many probes are best taken together.
func (k *Kernel) width(left int) int {
	switch {
	case k.scan16 != nil && left > 12:
		return 16
	case k.scan4 != nil && left > 1:
		return 4
	}
	return 1
}

// portable is the implementation in Go.
var portable = Kernel{
	Name: "portable", scan1: scanPortable, sketch: sketchPortable, back: backPortable, dot: dotPortable,
	peak: peakPortable, code: codePortable, prefetch: func(*float32, int) {},
}

func scanPortable(
	groups *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32,
) (found int) {
	groupBytes := vectorBytes * (1 + vectors)
	all := slice(groups, n*groupBytes)
	probe := slice(codes, 8*vectors)
	wheres, out := slice(where, n*Rows), slice(sums, n*Rows)
	for g := range n {
		group := all[g*groupBytes : (g+1)*groupBytes]
		for r := range Rows {
			sum := limits.Start
			for j := range vectors {
				b := group[vectorBytes*(1+j)+4*r:][:4]
				u := probe[8*j:][:8]
				for k, x := range b {
					sum += int32(x&15)*int32(u[k]) + int32(x>>4)*int32(u[4+k])
				}
			}
			if sum >= limits.threshold(RowMark(group, r)) {
				wheres[found], out[found] = first+uint32(g*Rows+r), sum
				found++
			}
		}
	}
	return found
}

// threshold returns what the sum of the row with that mark must reach.
func (l *Limit) threshold(m uint32) int32 {
	return (int32(m&0xffff)*int32(int16(l.Weights)) + int32(m>>16)*int32(int16(l.Weights>>16))) >> l.Shift
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
				b := group[vectorBytes*(1+j)+4*r:][:4]
				u := probe[16*j:][:16]
				for k, x := range b {
					sum += int32(x&3)*int32(u[k]) + int32(x>>2&3)*int32(u[4+k]) + int32(x>>4&3)*int32(u[8+k]) +
						int32(x>>6)*int32(u[12+k])
				}
			}
			if sum >= limit.threshold(RowMark(group, r)) {
				wheres[found], out[found] = uint32(g*Rows+r), sum
				found++
			}
		}
	}
	return found
}

func backPortable(plane *byte, rowBytes int, marks, where *uint32, n int, codes *int8, backs *int32, out *uint32) {
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

func dotPortable(a, b *float32, n int) float64 {
	x, y := slice(a, n), slice(b, n)
	var s0, s1, s2, s3, s4, s5, s6, s7 float64
	for len(x) >= 8 && len(y) >= 8 {
		s0 += float64(x[0]) * float64(y[0])
		s1 += float64(x[1]) * float64(y[1])
		s2 += float64(x[2]) * float64(y[2])
		s3 += float64(x[3]) * float64(y[3])
		s4 += float64(x[4]) * float64(y[4])
		s5 += float64(x[5]) * float64(y[5])
		s6 += float64(x[6]) * float64(y[6])
		s7 += float64(x[7]) * float64(y[7])
		x, y = x[8:], y[8:]
	}
	return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))
}

// slice returns n values beginning at p.
func slice[T any](p *T, n int) []T { return unsafe.Slice(p, n) }
