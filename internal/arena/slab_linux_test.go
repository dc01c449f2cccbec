package arena_test

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"github.com/visage-face/visage/internal/arena"
)

// flags returns the kernel's flags of the memory at an address: the line VmFlags of /proc/self/smaps; none where
// nothing is mapped.
func flags(t *testing.T, at uintptr) (flags []string) {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	here := false
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var from, to uintptr
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x ", &from, &to); n == 2 { // other lines are about this mapping
			here = from <= at && at < to
		}
		if rest, ok := strings.CutPrefix(lines.Text(), "VmFlags:"); ok && here {
			return strings.Fields(rest)
		}
	}
	return nil
}

// TestSlabIsShielded checks that slots have the protection of New's buffers: locked, not dumped, zero in a forked
// child, and unmapped when the last slot of a page is free.
func TestSlabIsShielded(t *testing.T) {
	var s arena.Slab
	a, err := s.New(96)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.New(96)
	if err != nil {
		t.Fatal(err)
	}
	at := uintptr(unsafe.Pointer(&b.Bytes()[0]))
	want := []string{"dd", "wf"}
	if b.Locked() {
		want = append(want, "lo")
	}
	got := " " + strings.Join(flags(t, at), " ") + " "
	for _, flag := range want {
		if !strings.Contains(got, " "+flag+" ") {
			t.Errorf("the page lacks the flag %q; it has%s", flag, got)
		}
	}
	a.Free()
	if flags(t, at) == nil {
		t.Error("the page is unmapped while a slot is in use")
	}
	b.Free()
	if left := flags(t, at); strings.Contains(" "+strings.Join(left, " ")+" ", " lo ") {
		t.Errorf("the page is mapped after the last slot was freed: %v", left)
	}
}
