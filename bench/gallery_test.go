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

// BenchmarkGalleryMemory measures what a face costs in a loaded gallery: by the gallery's own account, which its budget goes by, and by what the
// process holds more of when a large one is there. A gallery grows in steps, so sizes just after one are the worst; it takes the worst of several.
func BenchmarkGalleryMemory(b *testing.B) {
	// Codes of eight bits, and what re-ranking needs: the template in full, ids of face and person, and the order of enrolment.
	const needed = templateDim + templateDim*4 + 40
	target := 1.15 * needed
	sizes := []int{10_000, 12_345, 50_000, 200_000}
	for b.Loop() {
		var worst float64
		var at int
		for _, n := range sizes {
			before, known := residentBytes(b, os.Getpid())
			g := fillGallery(b, n)
			if perFace := float64(g.Bytes()) / float64(n); perFace > worst {
				worst, at = perFace, n
			}
			if after, _ := residentBytes(b, os.Getpid()); known && n == slices.Max(sizes) {
				atMost(b, "memory: gallery, a face, resident", float64(after-before)/float64(n), target, "B", fmt.Sprintf("growth of VmRSS by %d faces", n))
			}
			g.Close()
		}
		note := fmt.Sprintf("its own account; worst of %d sizes (%d faces); codes and what re-ranking needs %d B", len(sizes), at, needed)
		atMost(b, "memory: gallery, a face", worst, target, "B", note)
	}
}

// fillGallery makes a gallery of n random faces, one a person.
func fillGallery(b *testing.B, n int) *gallery.Gallery {
	b.Helper()
	g, err := gallery.New(templateDim)
	if err != nil {
		b.Fatalf("make a gallery: %v", err)
	}
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range n {
		var id, owner gallery.ID
		binary.BigEndian.PutUint64(id[:], uint64(i+1))
		binary.BigEndian.PutUint64(owner[8:], uint64(i+1))
		if err := g.Add(gallery.Entry{ID: id, Owner: owner, Order: uint64(i), Code: code(randomTemplate(r))}); err != nil {
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

// residentBytes returns what is resident of a process, after this one has given back what it does not use; ok is false where the system does not say.
func residentBytes(b *testing.B, pid int) (bytes int64, ok bool) {
	b.Helper()
	debug.FreeOSMemory()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kB, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				b.Fatalf("read a process's memory: %v", err)
			}
			return kB * 1024, true
		}
	}
	return 0, false
}
