package geometry_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/visage-face/visage/vision/internal/geometry"
)

func TestMisfitOfRealFaces(t *testing.T) {
	all, poor := 0, 0
	for name, shapes := range referenceShapes(t) {
		for i, s := range shapes {
			fit := geometry.Misfit(&s)
			all++
			if fit > 0.03 {
				poor++
				t.Logf("%s: face %d has a misfit of %.4f", name, i, fit)
			}
			// It is the same wherever the face lies, however large it is and however it is turned.
			sin, cos := math.Sincos(2)
			moved := s
			for j, p := range s {
				moved[j] = geometry.Point{X: 1000 + 3*(cos*p.X-sin*p.Y), Y: -50 + 3*(sin*p.X+cos*p.Y)}
			}
			if d := math.Abs(geometry.Misfit(&moved) - fit); d > 1e-9 {
				t.Errorf("%s: face %d has a misfit %g away when it is moved", name, i, d)
			}
			// Points in another order are no face, though in the same places.
			swapped := s
			for j := range s {
				swapped[j] = s[(j+20)%len(s)]
			}
			if got := geometry.Misfit(&swapped); got < 0.5 {
				t.Errorf("%s: the points of face %d out of order have a misfit of %.4f", name, i, got)
			}
		}
	}
	if poor > all/10 {
		t.Errorf("the points of %d of %d faces do not fit", poor, all)
	}
}

func TestMisfitOfNoFace(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var line, cloud, nan, far geometry.Shape
	for i := range line {
		line[i] = geometry.Point{X: float64(i), Y: 2 * float64(i)}
		cloud[i] = geometry.Point{X: r.NormFloat64(), Y: r.NormFloat64()}
		nan[i], far[i] = cloud[i], cloud[i]
	}
	nan[3].X = math.NaN()
	far[3].Y = math.Inf(1)
	for name, s := range map[string]geometry.Shape{
		"one point": {}, "a line": line, "a cloud": cloud, "not a number": nan, "infinite": far,
	} {
		if got := geometry.Misfit(&s); !(got > 0.3 && got <= 1) {
			t.Errorf("%s: misfit %g", name, got)
		}
	}
}
