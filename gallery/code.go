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
	vector []float32
	codes  []int8
	two    []byte
	coded
}

func newWork(c coding) *work {
	w := &work{vector: make([]float32, c.dim), codes: make([]int8, c.dim), two: make([]byte, c.dim)}
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

// encode codes a vector whose squared length is square.
//
// A code c, -128 to 127, stands for the middle of the cell [c, c+1) of 128 equal ones on either side of zero; its upper
// half h = ⌊c/16⌋ for the middle of [h, h+1) of eight. In halves of a cell these are 2c+1 and 2h+1, odd numbers with the
// sign of what they stand for. The sketch has two cells on either side, the outer ones without end: -3, -1, 1 and 3.
func (c coding) encode(v []float32, square float64, w *work) {
	most := float32(0)
	for _, x := range v {
		most = max(most, x, -x)
	}
	scale := 128 / float64(most)
	var sketch, front, back float64         // products with the vector
	var sketchLong, frontLong, backLong int // squared lengths
	codes, two := w.codes[:len(v)], w.two[:len(v)]
	for i, x := range v {
		code := min(int(math.Floor(float64(x)*scale)), 127)
		s := 1
		if x >= c.cell || x < -c.cell {
			s = 3
		}
		if x < 0 {
			s = -s
		}
		codes[i], two[i] = int8(code), byte(s+3)>>1
		f, b := 2*(code>>4)+1, 2*code+1
		sketch += float64(x) * float64(s)
		front += float64(x) * float64(f)
		back += float64(x) * float64(b)
		sketchLong += s * s
		frontLong += f * f
		backLong += b * b
	}
	kernel.PackSketch(two, w.sketch)
	kernel.Pack(codes, w.front, w.back)
	length := math.Sqrt(square)
	w.sketchMark = mark(sketch/length, sketchLong, c.sketchScale, frontFull)
	w.frontMark = mark(front/length, frontLong, c.frontScale, frontFull)
	w.backMark = mark(back/length, backLong, c.backScale, backFull)
}

// mark makes the mark of a code's vector: how far it reaches along the vector it stands for, rounded down, and how far
// beside it, rounded up. along² and long differ by what is beside, so rounding of either weighs more there: slack covers
// it a thousand times over.
func mark(along float64, long int, scale float64, full int) uint32 {
	const slack = 1e-9
	beside := math.Sqrt(max(float64(long)*(1+slack)-along*along, 0))
	first := int(math.Floor(along * (1 - slack) * scale))
	second := int(math.Ceil(beside * scale))
	return kernel.Mark(min(max(first, 0), full), min(second, full))
}
