package gallery

import (
	"math"

	"github.com/visage-face/visage/gallery/internal/kernel"
)

// coding holds the scales of marks for one length of vectors. A mark's two numbers are the legs of a triangle whose
// hypotenuse is the length of the code's vector, which bounds both.
type coding struct {
	dim int
	// of marks of the sketch, of it and the second plane, and of all but the last
	sketchScale, upperScale, scale float64
}

const (
	sketchMost = 3   // the largest number of what the sketch stands for
	upperMost  = 15  // of what sketch and second plane stand for
	mostMost   = 255 // and of what they and the third plane stand for
	markFull   = math.MaxInt16
)

func newCoding(dim int) coding {
	root := math.Sqrt(float64(dim))
	return coding{
		dim: dim, sketchScale: markFull / (sketchMost * root), upperScale: markFull / (upperMost * root),
		scale: markFull / (mostMost * root),
	}
}

// work is the planes and marks of one vector.
type work struct {
	sketch, second, third, last []byte
	sketchMark, upperMark, mark uint32
	scale                       float32
}

func newWork(c coding) *work {
	return &work{
		sketch: make([]byte, kernel.SecondBytes(c.dim)), second: make([]byte, kernel.SecondBytes(c.dim)),
		third: make([]byte, kernel.ThirdBytes(c.dim)), last: make([]byte, kernel.LastBytes(c.dim)),
	}
}

// wipe clears data that identifies the person as well as the face does.
func (w *work) wipe() {
	clear(w.sketch)
	clear(w.second)
	clear(w.third)
	clear(w.last)
	*w = work{sketch: w.sketch, second: w.second, third: w.third, last: w.last}
}

// encode splits a code into planes and marks.
func (c coding) encode(k *kernel.Kernel, code Code, w *work) {
	var found kernel.Coded
	k.Code(code, w.sketch, w.second, w.third, w.last, &found)
	inverse := 1 / math.Sqrt(float64(found.Square))
	w.scale = float32(inverse)
	w.sketchMark = mark(float64(found.Along[0])*inverse, found.Long[0], c.sketchScale)
	w.upperMark = mark(float64(found.Along[1])*inverse, found.Long[1], c.upperScale)
	w.mark = mark(float64(found.Along[2])*inverse, found.Long[2], c.scale)
}

// mark makes the mark of a code's vector: how far it reaches along the vector it stands for, rounded down, and how far
// beside it, rounded up. along² and long differ by what is beside, so rounding of either weighs more there: slack
// covers it a thousand times over.
func mark(along float64, long int64, scale float64) uint32 {
	const slack = 1e-9
	beside := math.Sqrt(max(float64(long)*(1+slack)-along*along, 0))
	first := int(math.Floor(along * (1 - slack) * scale))
	second := int(math.Ceil(beside * scale))
	return kernel.Mark(min(max(first, 0), markFull), min(second, markFull))
}
