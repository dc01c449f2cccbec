package photo_test

import (
	"image"
	"runtime"
	"testing"

	"github.com/visage-face/visage/vision/internal/photo"
)

// allocated returns the bytes that Decode allocates for a file in all, which is no less than what it holds at one time.
func allocated(file []byte) (bytes uint64, p *photo.RGB, err error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p, err = decode(file)
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, p, err
}

// The dearest pictures that are let in stay within MaxMemory. The JPEGs' headers promise more than follows, so that
// their decoders take the memory and then give up.
func TestDecodeKeepsToMaxMemory(t *testing.T) {
	const slack = 16 << 20
	jpegs := []struct {
		name                    string
		components, adobe, w, h int
		progressive             bool
	}{
		{"full colour", 3, -1, 8000, 5000, false},
		{"progressive grey", 1, -1, 8000, 5000, true},
		{"progressive full colour", 3, -1, 6096, 4000, true},
		{"CMYK", 4, 0, 8000, 5000, false},
		{"progressive CMYK", 4, 2, 4792, 4000, true},
	}
	for _, c := range jpegs {
		t.Run(c.name, func(t *testing.T) {
			n, _, err := allocated(blocks{columns: 2, rows: 2, samples: patch, components: c.components, adobe: c.adobe,
				progressive: c.progressive, width: c.w, height: c.h}.file())
			if err == nil || kindOf(t, err) != photo.Broken {
				t.Fatalf("error is %v", err)
			}
			// The header is at the limit: a picture a tenth higher is not let in.
			_, err = decode(blocks{columns: 2, rows: 2, samples: patch, components: c.components, adobe: c.adobe,
				progressive: c.progressive, width: c.w, height: c.h * 11 / 10}.file())
			if err == nil || kindOf(t, err) != photo.TooManyPixels {
				t.Errorf("a tenth higher, the error is %v", err)
			}
			if need := n + uint64(3*c.w*c.h); need > photo.MaxMemory+slack {
				t.Errorf("takes %d MiB", need>>20)
			}
		})
	}
	t.Run("16 bit", func(t *testing.T) {
		m := image.NewRGBA64(image.Rect(0, 0, 3000, 2000))
		for i := range m.Pix {
			m.Pix[i] = 0xff
		}
		n, p, err := allocated(encode(t, "png", m))
		if err != nil {
			t.Fatal(err)
		}
		if n > uint64(15*p.W*p.H)+slack {
			t.Errorf("takes %d bytes a pixel", n/uint64(p.W*p.H))
		}
	})
}
