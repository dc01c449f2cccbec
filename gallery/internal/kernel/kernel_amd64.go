//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

// Available returns the kernels that this processor can run, the best first; the last is the portable one.
func Available() []*Kernel {
	var all []*Kernel
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512VNNI &&
		cpu.X86.HasPOPCNT && cpu.X86.HasAVX2 {
		all = append(all, &Kernel{
			Name: "AVX-512 VNNI", scan1: scanAVX512, scan4: scan4AVX512, scan16: scan16AVX512, sketch: sketchAVX512,
			back: backAVX512, dot: dotAVX2, peak: peakAVX2, code: codeAVX2, prefetch: prefetchLines,
		})
	}
	if cpu.X86.HasAVX2 {
		all = append(all, &Kernel{
			Name: "AVX2", scan1: scanAVX2, sketch: sketchAVX2, back: backAVX2, dot: dotAVX2, peak: peakAVX2, code: codeAVX2, prefetch: prefetchLines,
		})
	}
	return append(all, &portable)
}

//go:noescape
func scanAVX512(groups *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int

//go:noescape
func scan4AVX512(groups *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int

//go:noescape
func scan16AVX512(groups *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int

//go:noescape
func backAVX512(plane *byte, rowBytes int, marks, where *uint32, n int, codes *int8, backs *int32, out *uint32)

//go:noescape
func scanAVX2(groups *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int

//go:noescape
func backAVX2(plane *byte, rowBytes int, marks, where *uint32, n int, codes *int8, backs *int32, out *uint32)

//go:noescape
func sketchAVX512(groups *byte, n, vectors int, codes *int8, limit *Limit, where *uint32, sums *int32) int

//go:noescape
func sketchAVX2(groups *byte, n, vectors int, codes *int8, limit *Limit, where *uint32, sums *int32) int

//go:noescape
func dotAVX2(a, b *float32, n int) float64

//go:noescape
func prefetchLines(p *float32, n int)

//go:noescape
func peakAVX2(v *float32, n int) float32

//go:noescape
func codeAVX2(v *float32, n int, scale, cell float32, codes, sketch *byte, along *[3]float64, long *[3]int32)
