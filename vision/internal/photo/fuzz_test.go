package photo_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"testing"

	"github.com/visage-face/visage/vision/internal/photo"
)

// seeds are small files of every format and sort.
func seeds(t testing.TB) [][]byte {
	m := scene(24, 16)
	var files [][]byte
	for _, name := range []string{"jpeg", "png", "gif", "bmp"} {
		files = append(files, encode(t, name, m))
	}
	frames, _ := animation(t)
	exif := tiff(binary.BigEndian, 6)
	files = append(files, frames, webpOf(m, 24, 16, nil), webpOf(m, 24, 16, exif),
		jpegWith(encode(t, "jpeg", m), exif), pngWith(encode(t, "png", m), "eXIf", exif))
	for _, c := range []struct{ components, adobe int }{{1, -1}, {3, 1}, {4, 2}} {
		for _, progressive := range []bool{false, true} {
			files = append(files, blocks{columns: 2, rows: 2, samples: patch, components: c.components, adobe: c.adobe,
				progressive: progressive, exif: exif}.file())
		}
	}
	return files
}

// FuzzDecode holds Decode to its word on any bytes: an *Error and nothing else, or a picture within the limits whose
// buffer fits its size, and the same again from the same bytes.
func FuzzDecode(f *testing.F) {
	files := seeds(f)
	if len(files) < 15 {
		f.Fatalf("only %d seeds", len(files))
	}
	decoded := 0
	for _, file := range files {
		f.Add(file)
		f.Add(file[:len(file)*3/4])
		if _, err := decode(long(file)); err == nil {
			decoded++
		}
	}
	if decoded != len(files) {
		f.Fatalf("only %d of %d seeds are photos", decoded, len(files))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		file = long(file)
		if w, h := declared(file); w*h > 1<<20 {
			t.Skip("large pictures are slow, and no different")
		}
		p, err := decode(file)
		if err != nil {
			e, ok := errors.AsType[*photo.Error](err)
			if !ok || e.Kind < photo.NotAnImage || e.Kind > photo.TooManyPixels || e.Message == "" || p != nil {
				t.Fatalf("error is %#v, picture %v", err, p)
			}
			return
		}
		if p.W < 1 || p.H < 1 || p.W > photo.MaxSide || p.H > photo.MaxSide || len(p.Pix) != 3*p.W*p.H {
			t.Fatalf("picture is %d × %d in %d bytes", p.W, p.H, len(p.Pix))
		}
		again, err := decode(file)
		if err != nil || string(again.Pix) != string(p.Pix) {
			t.Fatalf("decoded differently the second time (%v)", err)
		}
	})
}

// long makes a file long enough to be looked at.
func long(file []byte) []byte {
	if n := photo.MinBytes - len(file); n > 0 {
		return append(file[:len(file):len(file)], make([]byte, n)...)
	}
	return file
}

// declared returns the size in a file's header, or zeros.
func declared(file []byte) (w, h int) {
	c, _, err := image.DecodeConfig(bytes.NewReader(file))
	if err != nil {
		return 0, 0
	}
	return c.Width, c.Height
}
