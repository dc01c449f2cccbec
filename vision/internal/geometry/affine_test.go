package geometry_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/visage-face/visage/vision/internal/geometry"
)

func near(a, b geometry.Point, most float64) bool { return math.Hypot(a.X-b.X, a.Y-b.Y) <= most }

func randomPoint(r *rand.Rand) geometry.Point {
	return geometry.Point{X: 200*r.Float64() - 100, Y: 200*r.Float64() - 100}
}

func TestSimilarityFindsTheMap(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 500 {
		sin, cos := math.Sincos(2 * math.Pi * r.Float64())
		scale := 0.1 + 3*r.Float64()
		want := geometry.Affine{A: scale * cos, B: -scale * sin, C: 50 * r.NormFloat64(),
			D: scale * sin, E: scale * cos, F: 50 * r.NormFloat64()}
		from := make([]geometry.Point, 2+r.IntN(6))
		to := make([]geometry.Point, len(from))
		for i := range from {
			from[i] = randomPoint(r)
			to[i] = want.Apply(from[i])
		}
		got, ok := geometry.Similarity(from, to)
		if p := randomPoint(r); !ok || !near(got.Apply(p), want.Apply(p), 1e-6) {
			t.Fatalf("map is %+v (%v), want %+v", got, ok, want)
		}
	}
}

// No other turn, scale and shift nearby comes closer to points that no such map brings together.
func TestSimilarityIsBest(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 200 {
		from, to := make([]geometry.Point, 5), make([]geometry.Point, 5)
		for i := range from {
			from[i], to[i] = randomPoint(r), randomPoint(r)
		}
		off := func(m geometry.Affine) (sum float64) {
			for i := range from {
				p := m.Apply(from[i])
				sum += (p.X-to[i].X)*(p.X-to[i].X) + (p.Y-to[i].Y)*(p.Y-to[i].Y)
			}
			return sum
		}
		best, ok := geometry.Similarity(from, to)
		if !ok || best.A != best.E || best.B != -best.D {
			t.Fatalf("%+v (%v) is not a turn, a scale and a shift", best, ok)
		}
		least := off(best)
		for range 20 {
			m, e := best, 1e-3
			da, dd := e*r.NormFloat64(), e*r.NormFloat64()
			m.A, m.E, m.D, m.B = m.A+da, m.E+da, m.D+dd, m.B-dd
			m.C, m.F = m.C+e*r.NormFloat64(), m.F+e*r.NormFloat64()
			if off(m) < least*(1-1e-12) {
				t.Fatalf("%+v is off by %v, but %+v only by %v", best, least, m, off(m))
			}
		}
	}
}

func TestSimilarityOfTooLittle(t *testing.T) {
	one, p := []geometry.Point{{X: 1, Y: 2}}, geometry.Point{X: 1, Y: 2}
	for name, c := range map[string][2][]geometry.Point{
		"none":          {nil, nil},
		"one point":     {one, one},
		"one place":     {{p, p, p}, {p, p, p}},
		"not as many":   {{p, {}}, {p, {}, {}}},
		"not a number":  {{p, {X: math.NaN()}}, {p, {}}},
		"infinitely so": {{p, {X: math.Inf(1)}}, {p, {}}},
	} {
		if got, ok := geometry.Similarity(c[0], c[1]); ok {
			t.Errorf("%s: map is %+v, want none", name, got)
		}
	}
}

func TestThenDoesOneAfterTheOther(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	a := geometry.Affine{A: 2, B: 1, C: 3, D: -1, E: 1, F: 5}
	b := geometry.Affine{A: 0.5, B: -1, C: 7, D: 2, E: 1, F: -2}
	for range 100 {
		p := randomPoint(r)
		if got, want := a.Then(b).Apply(p), b.Apply(a.Apply(p)); !near(got, want, 1e-9) {
			t.Fatalf("of %v: %v, want %v", p, got, want)
		}
	}
}
