package arena

import "golang.org/x/sys/unix"

// shield asks for what only some kernels have; a kernel that has not got it leaves the rest as it is.
func shield(pages []byte) {
	_ = unix.Madvise(pages, unix.MADV_DONTDUMP)   // not in core dumps
	_ = unix.Madvise(pages, unix.MADV_WIPEONFORK) // zero in a forked child (Linux 4.14)
}
