package gallery

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/visage-face/visage/gallery/internal/kernel"
)

// ID names a vector or an owner.
type ID [16]byte

// ErrVector says that a vector cannot stand in a gallery: wrong length, not finite, or not of unit length.
var ErrVector = errors.New("not a usable vector")

// ErrDropped is the cause of a search or a load that ended because its gallery was dropped from memory.
var ErrDropped = errors.New("gallery dropped")

// unitTolerance is how far the squared length of a vector may be from 1: rounding in float32 over thousands of
// dimensions stays a hundred times below it, a vector that was never normalised far above.
const unitTolerance = 1e-3

// dimMost is the longest supported vector; see kernel.DimMost.
const dimMost = kernel.DimMost

// Gallery is a set of unit vectors. It is safe for concurrent use: searches run side by side or together, changes wait
// for them.
type Gallery struct {
	coding  coding
	kernel  *kernel.Kernel
	reserve func(bytes int64) error // asks the pool for memory before it is taken; nil outside of a pool
	ctx     context.Context         // ends when the gallery is dropped; searches watch it
	drop    context.CancelCauseFunc
	want    atomic.Int64 // how many vectors are expected
	works   sync.Pool    // of *work, wiped
	scratch sync.Pool    // of *scratch for one probe, wiped
	turns   turns
	share   int           // products from which passes are shared: togetherWork
	read    atomic.Uint64 // bytes, by searches

	mu     sync.RWMutex
	blocks []*block // all full except the last
	n      int
	next   *coming // the block after the last, being allocated; nil when none is expected
	bytes  int64   // including next
}

// New makes an empty gallery for vectors of dim numbers, at most 2,048.
func New(dim int) (*Gallery, error) { return newGallery(dim, best) }

// best is the fastest kernel that this processor can run.
var best = kernel.Available()[0]

func newGallery(dim int, k *kernel.Kernel) (*Gallery, error) {
	if dim < 1 || dim > dimMost {
		return nil, fmt.Errorf("vectors must have 1 to %d numbers; got %d", dimMost, dim)
	}
	ctx, drop := context.WithCancelCause(context.Background())
	g := &Gallery{coding: newCoding(dim), kernel: k, ctx: ctx, drop: drop, share: togetherWork}
	g.works.New = func() any { return newWork(g.coding) }
	g.scratch.New = func() any { return newScratch(dim, 1) }
	return g, nil
}

// Dim returns the length of the vectors.
func (g *Gallery) Dim() int { return g.coding.dim }

// Len returns the number of vectors.
func (g *Gallery) Len() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.n
}

// Bytes returns the memory the gallery holds.
func (g *Gallery) Bytes() int64 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.bytes
}

// Read returns how many bytes searches have read from the gallery so far.
func (g *Gallery) Read() uint64 { return g.read.Load() }

// Entry is a vector to be added.
type Entry struct {
	ID    ID     // distinct within the gallery; that is the caller's duty, Has helps
	Owner ID     // whose vector it is; zero where owners do not matter
	Order uint64 // when it was enrolled: of equally near vectors the lower order comes first
	Code  Code   // copied
}

// Expect tells the gallery how many vectors it will hold, so that it allocates memory for all of them at once. The
// number may be wrong.
func (g *Gallery) Expect(n int) { g.want.Store(int64(n)) }

// Add adds a vector. Many may add at once: they encode their vectors, which takes most of the time, side by side. The
// error wraps ErrVector for a code of another length or one that is malformed, is ErrDropped or its cause when the
// gallery has ended, and else comes from the pool's budget.
func (g *Gallery) Add(e Entry) error {
	w := g.works.Get().(*work)
	defer g.works.Put(w)
	defer w.wipe()
	if err := e.Code.Check(g.coding.dim); err != nil {
		return err
	}
	g.coding.encode(g.kernel, e.Code, w)

	g.mu.Lock()
	defer g.mu.Unlock()
	if err := context.Cause(g.ctx); err != nil {
		return err
	}
	last := len(g.blocks) - 1
	if last < 0 || g.blocks[last].full() {
		if err := g.growLocked(); err != nil {
			return err
		}
		last++
	}
	g.blocks[last].append(&e, w)
	g.n++
	return nil
}

// coming is a block that is being allocated while the one before is filled: the system zeroes and locks its memory,
// which for a large gallery takes nearly as long as filling it.
type coming struct {
	rows  int
	ready chan struct{} // closed when block and err are set
	block *block
	err   error
}

// growLocked adds an empty block, and starts to allocate the next one if the expected number of vectors needs it.
func (g *Gallery) growLocked() error {
	b := g.next
	g.next = nil
	if b == nil {
		var err error
		if b, err = g.orderLocked(blockRows(g.n, int(g.want.Load()))); err != nil {
			return err
		}
	}
	<-b.ready
	if b.err != nil {
		bytes := g.coding.blockBytes(b.rows)
		g.bytes -= bytes
		if g.reserve != nil {
			_ = g.reserve(-bytes) // giving memory back cannot be refused
		}
		return fmt.Errorf("memory for %d vectors: %w", b.rows, b.err)
	}
	g.blocks = append(g.blocks, b.block)
	if room, want := g.n+b.rows, int(g.want.Load()); want > room {
		// A refusal is not reported here: the Add that needs the block tries again and returns the error.
		g.next, _ = g.orderLocked(blockRows(room, want))
	}
	return nil
}

// orderLocked reserves the memory of a block and allocates it in the background.
func (g *Gallery) orderLocked(rows int) (*coming, error) {
	bytes := g.coding.blockBytes(rows)
	if g.reserve != nil {
		if err := g.reserve(bytes); err != nil {
			return nil, err
		}
	}
	g.bytes += bytes
	c := &coming{rows: rows, ready: make(chan struct{})}
	go func() { // close and growLocked wait for it
		defer close(c.ready)
		c.block, c.err = newBlock(rows, g.coding)
	}()
	return c, nil
}

// Has reports whether a vector of that id is in the gallery. It compares every id.
func (g *Gallery) Has(id ID) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, b := range g.blocks {
		for i := range b.rows {
			if b.rows[i].id == id {
				return true
			}
		}
	}
	return false
}

// Remove removes the vector of that id, and reports whether there was one. Searches that begin afterwards do not see
// it.
func (g *Gallery) Remove(id ID) bool {
	return g.removeIf(func(r *row) bool { return r.id == id }, 1) > 0
}

// RemoveOwner removes all vectors of an owner and returns how many there were.
func (g *Gallery) RemoveOwner(owner ID) int {
	return g.removeIf(func(r *row) bool { return r.owner == owner }, math.MaxInt)
}

// RemoveAll removes many vectors and owners in one pass, and returns how many vectors there were.
func (g *Gallery) RemoveAll(ids, owners map[ID]bool) int {
	if len(ids)+len(owners) == 0 {
		return 0
	}
	return g.removeIf(func(r *row) bool { return ids[r.id] || owners[r.owner] }, math.MaxInt)
}

// removeIf removes at most limit vectors. It reads every row: removals are rare, and an index by id would take more
// memory a face than its order and owner do.
func (g *Gallery) removeIf(match func(*row) bool, limit int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	removed := 0
	for bi := 0; bi < len(g.blocks); bi++ {
		for i := 0; bi < len(g.blocks) && i < len(g.blocks[bi].rows) && removed < limit; {
			if !match(&g.blocks[bi].rows[i]) {
				i++
				continue
			}
			g.fillLocked(bi, i)
			removed++
		}
	}
	return removed
}

// fillLocked removes a row by moving the gallery's last row over it.
func (g *Gallery) fillLocked(bi, i int) {
	last := g.blocks[len(g.blocks)-1]
	g.blocks[bi].move(i, last, g.coding.dim)
	g.n--
	if len(last.rows) > 0 {
		return
	}
	g.blocks = g.blocks[:len(g.blocks)-1]
	bytes := g.coding.blockBytes(cap(last.rows))
	g.bytes -= bytes
	last.free()
	if g.reserve != nil {
		_ = g.reserve(-bytes) // giving back cannot be refused
	}
}

// Close drops the gallery: searches under way stop at the next block, then its memory is cleared. It can be called
// twice.
func (g *Gallery) Close() { g.close(ErrDropped) }

func (g *Gallery) close(cause error) {
	g.drop(cause)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, b := range g.blocks {
		b.free()
	}
	if g.next != nil {
		if <-g.next.ready; g.next.block != nil {
			g.next.block.free()
		}
		g.next = nil
	}
	g.blocks, g.n, g.bytes = nil, 0, 0
}
