package durable

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// directBlock is a multiple of every disk's alignment for the offsets and lengths of direct writes.
const directBlock = 4 << 10

// direct makes reads and writes of a file bypass the system's cache, or use it again. It reports whether they now
// bypass it: not every file system supports that.
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

// isUnaligned reports whether the system refused to bypass its cache because of an offset or a length.
func isUnaligned(err error) bool { return errors.Is(err, syscall.EINVAL) }

// forget asks the system to drop its cache of a file that is on the disk by now, so that the next reads come from the
// disk. The system may ignore that.
func forget(f *os.File) {
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // some file systems do not support it
}
