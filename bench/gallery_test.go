package bench_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/visage-face/visage/gallery"
)

// templateDim is the length of the default pack's templates.
const templateDim = 128

// BenchmarkGalleryMemory measures what a face costs in a loaded gallery: by the gallery's own account, which its budget goes by, and by what
// the Go heap says. A gallery grows by an eighth, so sizes just after a step are the worst; it takes the worst of several.
func BenchmarkGalleryMemory(b *testing.B) {
	const templateBytes = templateDim * 4
	target := 1.2*templateBytes + 64
	for b.Loop() {
		var worst, heap float64
		var at int
		for _, n := range []int{10_000, 12_345, 50_000, 200_000} {
			before := heapBytes()
			g := fillGallery(b, n)
			perFace := float64(g.Bytes()) / float64(n)
			onHeap := float64(heapBytes()-before) / float64(n)
			if perFace > worst {
				worst, at = perFace, n
			}
			heap = max(heap, onHeap)
			g.Close()
		}
		note := fmt.Sprintf("worst of four sizes (%d faces); template %d B", at, templateBytes)
		atMost(b, "memory: gallery, a face", worst, target, "B", note)
		atMost(b, "memory: gallery, a face, by the heap", heap, target, "B", "growth of the Go heap, worst of four sizes")
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
		if err := g.Add(gallery.Entry{ID: id, Owner: owner, Order: uint64(i), Vector: randomTemplate(r)}); err != nil {
			b.Fatalf("add a face: %v", err)
		}
	}
	return g
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

// heapBytes returns what lives on the Go heap.
func heapBytes() int64 {
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
