package sealed_test

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/visage-face/visage/internal/arena"
)

// wanted is secrets to look for in the memory of this process, kept so that they are not found where they are kept:
// with a mask over them.
type wanted struct {
	mask   [32]byte
	hidden map[uint64][32]byte // by the first eight bytes, without the mask's
	first  [1 << 16]bool       // whether a secret begins with these two bytes
	buffer []byte              // what was read; its own place is not searched
}

func newWanted(t *testing.T) *wanted {
	t.Helper()
	w := &wanted{hidden: map[uint64][32]byte{}}
	rand.Read(w.mask[:])
	var err error
	if w.buffer, err = unix.Mmap(-1, 0, 4<<20, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_ANON|unix.MAP_PRIVATE); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(w.buffer); err != nil {
			t.Error(err)
		}
	})
	return w
}

// add takes note of a key.
func (w *wanted) add(key []byte) {
	if len(key) != len(w.mask) {
		return
	}
	var hidden [32]byte
	for i := range hidden {
		hidden[i] = key[i] ^ w.mask[i]
	}
	w.hidden[binary.LittleEndian.Uint64(hidden[:])] = hidden
	w.first[binary.LittleEndian.Uint16(hidden[:])] = true
}

// count reads all memory of this process and returns how many places hold one of the secrets.
func (w *wanted) count(t *testing.T) (n int, read int64) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	mine := int64(uintptr(unsafe.Pointer(&w.buffer[0])))
	mask8, mask2 := binary.LittleEndian.Uint64(w.mask[:]), binary.LittleEndian.Uint16(w.mask[:])
	lines := bufio.NewScanner(strings.NewReader(string(maps)))
	for lines.Scan() {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil || mode[0] != 'r' ||
			strings.Contains(lines.Text(), "[v") {
			continue // the kernel's own pages hold nothing of ours
		}
		for at := from; at < to; {
			if at <= mine && mine < to && at+int64(len(w.buffer)) > mine {
				at = mine + int64(len(w.buffer)) // what this search has read itself
				continue
			}
			got, err := memory.ReadAt(w.buffer[:min(int64(len(w.buffer)), to-at)], at)
			if got < 32 || err != nil && !errors.Is(err, unix.EIO) {
				break
			}
			read += int64(got)
			for i := 0; i+32 <= got; i++ {
				if !w.first[binary.LittleEndian.Uint16(w.buffer[i:])^mask2] {
					continue
				}
				hidden, ok := w.hidden[binary.LittleEndian.Uint64(w.buffer[i:])^mask8]
				for j := 8; ok && j < 32; j++ {
					ok = w.buffer[i+j]^w.mask[j] == hidden[j]
				}
				if ok {
					n++
				}
			}
			clear(w.buffer)
			if got == len(w.buffer) {
				got -= 31
			}
			at += int64(got)
		}
	}
	return n, read
}

// TestLockedKeysAreNowhere looks for every key of a locked space in all memory of the process: its root keys, those of
// heads and pages, and the secret of every record. A neighbour, whose keys lie on the same page, stays open.
func TestLockedKeysAreNowhere(t *testing.T) {
	if !arena.Erasing {
		t.Skip(
			"the build is without GOEXPERIMENT=runtimesecret: what the standard library made of the keys stays on " +
				"the heap until its place is used again",
		)
	}
	store := open(t, config(t, "pebble"))
	space, neighbour := create(t, store, spaceA), create(t, store, spaceB)
	put(t, neighbour, "list", note{"neighbour", "text"})
	const records = 500
	for i := range records {
		put(t, space, "list", note{fmt.Sprintf("note %d", i), "text"})
	}
	if err := space.Fold(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := all(t, space, "list"); len(got) != records {
		t.Fatalf("read %d records", len(got))
	}
	keys := newWanted(t)
	space.EachKey(t, keys.add)
	if len(keys.hidden) < records {
		t.Fatalf("only %d keys to look for", len(keys.hidden))
	}
	open, _ := keys.count(t)
	if open == 0 {
		t.Fatal("the search does not find keys of an open space")
	}
	store.Bundle(spaceA).Lock(errors.New("taken away"))
	if got := all(t, neighbour, "list"); len(got) != 1 {
		t.Errorf("the space beside the locked one has %d records", len(got))
	}
	for range 3 { // erasing is the collector's
		runtime.GC()
	}
	n, read := keys.count(t)
	if n > 0 {
		t.Errorf("%d places hold a key of a locked space", n)
	}
	t.Attr("keys", fmt.Sprint(len(keys.hidden)))
	t.Attr("memory-searched", fmt.Sprintf("%d-MiB", read>>20))
	t.Attr("places-with-keys-while-open", fmt.Sprint(open))
	t.Attr("places-with-keys-after-lock", fmt.Sprint(n))
}
