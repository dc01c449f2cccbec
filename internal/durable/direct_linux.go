package durable

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// directBlock is a multiple of what a disk wants the places and lengths of direct writes to be multiples of.
const directBlock = 4 << 10

// direct makes reads and writes of a file go around the system's cache, or through it again. It reports whether they
// now go around: not every file system lets them.
func direct(f *os.File, on bool) bool {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return false
	}
	flags &^= unix.O_DIRECT
	if on {
		flags |= unix.O_DIRECT
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, flags)
	return on && err == nil
}

// isUnaligned reports whether the system refused to go around its cache because of where something lies or how long it
// is.
func isUnaligned(err error) bool { return errors.Is(err, syscall.EINVAL) }

// forget lets the system's cache of a file go, which is on the disk by now: for what is read next to come from there.
// That is a wish.
func forget(f *os.File) {
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // some file systems do not know it
}
