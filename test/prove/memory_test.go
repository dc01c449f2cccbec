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

// searchMemory searches all readable memory of a process for the forms. A core image would contain less, since some
// memory is excluded from it. It returns how often each form occurs, and how many bytes were read.
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
			continue // the kernel's own pages have none of our data
		}
		for at := from; at < to; {
			n, err := memory.ReadAt(buf[:min(int64(len(buf)), to-at)], at)
			if n == 0 || err != nil && err != io.EOF {
				break // pages that were never touched, or no longer exist
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
