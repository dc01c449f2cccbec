package timing

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// forgetPeak resets the peak memory to the present. If the system refuses, the peak is that of the whole process.
func forgetPeak() {
	debug.FreeOSMemory()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

// peakMemory returns the largest resident memory of this process in bytes; 0 where /proc has no such figure.
func peakMemory() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if kilobytes, found := strings.CutPrefix(line, "VmHWM:"); found {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kilobytes), "kB")), 10,
				64)
			if err != nil {
				return 0
			}
			return n << 10
		}
	}
	return 0
}
