package photo_test

import (
	"bytes"
	"compress/lzw"
	"encoding/binary"
	"image"
	"image/color"
	"strings"
	"testing"
)

// gifOf makes a GIF file of one frame of 16 colours at a place on its screen.
func gifOf(t testing.TB, screen, frame image.Rectangle, indices []byte, interlaced bool, trailer string) []byte {
	t.Helper()
	le := binary.LittleEndian
	b := le.AppendUint16(le.AppendUint16([]byte("GIF89a"), uint16(screen.Dx())), uint16(screen.Dy()))
	b = append(b, 0xf3, 0, 0)
	for _, c := range paletteOf(16) {
		b = append(b, c.R, c.G, c.B)
	}
	b = append(b, 0x2c)
	for _, v := range []int{frame.Min.X, frame.Min.Y, frame.Dx(), frame.Dy()} {
		b = le.AppendUint16(b, uint16(v))
	}
	flags := byte(0)
	if interlaced {
		flags = 0x40
	}
	b = append(b, flags, 4)
	var data bytes.Buffer
	w := lzw.NewWriter(&data, lzw.LSB, 4)
	if _, err := w.Write(indices); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for rest := data.Bytes(); len(rest) > 0; {
		n := min(len(rest), 255)
		b, rest = append(append(b, byte(n)), rest[:n]...), rest[n:]
	}
	return append(b, trailer...)
}

func TestDecodeReadsGIFsWithFaults(t *testing.T) {
	const w, h = 70, 50
	frame := image.Rect(0, 0, w, h)
	indices := make([]byte, w*h)
	want := image.NewNRGBA(frame)
	seed := uint32(7)
	for i := range indices {
		seed = seed*1664525 + 1013904223
		indices[i] = byte(seed >> 28)
		want.SetNRGBA(i%w, i/w, paletteOf(16)[indices[i]])
	}
	var laced []byte
	for _, pass := range [][2]int{{0, 8}, {4, 8}, {2, 4}, {1, 2}} {
		for y := pass[0]; y < h; y += pass[1] {
			laced = append(laced, indices[y*w:(y+1)*w]...)
		}
	}
	surplus := func(b []byte) []byte { return append(bytes.Clone(b), 1, 2, 3, 4, 5, 6, 7, 8, 9) }
	for _, c := range []struct {
		name, note string
		file       []byte
	}{
		{"whole", "", gifOf(t, frame, frame, indices, false, "\x00;")},
		{"no trailer", "", gifOf(t, frame, frame, indices, false, "\x00")},
		{"no last block", "", gifOf(t, frame, frame, indices, false, "")},
		{"surplus pixels", "GIF file", gifOf(t, frame, frame, surplus(indices), false, "\x00;")},
		{"surplus pixels, interlaced", "GIF file", gifOf(t, frame, frame, surplus(laced), true, "\x00;")},
		{"surplus block", "GIF file", gifOf(t, frame, frame, indices, false, "\x03abc\x00;")},
		{"screen of nothing", "GIF file", gifOf(t, image.Rectangle{}, frame, indices, false, "\x00;")},
		{"screen smaller than the frame", "GIF file",
			gifOf(t, image.Rect(0, 0, 20, 80).Intersect(image.Rect(0, 0, 20, 40)), frame, indices, false, "\x00;")},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := decode(c.file)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, got, want, 0)
			if c.note == "" && got.Note != "" && !strings.HasPrefix(c.name, "no ") ||
				!strings.Contains(got.Note, c.note) {
				t.Errorf("note is %q, want one with %q", got.Note, c.note)
			}
		})
	}
	few, err := decode(gifOf(t, frame, frame, indices[:w*(h-3)], false, "\x00;"))
	if err != nil || !strings.Contains(few.Note, "3 of 50") {
		t.Fatalf("three rows fewer: %v", err)
	}
	if c := (color.NRGBA{few.Pix[0], few.Pix[1], few.Pix[2], 255}); c != paletteOf(16)[indices[0]] {
		t.Errorf("the first pixel is %v", c)
	}
	refused(t, gifOf(t, frame, frame, indices[:w*h/2], false, "\x00;"), "incomplete")
}
