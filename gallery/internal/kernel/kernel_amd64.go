//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

// Available returns the kernels that this processor can run, the best first; the last is the portable one.
func Available() []*Kernel {
	var all []*Kernel
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL &&
		cpu.X86.HasAVX512VNNI &&
		cpu.X86.HasPOPCNT && cpu.X86.HasAVX2 {
		all = append(all, &Kernel{
			Name: "AVX-512 VNNI", sketch: sketchAVX512, second: secondVNNI, upper: upperAVX512, tile: tileAVX512,
			tile8: tile8AVX512, scan1: scanAVX512, scan4: scan4AVX512, scan8: scan8AVX512, third: thirdAVX512,
			dot: dotAVX2, code: codeAVX2,
		})
	}
	if cpu.X86.HasAVX2 {
		all = append(all, &Kernel{
			Name: "AVX2", sketch: sketchAVX2, second: secondAVX2, tile: tileAVX2, scan1: scanAVX2, scan4: scan4AVX2,
			third: thirdAVX2, dot: dotAVX2, code: codeAVX2,
		})
	}
	return append(all, &portable)
}

// secondVNNI leaves short rows to AVX2: a vector of 64 bytes that begins with such a row also touches the next cache
// line, even where the load is masked out.
func secondVNNI(
	plane *byte, rowBytes int, marks, where *uint32, sums *int32, n int, codes *int8, limit *Limit, add int32,
) int {
	if rowBytes <= 32 {
		return secondAVX2(plane, rowBytes, marks, where, sums, n, codes, limit, add)
	}
	return secondAVX512(plane, rowBytes, marks, where, sums, n, codes, limit, add)
}

//go:noescape
func sketchAVX512(groups *byte, n, vectors int, codes *int8, limit *Limit, where *uint32, sums *int32) int

//go:noescape
func secondAVX512(
	plane *byte, rowBytes int, marks, where *uint32, sums *int32, n int, codes *int8, limit *Limit, add int32,
) int

//go:noescape
func upperAVX512(
	sketch, second *byte, marks *uint32, n, words int, codes *int8, limit *Limit, where *uint32, sums *int32,
	first uint32,
) int

//go:noescape
func tileAVX512(sketch, second *byte, marks *uint32, n, words int, tile *byte)

//go:noescape
func tile8AVX512(sketch, second, third *byte, marks *uint32, n, words int, tile *byte)

//go:noescape
func scanAVX512(tile *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int

//go:noescape
func scan4AVX512(tile *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int

//go:noescape
func scan8AVX512(
	tile *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32, next *byte,
	lines int,
) int

//go:noescape
func thirdAVX512(plane *byte, rowBytes int, marks, where *uint32, n int, codes *int8, backs *int32, out *uint32)

//go:noescape
func sketchAVX2(groups *byte, n, vectors int, codes *int8, limit *Limit, where *uint32, sums *int32) int

//go:noescape
func secondAVX2(
	plane *byte, rowBytes int, marks, where *uint32, sums *int32, n int, codes *int8, limit *Limit, add int32,
) int

//go:noescape
func tileAVX2(sketch, second *byte, marks *uint32, n, words int, tile *byte)

//go:noescape
func scanAVX2(tile *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int

//go:noescape
func scan4AVX2(tile *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int

//go:noescape
func thirdAVX2(plane *byte, rowBytes int, marks, where *uint32, n int, codes *int8, backs *int32, out *uint32)

//go:noescape
func codeAVX2(codes *byte, n int, sketch, second, third, last *byte, out *Coded)

//go:noescape
func dotAVX2(a, b *int16, n int) int64
