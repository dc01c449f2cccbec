package gallery

import (
	"math"

	"github.com/visage-face/visage/gallery/internal/kernel"
)

// coded is a vector as the planes keep it: the codes, packed, and what its code leaves out. The package documentation
// says what the marks are for.
type coded struct {
	front, back         []byte
	frontMark, backMark uint32
}

// coding holds the scales of marks for one length of vectors. A mark's two numbers are the legs of a triangle whose
// hypotenuse is the length of the code's vector, so that bounds both.
type coding struct {
	dim                   int
	frontScale, backScale float64
}

const (
	frontMost = 15  // the largest number of a code's vector on the front plane
	backMost  = 255 // and on both planes
	frontFull = math.MaxInt16
	backFull  = math.MaxUint16
)

func newCoding(dim int) coding {
	root := math.Sqrt(float64(dim))
	return coding{dim: dim, frontScale: frontFull / (frontMost * root), backScale: backFull / (backMost * root)}
}

// bytes returns the memory that the planes take for so many rows, a multiple of kernel.Rows.
func (c coding) bytes(rows int) (groups, back int) {
	return rows / kernel.Rows * kernel.GroupBytes(c.dim), rows * kernel.BackBytes(c.dim)
}

// encode codes a vector whose squared length is square. codes is room for the work, dim long.
//
// A code c, -128 to 127, stands for the middle of the cell [c, c+1) of 128 equal ones on either side of zero; its upper
// half h = ⌊c/16⌋ for the middle of [h, h+1) of eight. In halves of a cell these are 2c+1 and 2h+1, odd numbers with the
// sign of what they stand for.
func (c coding) encode(v []float32, square float64, codes []int8, out *coded) {
	most := float32(0)
	for _, x := range v {
		most = max(most, x, -x)
	}
	scale := 128 / float64(most)
	var front, back float64     // products with the vector
	var frontLong, backLong int // squared lengths
	for i, x := range v {
		code := int(math.Floor(float64(x) * scale))
		code = min(max(code, -128), 127)
		codes[i] = int8(code)
		f, b := 2*(code>>4)+1, 2*code+1
		front += float64(x) * float64(f)
		back += float64(x) * float64(b)
		frontLong += f * f
		backLong += b * b
	}
	kernel.Pack(codes, out.front, out.back)
	length := math.Sqrt(square)
	out.frontMark = mark(front/length, frontLong, c.frontScale, frontFull)
	out.backMark = mark(back/length, backLong, c.backScale, backFull)
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
