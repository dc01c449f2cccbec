//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

// Available returns the kernels that this processor can run, the best first; the last is the portable one.
func Available() []*Kernel {
	if !cpu.ARM64.HasASIMDDP {
		return []*Kernel{&portable}
	}
	neon := &Kernel{
		Name: "NEON", sketch: sketchNEON, second: secondNEON, tile: tileNEON, scan1: scanNEON, scan4: scan4NEON,
		third: thirdNEON, dot: dotNEON, code: codeNEON,
	}
	return []*Kernel{neon, &portable}
}

//go:noescape
func sketchNEON(groups *byte, n, vectors int, codes *int8, limit *Limit, where *uint32, sums *int32) int

//go:noescape
func secondNEON(
	plane *byte, rowBytes int, marks, where *uint32, sums *int32, n int, codes *int8, limit *Limit, add int32,
) int

//go:noescape
func tileNEON(sketch, second *byte, marks *uint32, n, words int, tile *byte)

//go:noescape
func scanNEON(tile *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int

//go:noescape
func scan4NEON(tile *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int

//go:noescape
func thirdNEON(plane *byte, rowBytes int, marks, where *uint32, n int, codes *int8, backs *int32, out *uint32)

//go:noescape
func codeNEON(codes *byte, n int, sketch, second, third, last *byte, out *Coded)

//go:noescape
func dotNEON(a, b *int16, n int) int64
