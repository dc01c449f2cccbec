//go:build unix

package sandbox

import (
	"syscall"

	"github.com/tetratelabs/wazero/experimental"
)

// allocator returns the memory of a run: addresses for all that the run may use, which the system backs when they are
// first touched. Growing copies nothing, and the memory returns to the system when the run ends, without waiting for
// the garbage collector.
func allocator(limit int) experimental.MemoryAllocator {
	return experimental.MemoryAllocatorFunc(func(_, most uint64) experimental.LinearMemory {
		size := min(most, uint64(limit))
		b, err := syscall.Mmap(-1, 0, int(size), syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
		if err != nil {
			return &mapped{} // Reallocate will return nil
		}
		return &mapped{all: b}
	})
}

type mapped struct {
	all  []byte
	open int // bytes that can be used
}

// Reallocate implements experimental.LinearMemory; nil means that there is no memory.
func (m *mapped) Reallocate(size uint64) []byte {
	if size > uint64(len(m.all)) {
		return nil
	}
	if n := int(size); n > m.open {
		if err := syscall.Mprotect(m.all[m.open:n], syscall.PROT_READ|syscall.PROT_WRITE); err != nil {
			return nil
		}
		m.open = n
	}
	return m.all[:size:size]
}

// Free implements experimental.LinearMemory.
func (m *mapped) Free() {
	if m.all != nil {
		_ = syscall.Munmap(m.all) // it fails for addresses that were never mapped, and these were
		m.all = nil
	}
}
