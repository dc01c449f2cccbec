package photo_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"strings"
	"testing"
)

// chunk makes a chunk of a PNG file.
func chunk(name string, data []byte) []byte {
	body := append([]byte(name), data...)
	c := append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), body...)
	return binary.BigEndian.AppendUint32(c, crc32.ChecksumIEEE(body))
}

// spoiled is a chunk with a wrong checksum.
func spoiled(c []byte) []byte {
	c = bytes.Clone(c)
	c[len(c)-1] ^= 0x55
	return c
}

func pngOf(chunks ...[]byte) []byte {
	return append([]byte("\x89PNG\r\n\x1a\n"), bytes.Join(chunks, nil)...)
}

func ihdr(w, h int, depth, sort, interlaced byte) []byte {
	return chunk("IHDR", append(be(4, w, h), depth, sort, 0, 0, interlaced))
}

func deflated(t testing.TB, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	if _, err := z.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// rows are the unpacked pixels of a picture in full colour without alpha, unfiltered; interlaced as Adam7 has it.
func rows(m *image.NRGBA, interlaced bool) (raw []byte) {
	passes := [][4]int{{0, 0, 1, 1}}
	if interlaced {
		passes = [][4]int{{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4}, {0, 2, 2, 4}, {1, 0, 2, 2},
			{0, 1, 1, 2}}
	}
	for _, p := range passes {
		if p[0] >= m.Rect.Dx() {
			continue
		}
		for y := p[1]; y < m.Rect.Dy(); y += p[3] {
			raw = append(raw, 0)
			for x := p[0]; x < m.Rect.Dx(); x += p[2] {
				c := m.NRGBAAt(x, y)
				raw = append(raw, c.R, c.G, c.B)
			}
		}
	}
	return raw
}

// What libpng warns of is read, to the last pixel.
func TestDecodeReadsPNGsWithFaults(t *testing.T) {
	m := scene(61, 43)
	for _, interlaced := range []bool{false, true} {
		flag := byte(0)
		if interlaced {
			flag = 1
		}
		raw := rows(m, interlaced)
		head, data, end := ihdr(61, 43, 8, 2, flag), deflated(t, raw), chunk("IEND", nil)
		text := chunk("tEXt", []byte("Comment\x00words"))
		idat := chunk("IDAT", data)
		badSum := bytes.Clone(data)
		badSum[len(badSum)-1] ^= 1
		half := len(data) / 2
		for _, c := range []struct {
			name, note string
			file       []byte
		}{
			{"whole", "", pngOf(head, idat, end)},
			{"text with a wrong checksum", "invalid checksum", pngOf(head, spoiled(text), idat, end)},
			{"text behind the pixels with a wrong checksum", "", pngOf(head, idat, spoiled(text), end)},
			{"unknown chunk with a wrong checksum", "checksum",
				pngOf(head, spoiled(chunk("abCd", []byte("x"))), idat, end)},
			{"transparent colour with a wrong checksum", "checksum",
				pngOf(head, spoiled(chunk("tRNS", be(2, 1, 2, 3))), idat, end)},
			{
				"surplus rows", "too much", pngOf(head, chunk("IDAT", deflated(t, append(bytes.Clone(raw), raw...))),
					end),
			},
			{"one surplus byte", "too much", pngOf(head, chunk("IDAT", deflated(t, append(bytes.Clone(raw), 7))), end)},
			{"surplus data behind the pixels", "", pngOf(head, idat, chunk("IDAT", []byte("surplus")), end)},
			{"no end", "EOF", pngOf(head, idat)},
			{"end with a wrong checksum", "checksum", pngOf(head, idat, spoiled(end))},
			{"pixels without their checksum", "", pngOf(head, idat[:len(idat)-2])},
			{"bytes behind the end", "", append(pngOf(head, idat, end), "trailing"...)},
			{"wrong checksum of the data", "checksum", pngOf(head, chunk("IDAT", badSum), end)},
			{
				"pixels in many pieces", "", pngOf(head, chunk("IDAT", data[:1]), chunk("IDAT", nil),
					chunk("IDAT", data[1:half]),
					chunk("IDAT", data[half:]), end)},
			{"text between the pixels", "",
				pngOf(head, chunk("IDAT", data[:half]), text, chunk("IDAT", data[half:]), end)},
			{"frames behind the first", "", pngOf(head, chunk("acTL", be(4, 2, 0)),
				chunk("fcTL", append(be(4, 0, 61, 43, 0, 0), 0, 1, 0, 10, 0, 0)), idat,
				chunk("fcTL", append(be(4, 1, 61, 43, 0, 0), 0, 1, 0, 10, 0, 0)),
				chunk("fdAT", append(be(4, 2), data...)), end)},
		} {
			t.Run(c.name, func(t *testing.T) {
				got, err := decode(long(c.file))
				if err != nil {
					t.Fatal(err)
				}
				compare(t, got, m, 0)
				if !strings.Contains(got.Note, c.note) {
					t.Errorf("note is %q, want one with %q", got.Note, c.note)
				}
			})
		}
	}
}

// Damage to what matters is refused, as in browsers; and so is a picture of which much is missing.
func TestDecodeRefusesDamagedPNGs(t *testing.T) {
	m := scene(61, 160)
	raw := rows(m, false)
	head, end := ihdr(61, 160, 8, 2, 0), chunk("IEND", nil)
	idat := chunk("IDAT", deflated(t, raw))
	for name, c := range map[string]struct {
		file  []byte
		words string
	}{
		"header": {pngOf(spoiled(head), idat, end), "damaged"},
		"pixels": {pngOf(head, spoiled(idat), end), "damaged"},
		"palette": {pngOf(ihdr(61, 160, 8, 3, 0), spoiled(chunk("PLTE", make([]byte, 12))), idat, end),
			"damaged"},
		"no pixels":      {pngOf(head, end), "damaged"},
		"three quarters": {pngOf(head, chunk("IDAT", deflated(t, raw[:len(raw)*3/4])), end), "incomplete"},
		"cut in half":    {pngOf(head, idat[:len(idat)/2]), "incomplete"},
		"for iPhones":    {pngOf(chunk("CgBI", be(4, 0x50002002)), head, idat, end), "CgBI"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, long(c.file), c.words) })
	}
	almost, err := decode(long(pngOf(head, chunk("IDAT", deflated(t, raw[:len(raw)*19/20])), end)))
	if err != nil || !strings.Contains(almost.Note, "8 of 160") {
		t.Errorf("nineteen of twenty rows: %v, %v", almost, err)
	}
}

// Transparency that fits no picture of its kind is passed over; that of a palette, and grey with a palette, are read.
func TestDecodeReadsOddPNGs(t *testing.T) {
	grey := append([]byte{0}, bytes.Repeat([]byte{0, 80, 160, 255}, 8)...)
	var raw []byte
	for range 8 {
		raw = append(raw, grey...)
	}
	want := image.NewNRGBA(image.Rect(0, 0, 32, 8))
	for i := range 32 * 8 {
		v := grey[1+i%32]
		want.SetNRGBA(i%32, i/32, color.NRGBA{v, v, v, 255})
	}
	raw = raw[:8*33]
	idat, end := chunk("IDAT", deflated(t, raw)), chunk("IEND", nil)
	for name, file := range map[string][]byte{
		"grey with a palette":           pngOf(ihdr(32, 8, 8, 0, 0), chunk("PLTE", make([]byte, 12)), idat, end),
		"grey with a long transparency": pngOf(ihdr(32, 8, 8, 0, 0), chunk("tRNS", make([]byte, 6)), idat, end),
	} {
		got, err := decode(long(file))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		compare(t, got, want, 0)
	}
}
