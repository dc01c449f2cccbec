package gallery

import "github.com/visage-face/visage/gallery/internal/kernel"

// NewOn is New with a kernel of choice.
func NewOn(dim int, k *kernel.Kernel) (*Gallery, error) { return newGallery(dim, k) }

// ShareFrom sets the number of products from which searches share passes.
func (g *Gallery) ShareFrom(products int) { g.share = products }

// Occupy makes searches wait as if a pass were under way, until release is called.
func (g *Gallery) Occupy() (release func()) {
	g.turns.mu.Lock()
	g.turns.busy = true
	g.turns.mu.Unlock()
	return g.turns.next
}

// PassBytes returns how much of its upper planes a pass reads.
func (g *Gallery) PassBytes() uint64 {
	dim, groups := g.coding.dim, (g.n+kernel.Rows-1)/kernel.Rows
	return uint64(groups * (kernel.SketchBytes(dim) + kernel.Rows*(kernel.SecondBytes(dim)+4)))
}

// Wiped reports whether the gallery holds no memory, and none of the work of adding vectors to it holds anything.
func (g *Gallery) Wiped() bool {
	w := g.works.Get().(*work)
	for _, plane := range [][]byte{w.sketch, w.second, w.third, w.last} {
		for _, b := range plane {
			if b != 0 {
				return false
			}
		}
	}
	return len(g.blocks) == 0 && g.bytes == 0
}
