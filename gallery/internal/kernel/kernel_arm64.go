//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

// Available returns the kernels that this processor can run, the best first; the last is the portable one.
func Available() []*Kernel {
	if !cpu.ARM64.HasASIMDDP {
		return []*Kernel{&portable}
	}
	neon := &Kernel{
		Name: "NEON", scan1: scanNEON, sketch: sketchNEON, back: backNEON, dot: dotPortable, peak: peakPortable,
		code: codePortable, prefetch: prefetchLines,
	}
	return []*Kernel{neon, &portable}
}

//go:noescape
func scanNEON(groups *byte, n, vectors int, codes *int8, limits *Limit, where *uint32, sums *int32, first uint32) int

//go:noescape
func sketchNEON(groups *byte, n, vectors int, codes *int8, limit *Limit, where *uint32, sums *int32) int

//go:noescape
func backNEON(plane *byte, rowBytes int, marks, where *uint32, n int, codes *int8, backs *int32, out *uint32)

//go:noescape
func prefetchLines(p *float32, n int)
