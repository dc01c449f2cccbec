//go:build !linux

package timing

// forgetPeak does nothing on this system.
func forgetPeak() {}

// peakMemory is unknown on this system.
func peakMemory() int64 { return 0 }
