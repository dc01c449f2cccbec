package arena

import "golang.org/x/sys/unix"

// largeArena is the size from which an arena requests large pages, which have 2 MiB on most machines: it fills several
// of them.
const largeArena = 8 << 20

// shield requests protections that only some kernels have; other kernels ignore them.
func shield(pages []byte) {
	_ = unix.Madvise(pages, unix.MADV_DONTDUMP)   // not in core dumps
	_ = unix.Madvise(pages, unix.MADV_WIPEONFORK) // zero in a forked child (Linux 4.14)
	if len(pages) >= largeArena {
		_ = unix.Madvise(pages, unix.MADV_HUGEPAGE) // faster to read sequentially, and to allocate
	}
}
