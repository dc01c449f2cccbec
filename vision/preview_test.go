package vision_test

import (
	"bytes"
	"errors"
	"image/jpeg"
	"testing"

	"github.com/visage-face/visage/vision"
)

// TestPreview: a photo is shown small and upright; the size it says is that of the boxes of its faces.
func TestPreview(t *testing.T) {
	p := open(t, vision.Config{})
	for _, name := range []string{"detection1.jpg", "identification1.jpg"} {
		file := read(t, shared(t, "faces", name))
		shown, err := p.Preview(t.Context(), file, 300)
		if err != nil {
			t.Fatal(err)
		}
		found, err := p.Detect(t.Context(), file, vision.Want{})
		if err != nil {
			t.Fatal(err)
		}
		if shown.Width != found.Width || shown.Height != found.Height {
			t.Errorf("%s: shown as %d × %d, detected as %d × %d", name, shown.Width, shown.Height, found.Width,
				found.Height)
		}
		small, err := jpeg.DecodeConfig(bytes.NewReader(shown.JPEG))
		if err != nil || max(small.Width, small.Height) > 300 || max(small.Width, small.Height) < 100 {
			t.Errorf("%s: %v (%v)", name, small, err)
		}
	}
	_, err := p.Preview(t.Context(), bytes.Repeat([]byte("text"), 1000), 300)
	if bad, ok := errors.AsType[*vision.ImageError](err); !ok || bad.Kind != vision.UnknownFormat {
		t.Errorf("a text: %v", err)
	}
}
