package arena_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/visage-face/visage/internal/arena"
)

func slot(t *testing.T, s *arena.Slab, size int) *arena.Buffer {
	t.Helper()
	b, err := s.New(size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Free)
	return b
}

func fill(b *arena.Buffer, with byte) { copy(b.Bytes(), bytes.Repeat([]byte{with}, len(b.Bytes()))) }

func TestSlabSharesPages(t *testing.T) {
	var s arena.Slab
	page := uintptr(os.Getpagesize())
	pages := map[uintptr]bool{}
	for i := range 40 {
		b := slot(t, &s, 100)
		if len(b.Bytes()) != 100 || cap(b.Bytes()) != 100 {
			t.Fatalf("slot %d: %d bytes with capacity %d, want 100", i, len(b.Bytes()), cap(b.Bytes()))
		}
		if b.Locked() != slot(t, &s, 100).Locked() {
			t.Fatal("neighbours differ in whether they are locked")
		}
		pages[uintptr(unsafe.Pointer(&b.Bytes()[0]))/page] = true
	}
	if most := int(80*128/page) + 1; len(pages) > most {
		t.Errorf("80 slots of 100 bytes lie in %d pages, want at most %d", len(pages), most)
	}
	if b := slot(t, &s, 3*os.Getpagesize()); len(b.Bytes()) != 3*os.Getpagesize() {
		t.Errorf("a large one has %d bytes", len(b.Bytes()))
	}
	if _, err := s.New(0); err == nil {
		t.Error("New(0) gave memory")
	}
}

// TestSlabWipesAtOnce checks that a slot is wiped when it is freed, though its page stays; its neighbours keep their
// content, and the slot is not used again.
func TestSlabWipesAtOnce(t *testing.T) {
	var s arena.Slab
	before, gone, after := slot(t, &s, 64), slot(t, &s, 64), slot(t, &s, 64)
	fill(before, 'b')
	fill(gone, 'g')
	fill(after, 'a')
	kept := gone.Bytes()
	gone.Free()
	gone.Free()
	if gone.Bytes() != nil {
		t.Error("memory is still reachable after Free")
	}
	if !bytes.Equal(kept, make([]byte, 64)) {
		t.Errorf("after Free the memory holds %q", kept)
	}
	if !before.Equal(bytes.Repeat([]byte{'b'}, 64)) || !after.Equal(bytes.Repeat([]byte{'a'}, 64)) {
		t.Error("a neighbour has changed")
	}
	for range 1000 {
		b := slot(t, &s, 64)
		if &b.Bytes()[0] == &kept[0] {
			t.Fatal("a slot was used twice while its page was in use")
		}
		if !b.Equal(make([]byte, 64)) {
			t.Fatal("a new slot is not zero")
		}
		fill(b, 'x')
		b.Free()
	}
	if !bytes.Equal(kept, make([]byte, 64)) {
		t.Errorf("another secret is visible in a freed slot: %q", kept)
	}
}

func TestSlabNoticesWritesAfterFree(t *testing.T) {
	var s arena.Slab
	neighbour, err := s.New(64) // freed by hand: the page cannot be given back
	if err != nil {
		t.Fatal(err)
	}
	b := slot(t, &s, 64)
	kept := b.Bytes()
	b.Free()
	kept[7] = 1
	defer func() {
		if said := fmt.Sprint(recover()); !strings.Contains(said, "after Free") {
			t.Errorf("a write after Free caused the panic %q", said)
		}
	}()
	neighbour.Free()
}

func TestSlabIsSafeForMany(t *testing.T) {
	var s arena.Slab
	var work sync.WaitGroup
	for g := range byte(8) {
		work.Go(func() {
			var mine []*arena.Buffer
			for i := range 500 {
				b, err := s.New(32 + i%200)
				if err != nil {
					t.Error(err)
					return
				}
				if !b.Equal(make([]byte, 32+i%200)) {
					t.Error("a new slot is not zero")
				}
				fill(b, g+1)
				mine = append(mine, b)
				if i%3 > 0 {
					old := mine[0]
					mine = mine[1:]
					if want := bytes.Repeat([]byte{g + 1}, len(old.Bytes())); !old.Equal(want) {
						t.Error("another goroutine has written into a slot")
					}
					old.Free()
				}
			}
			for _, b := range mine {
				b.Free()
			}
		})
	}
	work.Wait()
}
