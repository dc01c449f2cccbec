//go:build !unix

package sandbox

import "github.com/tetratelabs/wazero/experimental"

// allocator leaves the memory of runs to the garbage collector.
func allocator(limit int) experimental.MemoryAllocator {
	return experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory { return &heap{limit: limit} })
}

type heap struct {
	b     []byte
	limit int
}

// Reallocate implements experimental.LinearMemory; nil means that there is no memory.
func (h *heap) Reallocate(size uint64) []byte {
	if size > uint64(h.limit) {
		return nil
	}
	if int(size) > len(h.b) {
		h.b = append(h.b, make([]byte, int(size)-len(h.b))...)
	}
	return h.b[:size]
}

// Free implements experimental.LinearMemory.
func (h *heap) Free() { h.b = nil }
