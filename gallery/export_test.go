package gallery

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/visage-face/visage/gallery/internal/kernel"
)

// NewOn is New with a kernel of choice.
func NewOn(dim int, k *kernel.Kernel) (*Gallery, error) { return newGallery(dim, k) }

// ShareFrom sets the number of products from which searches share passes.
func (g *Gallery) ShareFrom(products int) { g.share = products }

// Occupy makes searches wait as if a pass were running, until release is called.
func (g *Gallery) Occupy() (release func()) {
	g.turns.mu.Lock()
	g.turns.busy = true
	g.turns.mu.Unlock()
	return g.turns.next
}

// PassBytes returns how many bytes of the upper planes a pass reads.
func (g *Gallery) PassBytes() uint64 {
	dim, groups := g.coding.dim, (g.n+kernel.Rows-1)/kernel.Rows
	return uint64(groups * (kernel.SketchBytes(dim) + kernel.Rows*(kernel.SecondBytes(dim)+4)))
}

// Wiped reports whether the gallery holds no memory, and the scratch memory of adding vectors is zero.
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

// Removed reports whether the unused rows of all blocks are zero, so that nothing of removed vectors is left.
func (g *Gallery) Removed() bool {
	dim, blank := g.coding.dim, make([]byte, kernel.SketchBytes(g.coding.dim))
	for _, b := range g.blocks {
		for i := len(b.rows); i < cap(b.rows); i++ {
			numbers, zero := make([]int16, dim), uint32(0)
			if b.code(i, numbers); slices.ContainsFunc(numbers, func(n int16) bool { return n != math.MinInt16 }) {
				return false
			}
			last := kernel.Rows - 1
			kernel.CopyRow(blank, last, b.group(i, dim), i%kernel.Rows)
			if b.upper[i] != zero || b.marks[i] != zero || b.scales[i] != 0 || b.rows[:i+1][i] != (row{}) ||
				binary.LittleEndian.Uint32(blank[4*last:]) != zero {
				return false
			}
		}
	}
	return true
}

// Margins returns by how much a stored code passes the tests of the sketch, of it and the second plane, and of these
// and the third, when its own score is the least that is asked for: in parts of the most that the sums can be, and
// below zero where it does not pass. ok is false where the probe says nothing and every code passes.
func Margins(probe, stored Code) (margins [3]float64, ok bool) {
	dim := len(stored) / codeBytes
	c, w, p, numbers := newCoding(dim), newWork(newCoding(dim)), newProbe(probe), make([]int16, dim)
	c.encode(best, stored, w)
	var sums [3]int // over the upper 2, 4 and 8 bits
	for i := range numbers {
		numbers[i] = int16(stored.number(i))
		for j, n := range [3]int{2, 4, 8} {
			sums[j] += int(p.codes[i]) * ((stored.number(i) + 1<<15) >> (16 - n))
		}
	}
	r := p.reach(p.score(best, numbers, w.scale))
	if r.all {
		return margins, false
	}
	whole := func(most int) float64 { return 1 + p.length*float64(most)*math.Sqrt(float64(dim)) }
	margin := func(most int, scale float64, mark uint32, sum int) float64 {
		l := p.limit(r, most, scale)
		first, second := int64(int16(l.Weights)), int64(int16(l.Weights>>16))
		least := (int64(mark&0xffff)*first + int64(mark>>16)*second) >> l.Shift
		return float64(int64(sum)+int64(l.Start)-least) / whole(most)
	}
	margins[0] = margin(sketchMost, c.sketchScale, w.sketchMark, sums[0])
	margins[1] = margin(upperMost, c.upperScale, w.upperMark, sums[1])
	margins[2] = margin(mostMost, c.scale, w.mark, sums[2])
	if !p.passes(r, c, int32(sums[1]), int32(sums[2]-16*sums[1]), w.mark) {
		margins[2] = min(margins[2], -1)
	}
	return margins, true
}
