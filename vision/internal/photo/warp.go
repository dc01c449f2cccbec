package photo

import (
	"math"

	"github.com/visage-face/visage/vision/internal/geometry"
)

// Warp returns a picture of the size w × h, in pixels, whose pixel (x, y) is that of the picture at from.Apply((x, y)).
//
// A place between pixels is blended from the four around it. Beyond the edge the picture is filled with the colour fill,
// into which the pixels on the edge blend. A map that shrinks skips pixels rather than averaging them.
func (p *RGB) Warp(from geometry.Affine, w, h int, fill [3]byte) *RGB {
	out := &RGB{Pix: make([]byte, 3*w*h), W: w, H: h}
	for y := range h {
		row := out.Pix[3*y*w : 3*(y+1)*w]
		// All places of the row lie on a line. Those that are within the picture, with all four neighbours, are one run
		// on it, and need no questions asked.
		x0, y0 := from.B*float64(y)+from.C, from.E*float64(y)+from.F
		first, last := run(from.A, x0, p.W-1, 0, w)
		first, last = run(from.D, y0, p.H-1, first, last)
		for x := range first {
			p.edge(row[3*x:3*x+3:3*x+3], along(from.A, x, x0), along(from.D, x, y0), fill)
		}
		for x := first; x < last; x++ {
			p.inner(row[3*x:3*x+3:3*x+3], along(from.A, x, x0), along(from.D, x, y0))
		}
		for x := max(last, first); x < w; x++ {
			p.edge(row[3*x:3*x+3:3*x+3], along(from.A, x, x0), along(from.D, x, y0), fill)
		}
	}
	return out
}

// along returns slope·x + at. The conversion keeps compilers from fusing the two steps in one place and not in another:
// what run finds to be inside must be so where the pixels are read.
func along(slope float64, x int, at float64) float64 { return float64(slope*float64(x)) + at }

// run narrows the run of whole numbers x from first up to last (without it) to those where 0 ≤ slope·x + at < limit.
func run(slope, at float64, limit, first, last int) (int, int) {
	in := func(x int) bool { v := along(slope, x, at); return v >= 0 && v < float64(limit) }
	if slope == 0 {
		if !in(first) {
			return first, first
		}
		return first, last
	}
	from, to := -at/slope, (float64(limit)-at)/slope
	if from > to {
		from, to = to, from
	}
	if !(from < float64(last)) || !(to >= float64(first)) { // also when a number is not one
		return first, first
	}
	// Rounding may put the ends one off.
	first, last = max(first, int(math.Ceil(from))-1), min(last, int(math.Min(to, float64(last)))+2)
	for first < last && !in(first) {
		first++
	}
	for last > first && !in(last-1) {
		last--
	}
	return first, last
}

// Weights of the blend are in 1/2048: three products of them with a byte fit into 32 bits.
const (
	unitBits = 11
	unit     = 1 << unitBits
	half     = 1 << (2*unitBits - 1)
)

// inner blends the four pixels around a place that has them all. Coordinates are not negative.
func (p *RGB) inner(dst []byte, x, y float64) {
	left, top := int(x), int(y)
	fx, fy := uint32((x-float64(left))*unit+0.5), uint32((y-float64(top))*unit+0.5)
	upper := p.Pix[3*(top*p.W+left):]
	lower := upper[3*p.W:]
	upper, lower = upper[:6:6], lower[:6:6]
	w00, w01, w10, w11 := (unit-fx)*(unit-fy), fx*(unit-fy), (unit-fx)*fy, fx*fy
	for i := range 3 {
		v := w00*uint32(upper[i]) + w01*uint32(upper[i+3]) + w10*uint32(lower[i]) + w11*uint32(lower[i+3])
		dst[i] = byte((v + half) >> (2 * unitBits))
	}
}

// edge blends the four pixels around a place of which some or all may be missing.
func (p *RGB) edge(dst []byte, x, y float64, fill [3]byte) {
	left, top := math.Floor(x), math.Floor(y)
	if !(left >= -1 && top >= -1 && left < float64(p.W) && top < float64(p.H)) {
		copy(dst, fill[:])
		return
	}
	fx, fy := uint32((x-left)*unit+0.5), uint32((y-top)*unit+0.5)
	px, py := int(left), int(top)
	weights := [4]uint32{(unit - fx) * (unit - fy), fx * (unit - fy), (unit - fx) * fy, fx * fy}
	for i := range 3 {
		v := uint32(half)
		for n, weight := range weights {
			c := fill[i]
			if qx, qy := px+n&1, py+n>>1; qx >= 0 && qy >= 0 && qx < p.W && qy < p.H {
				c = p.Pix[3*(qy*p.W+qx)+i]
			}
			v += weight * uint32(c)
		}
		dst[i] = byte(v >> (2 * unitBits))
	}
}
