package prove_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// searchMemory looks for the forms in all memory of a process that can be read, which is what a core image of it would
// hold, and more: what is kept out of core images is read too. It returns how often each is there, and how many bytes
// were read.
func searchMemory(t *testing.T, pid int, forms []form) (found map[string]int, read int64) {
	t.Helper()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	found = map[string]int{}
	overlap := 0
	for _, f := range forms {
		overlap = max(overlap, len(f.bytes)-1)
	}
	lines := bufio.NewScanner(maps)
	buf := make([]byte, 4<<20)
	for lines.Scan() {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil || mode[0] != 'r' ||
			strings.Contains(lines.Text(), "[v") {
			continue // the kernel's own pages hold nothing of ours
		}
		for at := from; at < to; {
			n, err := memory.ReadAt(buf[:min(int64(len(buf)), to-at)], at)
			if n == 0 || err != nil && err != io.EOF {
				break // pages that were never touched, or are gone
			}
			read += int64(n)
			for _, f := range forms {
				found[f.name] += bytes.Count(buf[:n], f.bytes)
			}
			if at += int64(n); at < to {
				at -= int64(overlap)
			}
			if n <= overlap {
				break
			}
		}
	}
	return found, read
}
