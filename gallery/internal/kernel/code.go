package kernel

import "math"

// Coded is what Code finds out about a vector's codes: for the sketch, the front plane and both planes together, the
// product of the vector with that of the codes, and the squared length of the latter.
//
// The vector of a code is made of odd numbers, the middles of cells in halves of a cell: of a code c of both planes,
// -128 to 127, 2c+1; of its upper half h = ⌊c/16⌋, 2h+1; and of a sketch's code q, 2q-3.
type Coded struct {
	Along [3]float64
	Long  [3]int64

	sums [3]int32 // of the part that is coded by a kernel
}

// Peak returns the largest number of a vector, whatever its sign.
func (k *Kernel) Peak(v []float32) float32 {
	whole := len(v) &^ 7
	most := float32(0)
	if whole > 0 {
		most = k.peak(&v[0], whole)
	}
	for _, x := range v[whole:] {
		most = max(most, x, -x)
	}
	return most
}

// Code codes a vector. It writes codes of both planes plus 128 to codes, the cell ⌊x·scale⌋ of each number as far as
// there are cells, and those of the sketch to sketch: 2 for what is at least 0 and 3 for what is at least cell, 1 and 0 for
// the same below zero.
func (k *Kernel) Code(v []float32, scale, cell float32, codes, sketch []byte, out *Coded) {
	*out = Coded{}
	codes, sketch = codes[:len(v)], sketch[:len(v)]
	whole := len(v) &^ 7
	if whole > 0 {
		k.code(&v[0], whole, scale, cell, &codes[0], &sketch[0], &out.Along, &out.sums)
	}
	for i, sum := range out.sums {
		out.Long[i] = int64(sum)
	}
	for i := whole; i < len(v); i++ {
		code(v[i], scale, cell, &codes[i], &sketch[i], &out.Along, &out.Long)
	}
}

// code codes one number.
func code[N int32 | int64](x, scale, cell float32, c, s *byte, along *[3]float64, long *[3]N) {
	both := int(min(max(math.Floor(float64(x*scale)), -128), 127))
	sketch := 1
	if x >= cell || x <= -cell {
		sketch = 3
	}
	if math.Signbit(float64(x)) {
		sketch = -sketch
	}
	*c, *s = byte(both+128), byte((sketch+3)/2)
	for i, n := range [3]int{sketch, 2*(both>>4) + 1, 2*both + 1} {
		along[i] += float64(x) * float64(n)
		long[i] += N(n * n)
	}
}

func codePortable(
	v *float32, n int, scale, cell float32, codes, sketch *byte, along *[3]float64, long *[3]int32,
) {
	vs, cs, ss := slice(v, n), slice(codes, n), slice(sketch, n)
	for i, x := range vs {
		code(x, scale, cell, &cs[i], &ss[i], along, long)
	}
}

func peakPortable(v *float32, n int) float32 {
	most := float32(0)
	for _, x := range slice(v, n) {
		most = max(most, x, -x)
	}
	return most
}
