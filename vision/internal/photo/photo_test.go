package photo_test

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/color/palette"
	"image/draw"
	"image/gif"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/image/bmp"

	"github.com/visage-face/visage/vision/internal/photo"
)

// decoder is that of all tests: what a sandbox runs is compiled once.
var decoder = photo.NewDecoder()

func TestMain(m *testing.M) {
	code := m.Run()
	if err := decoder.Close(); err != nil {
		code = 1
	}
	os.Exit(code)
}

func decode(file []byte) (*photo.RGB, error) { return decoder.Decode(context.Background(), file) }

// scene is a picture whose corners and middle tell apart every way to turn it, with noise enough that its files are not
// too small to be accepted.
func scene(w, h int) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	seed := uint32(1)
	for y := range h {
		for x := range w {
			seed = seed*1664525 + 1013904223
			n := uint8(seed >> 29)
			m.SetNRGBA(x, y, color.NRGBA{
				R: uint8(x*240/w) + n, G: uint8(y*240/h) + n, B: uint8((x+2*y)*240/(w+2*h)) + n, A: 255,
			})
		}
	}
	return m
}

// encode makes a file of the named format.
func encode(t testing.TB, name string, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	var err error
	switch name {
	case "jpeg":
		err = jpeg.Encode(&b, m, &jpeg.Options{Quality: 100})
	case "png":
		err = png.Encode(&b, m)
	case "gif":
		err = gif.Encode(&b, m, nil)
	case "bmp":
		err = bmp.Encode(&b, m)
	default:
		t.Fatalf("no encoder for %s", name)
	}
	if err != nil {
		t.Fatalf("encode %s: %v", name, err)
	}
	return b.Bytes()
}

// compare fails unless got has the pixels of want, each channel within most.
func compare(t testing.TB, got *photo.RGB, want image.Image, most int) {
	t.Helper()
	b := want.Bounds()
	if got.W != b.Dx() || got.H != b.Dy() || len(got.Pix) != 3*got.W*got.H {
		t.Fatalf("picture is %d × %d in %d bytes, want %v", got.W, got.H, len(got.Pix), b.Size())
	}
	for y := range got.H {
		for x := range got.W {
			r, g, b, _ := want.At(b.Min.X+x, b.Min.Y+y).RGBA()
			for i, v := range []uint32{r, g, b} {
				if d := int(got.Pix[3*(y*got.W+x)+i]) - int(v>>8); d > most || d < -most {
					t.Fatalf("channel %d at (%d, %d) is %d, want %d within %d",
						i, x, y, got.Pix[3*(y*got.W+x)+i], v>>8, most)
				}
			}
		}
	}
}

func kindOf(t testing.TB, err error) photo.Kind {
	t.Helper()
	e, ok := errors.AsType[*photo.Error](err)
	if !ok {
		t.Fatalf("error is %T (%v), want *photo.Error", err, err)
	}
	if e.Message == "" {
		t.Errorf("error of kind %d has no message", e.Kind)
	}
	return e.Kind
}

func TestDecodeReadsEveryFormat(t *testing.T) {
	m := scene(61, 47)
	few := image.NewPaletted(m.Rect, palette.Plan9)
	draw.Draw(few, few.Rect, m, image.Point{}, draw.Src)
	for _, c := range []struct {
		name string
		from image.Image
		most int
	}{{"jpeg", m, 24}, {"png", m, 0}, {"png", few, 0}, {"gif", few, 0}, {"bmp", m, 0}, {"bmp", few, 0}} {
		t.Run(c.name, func(t *testing.T) {
			got, err := decode(encode(t, c.name, c.from))
			if err != nil {
				t.Fatal(err)
			}
			compare(t, got, c.from, c.most)
		})
	}
}

func TestDecodeReadsSharedPhotos(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(shared(), "testdata", "faces", "*.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		missing(t, "photos of faces")
	}
	for _, name := range files {
		file, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(file)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(name), err)
			continue
		}
		if got.W < 36 || got.H < 36 {
			t.Errorf("%s is %d × %d", filepath.Base(name), got.W, got.H)
		}
	}
}

// shared is where test data lies that is not part of the repository.
func shared() string {
	if s := os.Getenv("VISAGE_SHARED"); s != "" {
		return s
	}
	return filepath.Join("..", "..", "..", "..", "shared")
}

// missing ends a test that needs shared data: it must be there in CI.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s are missing in %s", what, shared())
	}
	t.Skipf("%s are not in %s", what, shared())
}
