package measure

import (
	"encoding/binary"
	"runtime"
	"sync"

	"github.com/viterin/vek/vek32"

	"github.com/visage-face/visage/gallery/internal/kernel"
	"github.com/visage-face/visage/internal/arena"
)

// baselines is the data that a search is compared with; all processors work on it.
type baselines struct {
	crowd  *crowd
	kernel *kernel.Kernel
	// plane is as much memory as codes of eight bits and a mark a row take: it is scanned as a tile.
	plane  *arena.Buffer
	groups int
}

func newBaselines(c *crowd) (*baselines, error) {
	const rows = kernel.Rows * kernel.TileGroups
	b := &baselines{
		crowd: c, kernel: kernel.Available()[0], groups: (c.gallery.Len() + rows - 1) / rows * kernel.TileGroups,
	}
	var err error
	if b.plane, err = arena.New(b.groups * kernel.TileBytes(c.dim)); err != nil {
		return nil, err
	}
	all := b.plane.Bytes() // write to every page, so that the system allocates it
	for i := 0; i+8 <= len(all); i += 8 {
		binary.LittleEndian.PutUint64(all[i:], uint64(i)*0x9e3779b97f4a7c15)
	}
	return b, nil
}

func (b *baselines) close() { b.plane.Free() }

// share calls f on every processor, each with its part of n.
func share(n int, f func(from, to int)) {
	workers := runtime.GOMAXPROCS(0)
	var all sync.WaitGroup
	for w := 1; w < workers; w++ {
		all.Go(func() { f(w*n/workers, (w+1)*n/workers) })
	}
	f(0, n/workers)
	all.Wait()
}

// size is the number of bytes that read reads.
func (b *baselines) size() int { return b.groups * kernel.TileBytes(b.crowd.dim) }

// read reads the plane from one end to the other and discards it.
func (b *baselines) read() {
	all, size := b.plane.Bytes(), kernel.TileBytes(b.crowd.dim)
	share(b.groups, func(from, to int) { kernel.Read(all[from*size : to*size]) })
}

// int8 compares a probe with the plane, as a search would that had codes of eight bits only and no bounds to check: it
// reads as many bytes, and no row passes.
func (b *baselines) int8() {
	dim, size := b.crowd.dim, kernel.TileBytes(b.crowd.dim)
	codes := make([]int8, dim)
	for i := range codes {
		codes[i] = int8(i)
	}
	const most = 64 // groups at once
	share(b.groups/kernel.TileGroups, func(from, to int) {
		probes, hits := b.kernel.NewProbes(dim, [][]int8{codes}), kernel.NewHits(most*kernel.Rows, 1)
		for from, to = from*kernel.TileGroups, to*kernel.TileGroups; from < to; from += most {
			hits.Reset()
			b.kernel.ScanTile(probes, b.plane.Bytes()[from*size:], min(most, to-from), 0, hits)
		}
	})
}

// float32 computes the dot product of a probe with every vector.
func (b *baselines) float32(probe []float32) {
	c := b.crowd
	share(c.gallery.Len(), func(from, to int) {
		best := float32(-1)
		for i := from; i < to; i++ {
			best = max(best, vek32.Dot(probe, c.vectors[i*c.dim:(i+1)*c.dim]))
		}
		runtime.KeepAlive(best)
	})
}
