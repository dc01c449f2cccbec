package photo_test

import (
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
	for _, name := range []string{"tile.heic", "tile10.heic", "tile.avif", "tile10.avif"} {
		file, tl := tileOf(t, name)
		files = append(files, file, grid{tile: tl, columns: 2, rows: 1, turns: turns[4].turns, exif: exif}.file())
	}
	odd := coded{width: 40, height: 30, factors: [][2]int{{2, 1}, {1, 2}, {1, 1}}, adobe: -1, interval: 2}.file()
	files = append(files, odd, odd[:len(odd)-2], inserted(t, odd, 0.5, "\xff\x3c"),
		coded{width: 40, height: 30, factors: [][2]int{{3, 1}, {1, 1}, {1, 1}}, adobe: -1, separate: true}.file())
	wide := []uint32{0xff0000, 0xff00, 0xff}
	files = append(files,
		bitmap{header: 40, width: 24, height: 16, depth: 16,
			data: fieldRows(m, 16, []uint32{0x7c00, 0x3e0, 0x1f})}.file(),
		bitmap{header: 12, width: 24, height: 16, depth: 24, data: fieldRows(m, 24, wide)}.file(),
		bitmap{header: 56, width: 24, height: 16, depth: 32, compression: 3, masks: append(wide, 0),
			data: fieldRows(m, 32, wide)}.file(),
		bitmap{header: 40, width: 8, height: 1, depth: 8, compression: 1, palette: paletteOf(256),
			data: []byte{8, 1, 0, 1}}.file(),
		bitmap{header: 40, width: 8, height: 1, depth: 4, compression: 2, palette: paletteOf(16),
			data: []byte{0, 8, 1, 2, 3, 4, 0, 1}}.file())
	raw := rows(m, true)
	files = append(
		files, pngOf(ihdr(24, 16, 8, 2, 1), spoiled(chunk("tEXt", exif)),
			chunk("IDAT", deflated(t, append(raw, raw...)))),
		gifOf(t, image.Rectangle{}, image.Rect(0, 0, 20, 10), make([]byte, 220), true, ""))
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
		if _, err := decode(long(file)); err != nil {
			f.Logf("seed of %d bytes, %q: %v", len(file), file[:8], err)
		} else {
			decoded++
		}
	}
	if decoded != len(files) {
		f.Fatalf("only %d of %d seeds are photos", decoded, len(files))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		file = long(file)
		if w, h := photo.Size(file); w*h > 1<<18 {
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

// FuzzParse is FuzzDecode without the decoders, and much faster: what is read before a decoder runs ends on any bytes,
// and a JPEG that is put in order becomes no longer than by its end.
func FuzzParse(f *testing.F) {
	for _, file := range seeds(f) {
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		turned := photo.Orientation(file)
		repaired, _ := photo.Parse(file)
		if turned < 1 || turned > 8 {
			t.Fatalf("orientation is %d", turned)
		}
		if len(repaired) > len(file)+2 {
			t.Fatalf("%d bytes became %d", len(file), len(repaired))
		}
	})
}
