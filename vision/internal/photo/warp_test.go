package photo_test

import (
	"image"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/visage-face/visage/vision/internal/geometry"
	"github.com/visage-face/visage/vision/internal/photo"
)

func picture(t testing.TB, w, h int) *photo.RGB {
	t.Helper()
	m := scene(w, h)
	p := &photo.RGB{W: w, H: h}
	for i := range w * h {
		p.Pix = append(p.Pix, m.Pix[4*i:4*i+3]...)
	}
	return p
}

// sample is Warp done simply, for one pixel.
func sample(p *photo.RGB, x, y float64, fill [3]byte) (v [3]float64) {
	left, top := math.Floor(x), math.Floor(y)
	for dy := range 2 {
		for dx := range 2 {
			weight := (1 - math.Abs(x-left-float64(dx))) * (1 - math.Abs(y-top-float64(dy)))
			px, py := left+float64(dx), top+float64(dy)
			for c := range 3 {
				s := fill[c]
				if px >= 0 && py >= 0 && px < float64(p.W) && py < float64(p.H) {
					s = p.Pix[3*(int(py)*p.W+int(px))+c]
				}
				v[c] += weight * float64(s)
			}
		}
	}
	return v
}

func TestWarpBlendsFourPixels(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	p := picture(t, 37, 29)
	fill := [3]byte{255, 0, 40}
	maps := []geometry.Affine{
		{A: 1, E: 1}, {A: 1, E: 1, C: -5, F: 60}, {A: 0.5, E: 0.5, C: 0.25, F: 0.25}, {A: -1, E: -1, C: 36, F: 28},
		{B: 1, D: 1}, {}, {C: 1e9}, {A: 1e12, E: 1e12}, {A: 1e-12, E: 1e-12, C: 36, F: 28},
	}
	for range 300 {
		maps = append(maps, geometry.Affine{A: r.NormFloat64(), B: r.NormFloat64(), C: 20 + 15*r.NormFloat64(),
			D: r.NormFloat64(), E: r.NormFloat64(), F: 15 + 15*r.NormFloat64()})
	}
	for _, m := range maps {
		got := p.Warp(m, 23, 19, fill)
		for y := range got.H {
			for x := range got.W {
				at := m.Apply(geometry.Point{X: float64(x), Y: float64(y)})
				for c, want := range sample(p, at.X, at.Y, fill) {
					if v := float64(got.Pix[3*(y*got.W+x)+c]); math.Abs(v-want) > 0.75 {
						t.Fatalf("%+v: channel %d at (%d, %d) is %v, want %.2f", m, c, x, y, v, want)
					}
				}
			}
		}
	}
}

func TestWarpOfNothing(t *testing.T) {
	p := picture(t, 10, 10)
	fill := [3]byte{1, 2, 3}
	for _, m := range []geometry.Affine{
		{A: math.NaN(), E: 1}, {A: 1, E: 1, C: math.Inf(1)}, {A: math.Inf(-1), E: math.NaN()},
	} {
		got := p.Warp(m, 4, 4, fill)
		for i, v := range got.Pix {
			if x := i / 3 % 4; v != fill[i%3] && x > 0 {
				t.Errorf("%+v: byte %d is %d", m, i, v)
			}
		}
	}
	if got := (&photo.RGB{}).Warp(geometry.Affine{A: 1, E: 1}, 2, 2, fill); [3]byte(got.Pix[9:]) != fill {
		t.Errorf("out of an empty picture come %v", got.Pix)
	}
	if got := p.Warp(geometry.Affine{A: 1, E: 1}, 0, 0, fill); len(got.Pix) != 0 {
		t.Errorf("an empty view has %d bytes", len(got.Pix))
	}
}

// A crop is a warp by whole pixels.
func TestWarpAgreesWithCrop(t *testing.T) {
	p := picture(t, 50, 40)
	a := p.Crop(image.Rect(7, 9, 30, 31))
	b := p.Warp(geometry.Affine{A: 1, C: 7, E: 1, F: 9}, a.W, a.H, [3]byte{})
	if string(a.Pix) != string(b.Pix) {
		t.Error("they differ")
	}
}
