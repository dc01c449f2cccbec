package vision_test

import (
	"bytes"
	"context"
	"image"
	"image/jpeg"
	"math"
	"path/filepath"
	"testing"

	"golang.org/x/image/draw"

	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/internal/photo"
)

// enlarged returns a photo scaled to a part of a picture of the given size, which is grey elsewhere, as a JPEG file,
// and the same picture with all its pixels.
func enlarged(t *testing.T, file []byte, width, height int, part image.Rectangle) ([]byte, *photo.RGB) {
	t.Helper()
	src, err := jpeg.Decode(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	canvas := image.NewRGBA(image.Rect(0, 0, width, height))
	for i := range canvas.Pix {
		canvas.Pix[i] = 128
	}
	draw.ApproxBiLinear.Scale(canvas, part, src, src.Bounds(), draw.Src, nil)
	var b bytes.Buffer
	if err := jpeg.Encode(&b, canvas, &jpeg.Options{Quality: 92}); err != nil {
		t.Fatal(err)
	}
	full := &photo.RGB{W: width, H: height}
	decoded, err := jpeg.Decode(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	draw.Draw(canvas, canvas.Bounds(), decoded, image.Point{}, draw.Src)
	for i := 0; i < len(canvas.Pix); i += 4 {
		full.Pix = append(full.Pix, canvas.Pix[i:i+3]...)
	}
	return b.Bytes(), full
}

// A large photo is decoded at a reduced scale, with the same results.
func TestLargePhotosHaveTheSameFaces(t *testing.T) {
	p := open(t, vision.Config{})
	want := vision.Want{Landmarks: true, Templates: true, Attributes: p.Supports()}
	for name, part := range map[string]image.Rectangle{
		"face that fills the photo": image.Rect(0, 0, 3600, 2700),
		"large face":                image.Rect(700, 300, 1900, 1200),
		"medium face":               image.Rect(2100, 1100, 2640, 1505),
		"small face":                image.Rect(2900, 2100, 3250, 2362),
	} {
		t.Run(name, func(t *testing.T) {
			file, full := enlarged(t, read(t, filepath.Join(shared(t, "faces"), "Family1-Dad1.jpg")), 3600, 2700, part)
			got, err := p.Detect(t.Context(), file, want)
			if err != nil {
				t.Fatal(err)
			}
			like, err := p.Examine(context.Background(), full, want)
			if err != nil {
				t.Fatal(err)
			}
			if got.Width != 3600 || got.Height != 2700 || len(got.Faces) != 1 || len(like.Faces) != 1 {
				t.Fatalf("%d faces on %d × %d pixels, want %d", len(got.Faces), got.Width, got.Height,
					len(like.Faces))
			}
			a, b := got.Faces[0], like.Faces[0]
			if o := overlap(a.Box, b.Box); o < 0.9 {
				t.Errorf("the box is %v, want %v", a.Box, b.Box)
			}
			size := float64(b.Box.Width)
			if x, y := a.Landmarks.NoseTip, b.Landmarks.NoseTip; math.Hypot(x.X-y.X, x.Y-y.Y) > 0.02*size {
				t.Errorf("the tip of the nose is at %v, want %v", x, y)
			}
			if c := 1 - distance(a.Template, b.Template); c < 0.995 {
				t.Errorf("the templates have a cosine of %.4f", c)
			}
			for _, what := range []vision.Attributes{vision.Blur, vision.Exposure, vision.Noise} {
				got, want := a.Attributes[what].(vision.Level), b.Attributes[what].(vision.Level)
				if math.Abs(got.Value-want.Value) > 0.05 {
					t.Errorf("%v is %.3f, want %.3f", what.Names(), got.Value, want.Value)
				}
			}
			if got, want := a.Attributes[vision.Quality], b.Attributes[vision.Quality]; got != want {
				t.Errorf("quality is %v, want %v", got, want)
			}
		})
	}
}
