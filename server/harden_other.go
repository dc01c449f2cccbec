//go:build !linux

package server

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// harden keeps the memory of this process, with its keys and templates, out of core dumps.
func harden() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("switch core dumps off: %w", err)
	}
	return nil
}
