package photo_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"strings"
	"testing"

	"github.com/visage-face/visage/vision/internal/photo"
)

// patch is a value for each block and component that uses the whole range.
func patch(column, row, component int) byte {
	return byte(255 * ((column*5 + row*3 + component*7) % 16) / 15)
}

func TestDecodeReadsEverySortOfJPEG(t *testing.T) {
	rgb := func(s func(c int) byte) color.NRGBA { return color.NRGBA{s(0), s(1), s(2), 255} }
	ycc := func(s func(c int) byte) color.NRGBA {
		y, cb, cr := float64(s(0)), float64(s(1))-128, float64(s(2))-128
		b := func(v float64) byte { return byte(min(max(v+0.5, 0), 255)) }
		return color.NRGBA{b(y + 1.402*cr), b(y - 0.344136*cb - 0.714136*cr), b(y + 1.772*cb), 255}
	}
	for _, c := range []struct {
		name              string
		components, adobe int
		want              func(s func(c int) byte) color.NRGBA
		most              int
	}{
		{"grey", 1, -1, func(s func(int) byte) color.NRGBA { return color.NRGBA{s(0), s(0), s(0), 255} }, 0},
		{"YCbCr", 3, -1, ycc, 0},
		{"YCbCr of Adobe", 3, 1, ycc, 0},
		{"RGB of Adobe", 3, 0, rgb, 0},
		// Adobe stores inks inverted: 255 is none.
		{"CMYK of Adobe", 4, 0, func(s func(int) byte) color.NRGBA {
			ink := func(c int) byte { return byte(int(s(c)) * int(s(3)) / 255) }
			return color.NRGBA{ink(0), ink(1), ink(2), 255}
		}, 1},
		{"YCCK of Adobe", 4, 2, func(s func(int) byte) color.NRGBA {
			p, k := ycc(s), int(s(3)) // the colours are those of the inks, not of what they leave
			left := func(v byte) byte { return byte(int(255-v) * k / 255) }
			return color.NRGBA{left(p.R), left(p.G), left(p.B), 255}
		}, 2},
	} {
		for _, progressive := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/progressive=%v", c.name, progressive), func(t *testing.T) {
				b := blocks{columns: 7, rows: 5, samples: patch, components: c.components, adobe: c.adobe,
					progressive: progressive}
				want := image.NewNRGBA(image.Rect(0, 0, 56, 40))
				for y := range 40 {
					for x := range 56 {
						want.SetNRGBA(x, y, c.want(func(i int) byte { return patch(x/8, y/8, i) }))
					}
				}
				got, err := decode(b.file())
				if err != nil {
					t.Fatal(err)
				}
				compare(t, got, want, c.most)
			})
		}
	}
}

// Every kind of picture that Go's PNG decoder returns, opaque and not, comes out as the eye sees it on white.
func TestDecodeLaysTransparencyOnWhite(t *testing.T) {
	clear := func(m *image.NRGBA) *image.NRGBA {
		for y := range m.Rect.Dy() {
			for x := range m.Rect.Dx() {
				m.Pix[m.PixOffset(x, y)+3] = byte(x * 255 / (m.Rect.Dx() - 1))
			}
		}
		return m
	}
	base := clear(scene(50, 40))
	gray16, nrgba64 := image.NewGray16(base.Rect), image.NewNRGBA64(base.Rect)
	rgba64, gray := image.NewRGBA64(base.Rect), image.NewGray(base.Rect)
	few := image.NewPaletted(base.Rect, color.Palette{
		color.NRGBA{250, 10, 20, 255}, color.NRGBA{0, 200, 30, 128}, color.NRGBA{9, 9, 9, 0},
		color.NRGBA{7, 80, 255, 64},
	})
	for y := range 40 {
		for x := range 50 {
			c := base.NRGBAAt(x, y)
			r, g, b, a := uint16(c.R)<<8|0x7f, uint16(c.G)<<8, uint16(c.B)*0x101, uint16(c.A)*0x101
			nrgba64.SetNRGBA64(x, y, color.NRGBA64{r, g, b, a})
			rgba64.SetRGBA64(x, y, color.RGBA64{r, g, b, 0xffff})
			gray16.SetGray16(x, y, color.Gray16{uint16(x*y*31 + 5)})
			gray.SetGray(x, y, color.Gray{byte(x*y*7 + x)})
			few.SetColorIndex(x, y, uint8(x+y)%4)
		}
	}
	for name, m := range map[string]image.Image{
		"8 bit alpha": base, "16 bit alpha": nrgba64, "16 bit": rgba64, "16 bit grey": gray16, "8 bit grey": gray,
		"palette": few,
	} {
		t.Run(name, func(t *testing.T) {
			file := encode(t, "png", m)
			if len(file) < photo.MinBytes { // make it long enough
				file = pngWith(file, "tEXt", make([]byte, photo.MinBytes))
			}
			got, err := decode(file)
			if err != nil {
				t.Fatal(err)
			}
			want := image.NewNRGBA(image.Rect(0, 0, 50, 40))
			for y := range 40 {
				for x := range 50 {
					r, g, b, a := m.At(x, y).RGBA()
					on := func(v uint32) byte { return byte((float64(v)+float64(0xffff-a))/257 + 0.5) }
					want.SetNRGBA(x, y, color.NRGBA{on(r), on(g), on(b), 255})
				}
			}
			compare(t, got, want, 1)
		})
	}
}

func TestDecodeReadsWebP(t *testing.T) {
	m := scene(48, 40)
	m.SetNRGBA(3, 4, color.NRGBA{0, 0, 0, 0})
	got, err := decode(webpOf(m, 48, 40, nil))
	if err != nil {
		t.Fatal(err)
	}
	m.SetNRGBA(3, 4, color.NRGBA{255, 255, 255, 255})
	compare(t, got, m, 0)
}

// animation is a GIF whose first frame covers part of the screen.
func animation(t testing.TB) (file []byte, first *image.Paletted) {
	t.Helper()
	colours := color.Palette{color.NRGBA{}, color.NRGBA{200, 0, 0, 255}, color.NRGBA{0, 0, 200, 255}}
	noise := func(r image.Rectangle) *image.Paletted {
		p := image.NewPaletted(r, colours)
		seed := uint32(3)
		for i := range p.Pix {
			seed = seed*1664525 + 1013904223
			p.Pix[i] = byte(seed >> 24 % 3)
		}
		return p
	}
	first = noise(image.Rect(10, 5, 90, 75))
	var b bytes.Buffer
	if err := gif.EncodeAll(&b, &gif.GIF{
		Image: []*image.Paletted{first, noise(image.Rect(0, 0, 100, 80)), noise(image.Rect(0, 0, 100, 80))},
		Delay: []int{1, 1, 1}, Config: image.Config{ColorModel: colours, Width: 100, Height: 80},
	}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), first
}

// Only the first frame counts, on the whole screen; what follows is not even looked at.
func TestDecodeReadsTheFirstFrame(t *testing.T) {
	file, first := animation(t)
	want := image.NewNRGBA(image.Rect(0, 0, 100, 80))
	for i := range want.Pix {
		want.Pix[i] = 255
	}
	for y := first.Rect.Min.Y; y < first.Rect.Max.Y; y++ {
		for x := first.Rect.Min.X; x < first.Rect.Max.X; x++ {
			if c := first.At(x, y).(color.NRGBA); c.A != 0 {
				want.SetNRGBA(x, y, c)
			}
		}
	}
	rest := bytes.Clone(file)
	for i := len(file) * 2 / 3; i < len(file); i++ {
		rest[i] = 0xaa
	}
	for name, f := range map[string][]byte{"whole": file, "rest broken": rest, "rest missing": file[:len(file)*2/3]} {
		got, err := decode(f)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		compare(t, got, want, 0)
	}
}

func TestDecodeRefuses(t *testing.T) {
	m := scene(60, 40)
	jpegFile, pngFile := encode(t, "jpeg", m), encode(t, "png", m)
	gifFile, bmpFile := encode(t, "gif", m), encode(t, "bmp", m)
	webpFile := webpOf(m, 60, 40, nil)
	damaged := func(file []byte) []byte {
		b := bytes.Clone(file)
		for i := len(b) / 2; i < len(b); i++ {
			b[i] = 0xff
		}
		return b
	}
	sized := func(w, h int, progressive bool, components int) []byte {
		adobe := -1
		if components == 4 {
			adobe = 0
		}
		return blocks{columns: 2, rows: 2, samples: patch, components: components, adobe: adobe,
			progressive: progressive,
			width:       w, height: h}.file()
	}
	bmpSized := func(w, h uint32) []byte {
		b := bytes.Clone(bmpFile)
		binary.LittleEndian.PutUint32(b[18:], w)
		binary.LittleEndian.PutUint32(b[22:], h)
		return b
	}
	gifSized := func(w, h uint16) []byte {
		b := bytes.Clone(gifFile)
		binary.LittleEndian.PutUint16(b[6:], w)
		binary.LittleEndian.PutUint16(b[8:], h)
		return b
	}
	for _, c := range []struct {
		name string
		file []byte
		want photo.Kind
	}{
		{"nothing", nil, photo.TooFewBytes},
		{"zero bytes of a file", []byte{}, photo.TooFewBytes},
		{"1,023 bytes", pngFile[:photo.MinBytes-1], photo.TooFewBytes},
		{"one byte over 6 MiB", append(bytes.Clone(pngFile), make([]byte, photo.MaxBytes+1-len(pngFile))...),
			photo.TooManyBytes},
		{"all zeros", make([]byte, 4096), photo.NotAnImage},
		{"text", bytes.Repeat([]byte("not an image. "), 200), photo.NotAnImage},
		{"PDF", append([]byte("%PDF-1.7\n"), make([]byte, 4096)...), photo.NotAnImage},
		{"TIFF", append([]byte("II*\x00"), make([]byte, 4096)...), photo.NotAnImage},
		{"HEIC of nothing", append([]byte("\x00\x00\x00\x18ftypheic"), make([]byte, 4096)...), photo.Broken},
		{"sound in a RIFF file", append([]byte("RIFF\x00\x10\x00\x00WAVEfmt "), make([]byte, 4096)...),
			photo.NotAnImage},

		{"JPEG cut off", jpegFile[:len(jpegFile)*2/3], photo.Broken},
		{"PNG cut off", pngFile[:len(pngFile)*2/3], photo.Broken},
		{"GIF cut off", gifFile[:len(gifFile)*2/3], photo.Broken},
		{"BMP cut off", bmpFile[:len(bmpFile)*2/3], photo.Broken},
		{"WebP cut off", webpFile[:len(webpFile)*2/3], photo.Broken},
		{"JPEG damaged", damaged(jpegFile), photo.Broken},
		{"PNG damaged", damaged(pngFile), photo.Broken},
		{"WebP damaged", append(webpFile[:45:45], bytes.Repeat([]byte{0xff}, len(webpFile)-45)...), photo.Broken},
		{"only a JPEG's first bytes", append([]byte("\xff\xd8\xff\xe0"), make([]byte, 4096)...), photo.Broken},
		{"a PNG's signature on a JPEG", append([]byte("\x89PNG\r\n\x1a\n"), jpegFile...), photo.Broken},
		{"PNG of no width", pngSized(pngFile, 0, 40), photo.Broken},
		{"PNG that says it is larger", pngSized(pngFile, 60, 4000), photo.Broken},
		{"JPEG that says it is larger", sized(2000, 2000, false, 3), photo.Broken},
		{"WebP with a frame larger than the file says", webpOf(scene(200, 100), 40, 40, nil), photo.Broken},

		{"PNG bomb", pngSized(pngFile, 1<<20, 1<<20), photo.TooManyPixels},
		{"PNG one pixel too wide", pngSized(pngFile, photo.MaxSide+1, 1), photo.TooManyPixels},
		{"PNG one pixel too high", pngSized(pngFile, 1, photo.MaxSide+1), photo.TooManyPixels},
		{"PNG with a row too many", pngSized(pngFile, 8000, 5001), photo.TooManyPixels},
		{"JPEG bomb", sized(65535, 65535, false, 3), photo.TooManyPixels},
		{"progressive JPEG bomb", sized(6000, 5000, true, 3), photo.TooManyPixels},
		{"progressive CMYK bomb", sized(5000, 4000, true, 4), photo.TooManyPixels},
		{"GIF bomb", gifSized(65535, 65535), photo.TooManyPixels},
		{"BMP bomb", bmpSized(100000, 100000), photo.TooManyPixels},
		{"WebP bomb", webpOf(m, 1<<14, 1<<14, nil), photo.TooManyPixels},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := decode(c.file)
			if err == nil || got != nil {
				t.Fatalf("decoded to %d × %d", got.W, got.H)
			}
			if kind := kindOf(t, err); kind != c.want {
				t.Errorf("kind is %d (%v), want %d", kind, err, c.want)
			}
		})
	}
}

// The least and the most bytes are allowed. Names and types do not count: content does.
func TestDecodeAcceptsTheLimits(t *testing.T) {
	m := scene(18, 18)
	small := encode(t, "png", m)
	small = pngWith(small, "tEXt", make([]byte, photo.MinBytes-len(small)-12))
	if len(small) != photo.MinBytes {
		t.Fatalf("file has %d bytes, want %d", len(small), photo.MinBytes)
	}
	large := append(encode(t, "jpeg", scene(60, 40)), make([]byte, photo.MaxBytes)...)[:photo.MaxBytes]
	for name, file := range map[string][]byte{"least": small, "most": large} {
		if _, err := decode(file); err != nil {
			t.Errorf("%s bytes: %v", name, err)
		}
	}
	var b bytes.Buffer
	wide := image.NewGray(image.Rect(0, 0, photo.MaxSide, 100))
	if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&b, wide); err != nil {
		t.Fatal(err)
	}
	if p, err := decode(b.Bytes()); err != nil || p.W != photo.MaxSide {
		t.Errorf("largest side: %v", err)
	}
}

// passes makes a progressive grey JPEG whose scans are complete, and a few bytes each: every block of each is the end
// of a run of blocks without change.
func passes(w, h, scans int, extra []byte) []byte {
	var f bytes.Buffer
	segment := func(marker byte, data ...byte) {
		f.Write([]byte{0xff, marker})
		f.Write(binary.BigEndian.AppendUint16(nil, uint16(len(data)+2)))
		f.Write(data)
	}
	f.WriteString("\xff\xd8")
	segment(0xfe, append(make([]byte, photo.MinBytes), extra...)...)
	segment(0xdb, append([]byte{0}, bytes.Repeat([]byte{1}, 64)...)...)
	segment(0xc2, 8, byte(h>>8), byte(h), byte(w>>8), byte(w), 1, 1, 0x11, 0)
	// AC: one symbol of one bit, the end of a run whose length is in fourteen bits.
	segment(0xc4, append([]byte{0x10, 1}, append(make([]byte, 15), 0xe0)...)...)
	const longest = 1<<15 - 1 // blocks of a run
	for range scans {
		segment(0xda, 1, 1, 0, 1, 63, 0x10) // refines all coefficients but DC
		var acc uint64
		var n int
		put := func(v uint64, size int) {
			acc, n = acc<<size|v, n+size
			for ; n >= 8; n -= 8 {
				v := byte(acc >> (n - 8))
				f.WriteByte(v)
				if v == 0xff {
					f.WriteByte(0)
				}
			}
		}
		for left := (w + 7) / 8 * ((h + 7) / 8); left > 0; left -= longest {
			put(1<<14-1, 15)
		}
		put(0x7f, 7) // to the byte's end
	}
	f.WriteString("\xff\xd9")
	return f.Bytes()
}

// A scan costs a few bytes of a file and a pass over all pixels: a file of scans could be minutes of work. The size is
// such that the decoder would manage what is refused, so that only the limit can be what refuses it.
func TestDecodeRefusesEndlessScans(t *testing.T) {
	const side = 1000
	const most = 25 * photo.MaxPixels / (side * side)
	if _, err := decode(passes(side, side, 20, nil)); err != nil {
		t.Errorf("20 scans: %v", err)
	}
	_, err := decode(passes(side, side, most+1, nil))
	if err == nil || kindOf(t, err) != photo.Broken || !strings.Contains(err.Error(), "too many scans") {
		t.Errorf("%d scans: error is %v", most+1, err)
	}
}

// The mark of a scan in a preview or behind the picture's end is not a scan.
func TestDecodeCountsOnlyScans(t *testing.T) {
	const side = 1000
	marks := bytes.Repeat([]byte("\xff\xda"), 2000)
	for name, file := range map[string][]byte{
		"within a segment": passes(side, side, 2, marks),
		"behind the end":   append(passes(side, side, 2, nil), marks...),
	} {
		if _, err := decode(file); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Lossy files keep channels multiplied by alpha so roughly that some are larger than it. They are white, and not black.
func TestMultipliedChannelsDoNotWrapAround(t *testing.T) {
	for _, c := range [][3]byte{{0, 0, 255}, {10, 10, 255}, {13, 10, 255}, {255, 0, 255}, {0, 10, 245}, {7, 255, 7}} {
		if got := photo.OnPaper(c[0], c[1]); got != c[2] {
			t.Errorf("%d of an opacity of %d on white is %d, want %d", c[0], c[1], got, c[2])
		}
	}
}
