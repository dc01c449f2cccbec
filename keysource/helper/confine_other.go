//go:build !linux

package helper

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes are those of the helper's process: signals of a terminal are not for it.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// confine switches core dumps off, and returns what the system cannot hold, for the log.
func confine(Confinement) (unheld string, err error) {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return "", fmt.Errorf("switch core dumps off: %w", err)
	}
	return "files, network, signals, system calls", nil
}
