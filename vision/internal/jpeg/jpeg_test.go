package jpeg_test

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	stdjpeg "image/jpeg"
	"math"
	"runtime"
	"testing"

	"github.com/visage-face/visage/vision/internal/jpeg"
)

// waves is a picture with slopes, edges and fine patterns, in colour.
func waves(w, h int) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			fine := 40 * math.Sin(float64(x*y)/(40+float64(x)))
			edge := 0.0
			if (x/37+y/23)%2 == 0 {
				edge = 90
			}
			m.SetNRGBA(x, y, color.NRGBA{
				uint8(60 + edge + fine), uint8(20 + 200*y/h), uint8(120 + 100*math.Sin(float64(x+2*y)/50)), 255,
			})
		}
	}
	return m
}

// encoded is a picture as the standard library encodes it: with half the differences of colour in each direction, or
// grey.
func encoded(t testing.TB, m image.Image, quality int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := stdjpeg.Encode(&b, m, &stdjpeg.Options{Quality: quality}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func grey(m image.Image) *image.Gray {
	g := image.NewGray(m.Bounds())
	for y := range m.Bounds().Dy() {
		for x := range m.Bounds().Dx() {
			g.Set(x, y, m.At(x, y))
		}
	}
	return g
}

// sample returns luma and differences at a place.
func sample(m image.Image, x, y int) (v [3]int) {
	switch m := m.(type) {
	case *image.Gray:
		v[0] = int(m.GrayAt(x, y).Y)
	case *image.YCbCr:
		c := m.YCbCrAt(x, y)
		v = [3]int{int(c.Y), int(c.Cb), int(c.Cr)}
	}
	return v
}

func decode(t testing.TB, file []byte, n int) (*jpeg.File, image.Image) {
	t.Helper()
	f, err := jpeg.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	m, err := f.Decode(n)
	if err != nil {
		t.Fatal(err)
	}
	return f, m
}

func TestDecodeAgreesWithTheStandardLibrary(t *testing.T) {
	for _, size := range []image.Point{{1, 1}, {8, 8}, {16, 16}, {17, 33}, {161, 119}, {640, 480}} {
		for _, quality := range []int{1, 50, 90, 100} {
			for _, m := range []image.Image{waves(size.X, size.Y), grey(waves(size.X, size.Y))} {
				file := encoded(t, m, quality)
				want, err := stdjpeg.Decode(bytes.NewReader(file))
				if err != nil {
					t.Fatal(err)
				}
				_, got := decode(t, file, jpeg.Full)
				if got.Bounds() != want.Bounds() {
					t.Fatalf("%v: bounds are %v", size, got.Bounds())
				}
				for y := range size.Y {
					for x := range size.X {
						a, b := sample(got, x, y), sample(want, x, y)
						for c := range a {
							if a[c]-b[c] > 1 || b[c]-a[c] > 1 {
								t.Fatalf("%v at quality %d: (%d, %d) is %v, want %v", size, quality, x, y, a, b)
							}
						}
					}
				}
			}
		}
	}
}

// At a reduced scale the picture is what is left of it without its finer frequencies: on slopes, the mean of the
// pixels.
func TestDecodeReduces(t *testing.T) {
	m := image.NewNRGBA(image.Rect(0, 0, 333, 250))
	for y := range 250 {
		for x := range 333 {
			m.SetNRGBA(x, y, color.NRGBA{uint8(x * 2 / 3), uint8(y), uint8(255 - x/2), 255})
		}
	}
	file := encoded(t, m, 100)
	_, whole := decode(t, file, jpeg.Full)
	for _, n := range []int{1, 2, 3, 4} {
		_, small := decode(t, file, n)
		w, h := (333*n+7)/8, (250*n+7)/8
		if small.Bounds() != image.Rect(0, 0, w, h) {
			t.Fatalf("%d of 8: bounds are %v", n, small.Bounds())
		}
		for y := range h - 1 {
			for x := range w - 1 {
				// The middle of the pixel, on the whole picture.
				px, py := (float64(x)+0.5)*8/float64(n)-0.5, (float64(y)+0.5)*8/float64(n)-0.5
				a, b, c := sample(small, x, y), sample(whole, int(px), int(py)), sample(whole, int(px+0.9), int(py+0.9))
				for i := range a {
					if a[i] < min(b[i], c[i])-4 || a[i] > max(b[i], c[i])+4 {
						t.Fatalf("%d of 8: (%d, %d) is %v, between %v and %v", n, x, y, a, b, c)
					}
				}
			}
		}
	}
}

// A part has the pixels of the whole, after a decode at any scale.
func TestPartIsOfTheWhole(t *testing.T) {
	for _, m := range []image.Image{waves(333, 250), grey(waves(333, 250))} {
		file := encoded(t, m, 90)
		_, whole := decode(t, file, jpeg.Full)
		for _, n := range []int{1, 3, jpeg.Full} {
			f, _ := decode(t, file, n)
			for _, r := range []image.Rectangle{
				image.Rect(0, 0, 1, 1), image.Rect(100, 77, 180, 99), image.Rect(300, 200, 333, 250),
				image.Rect(-5, -5, 999, 999),
			} {
				part, err := f.Part(r)
				if err != nil {
					t.Fatal(err)
				}
				b := part.Bounds()
				if all := whole.Bounds(); !r.Intersect(all).In(b) || !b.In(all) {
					t.Fatalf("part of %v has bounds %v", r, b)
				}
				for y := b.Min.Y; y < b.Max.Y; y++ {
					for x := b.Min.X; x < b.Max.X; x++ {
						if got, want := sample(part, x, y), sample(whole, x, y); got != want {
							t.Fatalf("part of %v: (%d, %d) is %v, want %v", r, x, y, got, want)
						}
					}
				}
			}
			if _, err := f.Part(image.Rect(400, 0, 500, 10)); err == nil {
				t.Error("a part outside of the picture is no error")
			}
		}
	}
}

// What has a fault is declined: other decoders know what to make of it.
func TestDecodeDeclines(t *testing.T) {
	file := encoded(t, waves(160, 120), 90)
	at := bytes.Index(file, []byte{0xff, 0xc0})
	changed := func(i int, v byte) []byte {
		b := bytes.Clone(file)
		b[i] = v
		return b
	}
	for name, bad := range map[string][]byte{
		"nothing":         nil,
		"no beginning":    changed(1, 0xd7),
		"headers alone":   file[:at+30],
		"no end":          file[:len(file)-2],
		"cut off":         append(bytes.Clone(file[:len(file)*2/3]), 0xff, 0xd9),
		"more pixels":     changed(at+5, 9),
		"fewer pixels":    changed(at+6, 20),
		"progressive":     changed(at+1, 0xc2),
		"12 bits":         changed(at+4, 12),
		"odd sampling":    changed(at+14, 0x21),
		"stray marker":    append(append(bytes.Clone(file[:len(file)-400]), 0xff, 0x3c), file[len(file)-400:]...),
		"restarts":        append(append(bytes.Clone(file[:len(file)-400]), 0xff, 0xd0), file[len(file)-400:]...),
		"no such table":   changed(at+12, 3),
		"bytes in excess": append(append(bytes.Clone(file[:len(file)-2]), 1, 2, 3), 0xff, 0xd9),
	} {
		f, err := jpeg.Parse(bad)
		if err == nil {
			_, err = f.Decode(jpeg.Full)
		}
		if !errors.Is(err, jpeg.ErrDeclined) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// A file of nothing but Huffman codes costs no more than to read past them.
func TestParseMakesTablesOfWhatTheScanUses(t *testing.T) {
	file := encoded(t, waves(64, 64), 90)
	many := bytes.Repeat([]byte{0x10, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3}, 3000)
	segment := append([]byte{0xff, 0xc4, byte((len(many) + 2) >> 8), byte(len(many) + 2)}, many...)
	padded := append(bytes.Clone(file[:2]), bytes.Repeat(segment, 20)...)
	padded = append(padded, file[2:]...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, got := decode(t, padded, jpeg.Full)
	runtime.ReadMemStats(&after)
	if made := after.TotalAlloc - before.TotalAlloc; made > 1<<20 {
		t.Errorf("a file with 60,000 codes takes %d bytes", made)
	}
	_, want := decode(t, file, jpeg.Full)
	if sample(got, 20, 30) != sample(want, 20, 30) {
		t.Error("the codes that came last do not hold")
	}
}

// FuzzDecode holds the decoder to its word on any bytes: a file is declined at every scale or at none, and its parts
// are those of the whole.
func FuzzDecode(f *testing.F) {
	for _, m := range []image.Image{waves(40, 30), grey(waves(40, 30)), waves(16, 90)} {
		for _, quality := range []int{1, 75, 100} {
			file := encoded(f, m, quality)
			f.Add(file)
			f.Add(file[:len(file)*3/4])
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		first, err := jpeg.Parse(file)
		if err != nil {
			if !errors.Is(err, jpeg.ErrDeclined) {
				t.Fatal(err)
			}
			return
		}
		if first.Width*first.Height > 1<<20 {
			return // it is another room that refuses pictures that are too large
		}
		whole, wholeErr := first.Decode(jpeg.Full)
		second, err := jpeg.Parse(file)
		if err != nil {
			t.Fatal(err)
		}
		small, smallErr := second.Decode(3)
		if (wholeErr == nil) != (smallErr == nil) {
			t.Fatalf("in full: %v; reduced: %v", wholeErr, smallErr)
		}
		if wholeErr != nil {
			return
		}
		if b := small.Bounds(); b.Dx() != (first.Width*3+7)/8 || b.Dy() != (first.Height*3+7)/8 {
			t.Fatalf("bounds are %v", b)
		}
		part, err := second.Part(image.Rect(first.Width/3, first.Height/2, first.Width/2+1, first.Height/2+1))
		if err != nil {
			t.Fatal(err)
		}
		b := part.Bounds()
		for y := b.Min.Y; y < b.Max.Y; y++ {
			for x := b.Min.X; x < b.Max.X; x++ {
				if sample(part, x, y) != sample(whole, x, y) {
					t.Fatalf("(%d, %d) is %v, want %v", x, y, sample(part, x, y), sample(whole, x, y))
				}
			}
		}
	})
}
