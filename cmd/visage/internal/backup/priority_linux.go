package backup

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// lowerPriority gives this process the lowest priority, so that a backup does not slow the server down. Where the
// system refuses, the work goes on all the same.
func lowerPriority() {
	const last = 19 // the lowest priority there is
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range threads { // each has its own; those to come take it from these
		if id, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, id, last)
		}
	}
}
