package gallery

import "github.com/visage-face/visage/gallery/internal/kernel"

// NewOn is New with a kernel of choice.
func NewOn(dim int, k *kernel.Kernel) (*Gallery, error) { return newGallery(dim, k) }

// TogetherWork is the number of products from which searches share passes.
const TogetherWork = togetherWork

// Occupy makes searches wait as if a pass were under way, until release is called.
func (g *Gallery) Occupy() (release func()) {
	g.turns.mu.Lock()
	g.turns.busy = true
	g.turns.mu.Unlock()
	return g.turns.next
}

// PassBytes returns how much of the front plane a pass reads.
func (g *Gallery) PassBytes() uint64 {
	return uint64((g.n + kernel.Rows - 1) / kernel.Rows * kernel.GroupBytes(g.coding.dim))
}

// Wiped reports whether the gallery holds no memory, and none of the work of adding vectors to it holds anything.
func (g *Gallery) Wiped() bool {
	w := g.works.Get().(*work)
	for _, x := range w.vector {
		if x != 0 {
			return false
		}
	}
	for _, code := range w.codes {
		if code != 0 {
			return false
		}
	}
	return len(g.blocks) == 0 && g.bytes == 0
}

// Decoded is the vector of a code, turned as it is.
func (c Code) Decoded() []float32 {
	v := make([]float32, len(c)/codeBytes)
	c.decode(v)
	return v
}
