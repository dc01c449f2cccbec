package geometry

import "math"

// Point is a place in a picture, in pixels whose centres have whole numbers; x grows to the right, y downwards.
type Point struct{ X, Y float64 }

// Affine maps (x, y) to (A·x + B·y + C, D·x + E·y + F).
type Affine struct{ A, B, C, D, E, F float64 }

// Apply maps one point.
func (m Affine) Apply(p Point) Point {
	return Point{m.A*p.X + m.B*p.Y + m.C, m.D*p.X + m.E*p.Y + m.F}
}

// Similarity returns the map of one turn, one scale and one shift, without mirroring, that brings the points from as
// near as possible to the points to, by the sum of squared distances. It is Umeyama's solution (IEEE PAMI 13(4), 1991)
// without the reflection, which has a closed form in the plane. It reports false if there are fewer than two points,
// the numbers of points differ, or all points of from are equal.
func Similarity(from, to []Point) (Affine, bool) {
	n := float64(len(from))
	if len(from) != len(to) || len(from) < 2 {
		return Affine{}, false
	}
	var f, t Point
	for i := range from {
		f.X, f.Y = f.X+from[i].X/n, f.Y+from[i].Y/n
		t.X, t.Y = t.X+to[i].X/n, t.Y+to[i].Y/n
	}
	// With both sets centred and points read as complex numbers, turn and scale are one number: the correlation of the
	// two sets over the spread of the first.
	var re, im, spread float64
	for i := range from {
		u, v := from[i].X-f.X, from[i].Y-f.Y
		x, y := to[i].X-t.X, to[i].Y-t.Y
		re += x*u + y*v
		im += y*u - x*v
		spread += u*u + v*v
	}
	if !(spread > 0) || math.IsInf(spread, 0) {
		return Affine{}, false
	}
	re, im = re/spread, im/spread
	return Affine{re, -im, t.X - re*f.X + im*f.Y, im, re, t.Y - im*f.X - re*f.Y}, true
}

// Then returns the map that applies m first and next after it.
func (m Affine) Then(next Affine) Affine {
	return Affine{
		A: next.A*m.A + next.B*m.D, B: next.A*m.B + next.B*m.E, C: next.A*m.C + next.B*m.F + next.C,
		D: next.D*m.A + next.E*m.D, E: next.D*m.B + next.E*m.E, F: next.D*m.C + next.E*m.F + next.F,
	}
}
