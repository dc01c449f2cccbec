package timing_test

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"testing"
	"time"

	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/timing"
)

func TestPicturesAreOneSceneInTwoSizes(t *testing.T) {
	m := image.NewNRGBA(image.Rect(0, 0, 400, 200))
	for y := range 200 {
		for x := range 400 {
			m.SetNRGBA(x, y, color.NRGBA{uint8(x / 2), uint8(y), 100, 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	p, err := timing.NewPictures(b.Bytes(), image.Rectangle{})
	if err != nil {
		t.Fatal(err)
	}
	small, err := jpeg.Decode(bytes.NewReader(p.Small))
	if err != nil {
		t.Fatal(err)
	}
	large, err := jpeg.Decode(bytes.NewReader(p.Large))
	if err != nil {
		t.Fatal(err)
	}
	if small.Bounds().Size() != image.Pt(640, 480) || large.Bounds().Size() != image.Pt(4000, 3000) ||
		len(p.Pixels) != 3*640*480 {
		t.Fatalf("sizes are %v and %v, with %d bytes of pixels", small.Bounds(), large.Bounds(), len(p.Pixels))
	}
	// The middle of 4 × 3 is shown: from 67 to 333 of 400.
	left, right := p.Pixels[0], p.Pixels[3*639]
	if left < 30 || left > 37 || right < 162 || right > 170 {
		t.Errorf("red is from %d to %d, want from about 33 to 166", left, right)
	}
	if _, err := timing.NewPictures([]byte("no photo"), image.Rectangle{}); err == nil {
		t.Error("text was accepted as a photo")
	}
}

func TestBaselineSaysThatItIsMissing(t *testing.T) {
	if _, err := timing.StartBaseline(t.Context(), t.TempDir(), timing.Pictures{}); !errors.Is(err,
		timing.ErrNoBaseline) {
		t.Errorf("error is %v", err)
	}
}

func TestRunReturnsWhyAPipelineDoesNotOpen(t *testing.T) {
	broken := errors.New("no pack")
	_, err := timing.Run(t.Context(), timing.Config{
		Open: func(func(vision.Stage, time.Duration)) (*vision.Pipeline, error) { return nil, broken },
	})
	if !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
}

func TestMedian(t *testing.T) {
	if m := timing.Median([]time.Duration{4, 1, 3, 2}); m != 2 {
		t.Errorf("median is %d", m)
	}
	if m := timing.Median(nil); m != 0 {
		t.Errorf("median of none is %d", m)
	}
}
