package backup

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// lowerPriority gives this process the lowest priority, so that a backup does not slow the server down. If the system
// refuses, the backup continues at normal priority.
func lowerPriority() {
	const last = 19 // the lowest priority
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range threads { // each thread has its own priority; new threads inherit it
		if id, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, id, last)
		}
	}
}
