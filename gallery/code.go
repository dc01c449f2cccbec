package gallery

import (
	"math"

	"github.com/visage-face/visage/gallery/internal/kernel"
)

// coded is a vector as the planes keep it: the codes, packed, and what its code leaves out. The package documentation
// says what the marks are for.
type coded struct {
	sketch, front, back             []byte
	sketchMark, frontMark, backMark uint32
}

// coding holds the scales of marks for one length of vectors. A mark's two numbers are the legs of a triangle whose
// hypotenuse is the length of the code's vector, so that bounds both.
type coding struct {
	dim                                int
	cell                               float32 // of the sketch
	sketchScale, frontScale, backScale float64
}

const (
	sketchMost = 3   // the largest number of a code's vector in the sketch
	frontMost  = 15  // on the front plane
	backMost   = 255 // and on both planes
	frontFull  = math.MaxInt16
	backFull   = math.MaxUint16
)

func newCoding(dim int) coding {
	root := math.Sqrt(float64(dim))
	return coding{
		dim:         dim,
		cell:        float32(0.996 / root), // loses least of numbers that are spread like the bell curve
		sketchScale: frontFull / (sketchMost * root),
		frontScale:  frontFull / (frontMost * root),
		backScale:   backFull / (backMost * root),
	}
}

// bytes returns the memory that the sketch and the planes take for so many rows, a multiple of kernel.Rows.
func (c coding) bytes(rows int) (sketch, groups, back int) {
	groups = rows / kernel.Rows
	return groups * kernel.SketchBytes(c.dim), groups * kernel.GroupBytes(c.dim), rows * kernel.BackBytes(c.dim)
}

// work is memory to code a vector in.
type work struct {
	vector     []float32
	codes, two []byte // of both planes, plus 128, and of the sketch
	found      kernel.Coded
	coded
}

func newWork(c coding) *work {
	padded := (c.dim + 15) &^ 15
	w := &work{vector: make([]float32, c.dim), codes: make([]byte, padded), two: make([]byte, padded)}
	w.sketch = make([]byte, kernel.SketchBytes(c.dim)/kernel.Rows-4)
	w.front, w.back = make([]byte, 4*kernel.Vectors(c.dim)), make([]byte, kernel.BackBytes(c.dim))
	return w
}

// wipe clears what is as good as the face itself.
func (w *work) wipe() {
	clear(w.vector)
	clear(w.codes)
	clear(w.two)
	clear(w.sketch)
	clear(w.front)
	clear(w.back)
}

// encode codes a vector whose squared length is square. Codes have 128 equal cells on either side of zero, the outermost
// of which the largest number lies in; their upper halves have eight. The sketch has two, of which the outer ones have
// no end.
func (c coding) encode(k *kernel.Kernel, v []float32, square float64, w *work) {
	k.Code(v, 128/k.Peak(v), c.cell, w.codes, w.two, &w.found)
	kernel.PackSketch(w.two, w.sketch)
	kernel.Pack(w.codes, w.front, w.back)
	length, along, long := math.Sqrt(square), &w.found.Along, &w.found.Long
	w.sketchMark = mark(along[0]/length, long[0], c.sketchScale, frontFull)
	w.frontMark = mark(along[1]/length, long[1], c.frontScale, frontFull)
	w.backMark = mark(along[2]/length, long[2], c.backScale, backFull)
}

// mark makes the mark of a code's vector: how far it reaches along the vector it stands for, rounded down, and how far
// beside it, rounded up. along² and long differ by what is beside, so rounding of either weighs more there: slack covers
// it a thousand times over.
func mark(along float64, long int64, scale float64, full int) uint32 {
	const slack = 1e-9
	beside := math.Sqrt(max(float64(long)*(1+slack)-along*along, 0))
	first := int(math.Floor(along * (1 - slack) * scale))
	second := int(math.Ceil(beside * scale))
	return kernel.Mark(min(max(first, 0), full), min(second, full))
}
