package arena

import "golang.org/x/sys/unix"

// largeArena is the size from which an arena asks for large pages, some of which it fills: they have 2 MiB on most
// machines.
const largeArena = 8 << 20

// shield asks for what only some kernels have; a kernel that has not got it leaves the rest as it is.
func shield(pages []byte) {
	_ = unix.Madvise(pages, unix.MADV_DONTDUMP)   // not in core dumps
	_ = unix.Madvise(pages, unix.MADV_WIPEONFORK) // zero in a forked child (Linux 4.14)
	if len(pages) >= largeArena {
		_ = unix.Madvise(pages, unix.MADV_HUGEPAGE) // faster to read from end to end, and to be given
	}
}
