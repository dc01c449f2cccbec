package vision_test

import (
	"image"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/internal/geometry"
	"github.com/visage-face/visage/vision/internal/photo"
)

// noise is a picture of random pixels.
func noise(random *rand.Rand, width, height int) *photo.RGB {
	img := &photo.RGB{W: width, H: height, Pix: make([]byte, 3*width*height)}
	for i := range img.Pix {
		img.Pix[i] = byte(random.Uint32())
	}
	return img
}

// TestFastSamplingIsSampling compares the fast code for maps that do not turn with the simple one.
func TestFastSamplingIsSampling(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		img := noise(random, 1+random.IntN(20), 1+random.IntN(20))
		within := image.Rect(random.IntN(24)-2, random.IntN(24)-2, random.IntN(24)-2, random.IntN(24)-2)
		m := geometry.Affine{
			A: 0.05 + 3*random.Float64(), C: 10 * (random.Float64() - 0.5),
			E: 0.05 + 3*random.Float64(), F: 10 * (random.Float64() - 0.5),
		}
		width, height := 1+random.IntN(16), 1+random.IntN(16)
		fast, simple := vision.Sample(img, width, height, within, m, false),
			vision.Sample(img, width, height, within, m, true)
		for i := range simple {
			if math.Abs(float64(fast[i]-simple[i])) > 1e-3 {
				t.Fatalf("picture %d×%d, within %v, map %+v: number %d is %g, the simple road gives %g",
					img.W, img.H, within, m, i, fast[i], simple[i])
			}
		}
	}
}

func TestShrinkAverages(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2))
	for range 100 {
		img := noise(random, 1+random.IntN(30), 1+random.IntN(30))
		left, top := random.IntN(img.W), random.IntN(img.H)
		part := image.Rect(left, top, left+1+random.IntN(img.W-left), top+1+random.IntN(img.H-top))
		times := 2 + random.IntN(4)
		small := vision.Shrink(img, part, times)
		for y := range small.H {
			for x := range small.W {
				cell := image.Rect(0, 0, times, times).Add(part.Min).Add(image.Pt(x*times, y*times)).Intersect(part)
				for c := range 3 {
					sum := 0
					for py := cell.Min.Y; py < cell.Max.Y; py++ {
						for px := cell.Min.X; px < cell.Max.X; px++ {
							sum += int(img.Pix[3*(py*img.W+px)+c])
						}
					}
					want := math.Round(float64(sum) / float64(cell.Dx()*cell.Dy()))
					if got := float64(small.Pix[3*(y*small.W+x)+c]); math.Abs(got-want) > 1 {
						t.Fatalf("%v of %d×%d by %d: pixel (%d, %d) is %g, want %g", part, img.W, img.H, times, x, y,
							got, want)
					}
				}
			}
		}
	}
}

func TestArrange(t *testing.T) {
	boxes := [][4]float64{
		{-20.4, 10.2, 80.4, 90.4}, // reaches over the edge
		{100, 100, 300, 300},
		{400, 400, 435, 440}, // 35 pixels wide
		{500, 500, 536, 536}, // just large enough
		{-100, -100, -1, -1}, // outside
	}
	got := vision.Arrange(boxes, 1920, 1080)
	want := []vision.Box{
		{Left: 100, Top: 100, Width: 200, Height: 200},
		{Left: 0, Top: 10, Width: 80, Height: 80},
		{Left: 500, Top: 500, Width: 36, Height: 36},
	}
	if len(got) != len(want) {
		t.Fatalf("%d faces, want %d: %+v", len(got), len(want), got)
	}
	for i, w := range want {
		if got[i].Box != w {
			t.Errorf("face %d is at %+v, want %+v", i, got[i].Box, w)
		}
	}
	// Twice as many pixels a side: faces must be twice as large.
	if got := vision.Arrange([][4]float64{{0, 0, 71, 71}, {100, 100, 172, 172}}, 3840, 2160); len(got) != 1 {
		t.Errorf("%d faces on a large picture, want 1", len(got))
	}
	var crowd [][4]float64
	for i := range 150 {
		crowd = append(crowd, [4]float64{float64(i), 0, float64(i) + 40, 40 + float64(i)})
	}
	if got := vision.Arrange(crowd, 1920, 1080); len(got) != 100 || got[0].Box.Height != 189 {
		t.Errorf("%d faces, the first %+v; want 100, the largest first", len(got), got[0].Box)
	}
}

// TestStrangePictures uses shapes that photos do not have.
func TestStrangePictures(t *testing.T) {
	p := open(t, vision.Config{})
	random := rand.New(rand.NewPCG(3, 3))
	want := vision.Want{Landmarks: true, Templates: true, Attributes: p.Supports()}
	sizes := []image.Point{{X: 1, Y: 1}, {X: 3, Y: 2}, {X: 5000, Y: 1}, {X: 1, Y: 5000}, {X: 700, Y: 20},
		{X: 33, Y: 31}}
	for _, size := range sizes {
		got, err := p.Examine(t.Context(), noise(random, size.X, size.Y), want)
		if err != nil {
			t.Errorf("%v: %v", size, err)
			continue
		}
		for _, f := range got.Faces {
			if f.Box.Width < 36 || f.Box.Height < 36 {
				t.Errorf("%v: a face at %+v", size, f.Box)
			}
		}
	}
}

// TestPanicIsAnError panics in the one place that a caller can reach.
func TestPanicIsAnError(t *testing.T) {
	p := open(t, vision.Config{})
	file := read(t, shared(t, "faces", "Family1-Dad1.jpg"))
	want := vision.Want{Select: func([]vision.Face) []int { panic("out of order") }}
	if got, err := p.Detect(t.Context(), file, want); err == nil || got != nil {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := p.Detect(t.Context(), file, vision.Want{}); err != nil {
		t.Errorf("after a panic: %v", err)
	}
}
