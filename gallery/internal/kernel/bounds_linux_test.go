package kernel_test

import (
	"os"
	"syscall"
	"testing"

	"github.com/visage-face/visage/gallery/internal/kernel"
)

// TestKernelsStayWithinTheirMemory places all memory that kernels read and write directly before or behind pages
// without access.
func TestKernelsStayWithinTheirMemory(t *testing.T) {
	for _, k := range kernel.Available() {
		for name, atEnd := range map[string]bool{"start": false, "end": true} {
			t.Run(k.Name+"/"+name, func(t *testing.T) {
				m := func(n int) []byte { return guarded(t, n, atEnd) }
				checkKinds(t, k, m)
				checkCodes(t, k, m)
				checkDots(t, k, m)
			})
		}
	}
}

// guarded returns memory at the start or at the end of some pages, between pages without access.
func guarded(t *testing.T, n int, atEnd bool) []byte {
	page := os.Getpagesize()
	size := (n + page - 1) / page * page
	all, err := syscall.Mmap(-1, 0, size+2*page, syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(all); err != nil {
			t.Error(err)
		}
	})
	inside := all[page : page+size]
	if err := syscall.Mprotect(inside, syscall.PROT_READ|syscall.PROT_WRITE); err != nil {
		t.Fatal(err)
	}
	if atEnd {
		return inside[size-n : size : size]
	}
	return inside[:n:n]
}
