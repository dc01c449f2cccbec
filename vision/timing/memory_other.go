//go:build !linux

package timing

// forgetPeak has nothing to forget.
func forgetPeak() {}

// peakMemory is not told by this system.
func peakMemory() int64 { return 0 }
