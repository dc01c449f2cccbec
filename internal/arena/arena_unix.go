//go:build linux || darwin

package arena

import (
	"os"

	"golang.org/x/sys/unix"
)

func pageSize() int { return os.Getpagesize() }

func mapPages(size int) (pages []byte, locked bool, err error) {
	pages, err = unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, false, err
	}
	shield(pages)
	// Over RLIMIT_MEMLOCK this fails; the memory is still kept out of the heap, out of core dumps, and wiped.
	locked = unix.Mlock(pages) == nil
	return pages, locked, nil
}

func unmapPages(pages []byte) {
	if err := unix.Munmap(pages); err != nil {
		panic("arena: unmap memory that New mapped: " + err.Error())
	}
}
