package bench_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/visage-face/visage/gallery"
)

// templateDim is the length of the default pack's templates.
const templateDim = 128

// BenchmarkGalleryMemory measures the memory of a face in a loaded gallery: as the gallery itself counts it, which the
// budget is based on, and by the growth of the resident memory of the process. It takes the worst of several sizes.
// Galleries are loaded as the service loads them, with a known number of faces.
func BenchmarkGalleryMemory(b *testing.B) {
	sizes := []int{10_000, 12_345, 50_000, 200_000}
	for b.Loop() {
		for _, is := range []struct {
			dim    int
			target float64
		}{{128, 320}, {192, 460}, {512, 1100}} {
			var worst float64
			var at int
			for _, n := range sizes {
				before, known := residentBytes(b, os.Getpid())
				g := fillGallery(b, is.dim, n)
				if perFace := float64(g.Bytes()) / float64(n); perFace > worst {
					worst, at = perFace, n
				}
				if after, _ := residentBytes(b, os.Getpid()); known && n == slices.Max(sizes) {
					atMost(b, fmt.Sprintf("memory: gallery, a face of %d, resident", is.dim),
						float64(after-before)/float64(n), is.target, "B",
						fmt.Sprintf("growth of VmRSS by %d faces", n))
				}
				g.Close()
			}
			note := fmt.Sprintf("as the gallery counts it; worst of %d sizes (%d faces)", len(sizes), at)
			atMost(b, fmt.Sprintf("memory: gallery, a face of %d", is.dim), worst, is.target, "B", note)
		}
	}
}

// fillGallery makes a gallery of n random faces, one a person.
func fillGallery(b *testing.B, dim, n int) *gallery.Gallery {
	b.Helper()
	g, err := gallery.New(dim)
	if err != nil {
		b.Fatalf("make a gallery: %v", err)
	}
	g.Expect(n)
	made := newCodes(dim)
	for i := range n {
		var id, owner gallery.ID
		binary.BigEndian.PutUint64(id[:], uint64(i+1))
		binary.BigEndian.PutUint64(owner[8:], uint64(i+1))
		if err := g.Add(gallery.Entry{ID: id, Owner: owner, Order: uint64(i), Code: made.code(uint64(i))}); err != nil {
			b.Fatalf("add a face: %v", err)
		}
	}
	return g
}

// code returns the code of a template.
func code(template []float32) gallery.Code {
	c, err := gallery.Encode(template)
	if err != nil {
		panic(err)
	}
	return c
}

// randomTemplate returns a random direction.
func randomTemplate(r *rand.Rand) []float32 {
	v := make([]float32, templateDim)
	var square float64
	for i := range v {
		x := r.NormFloat64()
		v[i] = float32(x)
		square += x * x
	}
	scale := float32(1 / math.Sqrt(square))
	for i := range v {
		v[i] *= scale
	}
	return v
}

// residentBytes returns the resident memory of a process, after this process has returned unused memory; ok is false
// where the system has no such figure.
func residentBytes(b *testing.B, pid int) (bytes int64, ok bool) {
	b.Helper()
	debug.FreeOSMemory()
	kB, ok := kilobytes(b, fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")
	return kB * 1024, ok
}

// kilobytes reads a figure in kB from a file of /proc; ok is false where the file or the line does not exist.
func kilobytes(b *testing.B, path, name string) (kB int64, ok bool) {
	b.Helper()
	said, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(said)) {
		if value, ok := strings.CutPrefix(line, name); ok {
			kB, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				b.Fatalf("read how much memory there is: %v", err)
			}
			return kB, true
		}
	}
	return 0, false
}
