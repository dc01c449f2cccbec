//go:build purego || !(amd64 || arm64)

package kernel

// Available returns the kernels that this processor can run, the best first; the last is the portable one.
func Available() []*Kernel { return []*Kernel{&portable} }
