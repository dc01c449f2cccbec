package photo_test

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"sync"
	"testing"

	"github.com/visage-face/visage/vision/internal/photo"
)

// slopes is a large picture that has another colour everywhere, as a JPEG file. Its size is no multiple of a block's.
func slopes(t testing.TB, w, h int) (file []byte, m *image.NRGBA) {
	t.Helper()
	m = image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.SetNRGBA(
				x, y, color.NRGBA{uint8(x * 250 / w), uint8(y * 250 / h), uint8(125 + 100*math.Sin(float64(x+y)/300)),
					255},
			)
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, &jpeg.Options{Quality: 95}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), m
}

// turnedAt returns the colour at a place of the upright picture, of what is stored.
func turnedAt(m *image.NRGBA, orientation, x, y int) color.NRGBA {
	w, h := m.Rect.Dx()-1, m.Rect.Dy()-1
	switch orientation {
	case 2:
		return m.NRGBAAt(w-x, y)
	case 3:
		return m.NRGBAAt(w-x, h-y)
	case 4:
		return m.NRGBAAt(x, h-y)
	case 5:
		return m.NRGBAAt(y, x)
	case 6:
		return m.NRGBAAt(y, h-x)
	case 7:
		return m.NRGBAAt(w-y, h-x)
	case 8:
		return m.NRGBAAt(w-y, x)
	}
	return m.NRGBAAt(x, y)
}

func near(t *testing.T, what string, got *photo.RGB, x, y int, want color.NRGBA, most int) {
	t.Helper()
	p := got.Pix[3*(y*got.W+x):]
	for i, v := range []byte{want.R, want.G, want.B} {
		if d := int(p[i]) - int(v); d > most || d < -most {
			t.Fatalf("%s: (%d, %d) is %v, want %v", what, x, y, p[:3], want)
		}
	}
}

// A large JPEG is decoded at a reduced scale, and shows the same at every place, however it is turned.
func TestLargeJPEGsAreReduced(t *testing.T) {
	plain, m := slopes(t, 2999, 2245)
	for orientation := 1; orientation <= 8; orientation++ {
		p, err := decode(jpegWith(plain, tiff(binary.BigEndian, uint16(orientation))))
		if err != nil {
			t.Fatal(err)
		}
		w, h := 2999, 2245
		if orientation >= 5 {
			w, h = h, w
		}
		small, scale := p.Reduced()
		if p.W != w || p.H != h || p.Pix != nil || max(small.W, small.H) < 1000 || max(small.W, small.H) > 1280 {
			t.Fatalf("orientation %d: %d × %d, reduced to %d × %d", orientation, p.W, p.H, small.W, small.H)
		}
		for y := 0; y < h; y += 97 {
			for x := 0; x < w; x += 101 {
				sx := int(math.Round(float64(x)*scale.By + scale.X))
				sy := int(math.Round(float64(y)*scale.By + scale.Y))
				near(t, "reduced", small, min(max(sx, 0), small.W-1), min(max(sy, 0), small.H-1),
					turnedAt(m, orientation, x, y), 5)
			}
		}
		for _, box := range []image.Rectangle{
			image.Rect(0, 0, 40, 40), image.Rect(w-60, h-30, w+10, h+10), image.Rect(700, 900, 950, 1250),
		} {
			part, at := p.Part(box, 0)
			shown := box.Intersect(image.Rect(0, 0, w, h))
			if at.Size() != shown.Size() || part.W*part.H > 4*(shown.Dx()+120)*(shown.Dy()+120) {
				t.Fatalf("part of %v is %v of %d × %d", box, at, part.W, part.H)
			}
			for y := 0; y < at.Dy(); y += 3 {
				for x := 0; x < at.Dx(); x += 3 {
					near(t, "part", part, at.Min.X+x, at.Min.Y+y,
						turnedAt(m, orientation, shown.Min.X+x, shown.Min.Y+y), 4)
				}
			}
		}
		// Where fewer pixels are enough, it is the reduced picture.
		part, at := p.Part(image.Rect(200, 300, 1200, 1300), 300)
		if part != small || at.Dx() < 300 {
			t.Fatalf("a part of 300 pixels is %v of %d × %d", at, part.W, part.H)
		}
		near(t, "reduced part", part, at.Min.X, at.Min.Y, turnedAt(m, orientation, 200, 300), 4)
		near(t, "reduced part", part, at.Max.X-1, at.Max.Y-1, turnedAt(m, orientation, 1199, 1299), 4)
	}
}

// Other pictures have all their pixels, and their parts are they themselves.
func TestSmallPicturesAreWhole(t *testing.T) {
	file, _ := slopes(t, 1920, 1080)
	p, err := decode(file)
	if err != nil {
		t.Fatal(err)
	}
	small, scale := p.Reduced()
	part, at := p.Part(image.Rect(-10, 5, 60, 2000), 0)
	if len(p.Pix) != 3*1920*1080 || small != p || scale != (photo.Scale{By: 1}) || part != p ||
		at != image.Rect(0, 5, 60, 1080) {
		t.Errorf("reduced to %v, part %v", scale, at)
	}
}

func TestPartsAreForManyAtOnce(t *testing.T) {
	file, m := slopes(t, 2600, 1500)
	p, err := decode(file)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			box := image.Rect(300*i, 100*i, 300*i+200, 100*i+150)
			part, at := p.Part(box, 0)
			near(t, "part", part, at.Min.X, at.Min.Y, m.NRGBAAt(box.Min.X, box.Min.Y), 4)
		})
	}
	all.Wait()
}
