package vision_test

import (
	"bytes"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/image/vector"

	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/pack"
)

// wearing are the attributes for what faces wear that the pack mobileface gives. It recognises covered eyes too badly
// for vision.Occlusion.
const wearing = vision.Glasses | vision.Accessories | vision.Mask

// openWear opens a pipeline whose pack sees what faces wear.
func openWear(t testing.TB) *vision.Pipeline {
	t.Helper()
	dir := filepath.Join(root, "models", "packs", "mobileface")
	if _, err := os.Stat(filepath.Join(dir, pack.ManifestName)); err != nil {
		missing(t, "no model pack at "+dir+": run `make setup`")
	}
	p, err := pack.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Manifest().Wear) == 0 {
		missing(t, "the model pack at "+dir+
			" was made without networks for what faces wear: remove it and run `make setup`")
	}
	return open(t, vision.Config{Pack: p})
}

// canvas is a photo to draw on.
type canvas struct{ *image.RGBA }

func canvasOf(t testing.TB, file []byte) canvas {
	t.Helper()
	img, err := jpeg.Decode(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	c := canvas{image.NewRGBA(image.Rect(0, 0, img.Bounds().Dx(), img.Bounds().Dy()))}
	draw.Draw(c, c.Bounds(), img, img.Bounds().Min, draw.Src)
	return c
}

// polygon fills a polygon.
func (c canvas) polygon(fill color.Color, points ...vision.Point) {
	r := vector.NewRasterizer(c.Bounds().Dx(), c.Bounds().Dy())
	for i, p := range points {
		if i == 0 {
			r.MoveTo(float32(p.X), float32(p.Y))
		} else {
			r.LineTo(float32(p.X), float32(p.Y))
		}
	}
	r.ClosePath()
	r.Draw(c, c.Bounds(), image.NewUniform(fill), image.Point{})
}

func (c canvas) file(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, c, &jpeg.Options{Quality: 90}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// frame places points on a face: x and y in distances of the pupils from the middle between them, along the eyes and
// down.
func frame(l *vision.Landmarks) func(x, y float64) vision.Point {
	a, b := l.PupilLeft, l.PupilRight
	dx, dy := b.X-a.X, b.Y-a.Y
	return func(x, y float64) vision.Point {
		return vision.Point{X: (a.X+b.X)/2 + x*dx - y*dy, Y: (a.Y+b.Y)/2 + x*dy + y*dx}
	}
}

// mask draws a surgical mask with folds and straps.
func (c canvas) mask(l *vision.Landmarks) {
	at := frame(l)
	white, fold := color.RGBA{235, 235, 235, 255}, color.RGBA{105, 145, 175, 255}
	for _, side := range []float64{-1, 1} {
		c.polygon(white, at(side*0.8, 0.6), at(side*1.15, 0.1), at(side*1.18, 0.12), at(side*0.82, 0.65))
		c.polygon(white, at(side*0.76, 1.15), at(side*1.15, 0.45), at(side*1.18, 0.47), at(side*0.78, 1.2))
	}
	c.polygon(color.RGBA{150, 190, 215, 255}, at(0, 0.3), at(0.55, 0.5), at(0.85, 0.6), at(0.78, 1.2), at(0.4, 1.7),
		at(0, 1.8), at(-0.4, 1.7), at(-0.78, 1.2), at(-0.85, 0.6), at(-0.55, 0.5))
	for _, y := range []float64{0.75, 0.95, 1.15} {
		c.polygon(fold, at(-0.78, y), at(0, y+0.1), at(0.78, y), at(0.78, y+0.03), at(0, y+0.14), at(-0.78, y+0.03))
	}
}

func (c canvas) sunglasses(l *vision.Landmarks) {
	at := frame(l)
	black := color.RGBA{12, 12, 14, 255}
	for _, side := range []float64{-0.52, 0.52} {
		var rim []vision.Point
		for k := range 24 {
			sin, cos := math.Sincos(float64(k) / 12 * math.Pi)
			rim = append(rim, at(side+0.42*cos, 0.06+0.3*sin))
		}
		c.polygon(black, rim...)
	}
	c.polygon(black, at(-0.2, -0.06), at(0.2, -0.06), at(0.2, 0), at(-0.2, 0))
}

// TestWhatFacesWear draws masks and sunglasses on the faces of the shared photos, which have neither.
func TestWhatFacesWear(t *testing.T) {
	p := openWear(t)
	if p.Supports()&(wearing|vision.Occlusion) != wearing {
		t.Fatalf("the pack supports %v", p.Supports().Names())
	}
	files, err := filepath.Glob(shared(t, "faces", "Family*.jpg"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d photos: %v", len(files), err)
	}
	detect := func(file []byte) []vision.Face {
		photo, err := p.Detect(t.Context(), file, vision.Want{Landmarks: true, Attributes: wearing})
		if err != nil {
			t.Fatal(err)
		}
		return photo.Faces
	}
	var faces, masks, covered, shades, listed int
	for _, file := range files {
		raw := read(t, file)
		bare := detect(raw)
		masked, shaded := canvasOf(t, raw), canvasOf(t, raw)
		for _, f := range bare {
			cover, eyes := f.Attributes[vision.Mask].(vision.Covering), f.Attributes[vision.Glasses]
			if cover.Type == vision.FaceMask || cover.NoseAndMouth || eyes == vision.Sunglasses {
				t.Errorf("%s: %+v, %v without anything drawn", filepath.Base(file), cover, eyes)
			}
			masked.mask(f.Landmarks)
			shaded.sunglasses(f.Landmarks)
		}
		for _, f := range detect(masked.file(t)) {
			faces++
			a, b := f.Landmarks.PupilLeft, f.Landmarks.PupilRight
			if math.Hypot(a.X-b.X, a.Y-b.Y) < float64(f.Box.Width)/5 {
				t.Errorf("%s: pupils at %v and %v in %+v", filepath.Base(file), a, b, f.Box)
			}
			cover := f.Attributes[vision.Mask].(vision.Covering)
			if cover.Type == vision.FaceMask {
				masks++
			}
			if cover.NoseAndMouth {
				covered++
			}
		}
		for _, f := range detect(shaded.file(t)) {
			if f.Attributes[vision.Glasses] == vision.Sunglasses {
				shades++
			}
			worn := f.Attributes[vision.Accessories].([]vision.Accessory)
			if slices.ContainsFunc(worn, func(a vision.Accessory) bool { return a.Type == vision.GlassesWorn }) {
				listed++
			}
		}
	}
	least := faces * 9 / 10
	if faces < len(files)/2 || masks < least || covered < least || shades < least || listed < least {
		t.Errorf("of %d faces: %d masks, %d covered noses and mouths, %d sunglasses, %d listed as accessories", faces,
			masks,
			covered, shades, listed)
	}
}
