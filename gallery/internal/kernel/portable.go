package kernel

import "unsafe"

// A Kernel is one implementation of the loops.
type Kernel struct {
	// Name says which instructions it uses.
	Name string

	// scan1, scan4 and scan16 compare n groups with one, four or sixteen probes, store the hits, and return how many there
	// are. They may store up to 15 values behind the last. Where of row r for probe i is first + i<<16 + r.
	scan1, scan4, scan16 scanFunc
	// back computes the back plane's sums for n hits.
	back backFunc
}

type (
	scanFunc func(groups *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int
	backFunc func(plane *byte, rowBytes int, where *uint32, n int, codes *int8, backs *int32)
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

// Portable is the implementation in Go.
var portable = Kernel{Name: "portable", scan1: scanPortable, back: backPortable}

func scanPortable(
	groups *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32,
) (found int) {
	groupBytes := vectorBytes * (1 + vectors)
	all := unsafe.Slice(groups, n*groupBytes)
	probe := unsafe.Slice(codes, 8*vectors)
	wheres, out := unsafe.Slice(where, n*Rows), unsafe.Slice(sums, n*Rows)
	w1, w2 := int32(int16(limits.Weights)), int32(int16(limits.Weights>>16))
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
			m1 := int32(group[4*r]) | int32(group[4*r+1])<<8
			m2 := int32(group[4*r+2]) | int32(group[4*r+3])<<8
			if sum >= (m1*w1+m2*w2)>>limits.Shift {
				wheres[found], out[found] = first+uint32(g*Rows+r), sum
				found++
			}
		}
	}
	return found
}

func backPortable(plane *byte, rowBytes int, where *uint32, n int, codes *int8, backs *int32) {
	for i, at := range unsafe.Slice(where, n) {
		row := unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(plane), int(at&0xffff)*rowBytes)), rowBytes)
		probe := unsafe.Slice((*int8)(unsafe.Add(unsafe.Pointer(codes), int(at>>16)*2*rowBytes)), 2*rowBytes)
		lower, upper := probe[:rowBytes], probe[rowBytes:]
		sum := int32(0)
		for k, x := range row {
			sum += int32(x&15)*int32(lower[k]) + int32(x>>4)*int32(upper[k])
		}
		unsafe.Slice(backs, n)[i] = sum
	}
}
