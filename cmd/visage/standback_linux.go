package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// standBack lets everything else on this machine go first, the server above all: for work that nobody waits for. It is
// a wish; what the system says to it changes nothing.
func standBack() {
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
