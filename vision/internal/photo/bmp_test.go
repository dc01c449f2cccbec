package photo_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"math/bits"
	"strings"
	"testing"

	"github.com/visage-face/visage/vision/internal/photo"
)

// bitmap makes BMP files of every version. Rows are what the pixels' data says, from the first in the file.
type bitmap struct {
	header        int // bytes: 12, 16, 40, 52, 56, 64, 108, 124
	width, height int // height below 0: the first row is the top one
	depth         int
	compression   uint32
	masks         []uint32
	palette       []color.NRGBA
	used          uint32
	gap           int // bytes between palette and pixels
	data          []byte
	noOffset      bool
}

func (b bitmap) file() []byte {
	le := binary.LittleEndian
	info := make([]byte, max(b.header, 124))
	le.PutUint32(info, uint32(b.header))
	entry := 4
	if b.header == 12 {
		le.PutUint16(info[4:], uint16(b.width))
		le.PutUint16(info[6:], uint16(b.height))
		le.PutUint16(info[8:], 1)
		le.PutUint16(info[10:], uint16(b.depth))
		entry = 3
	} else {
		le.PutUint32(info[4:], uint32(b.width))
		le.PutUint32(info[8:], uint32(int32(b.height)))
		le.PutUint16(info[12:], 1)
		le.PutUint16(info[14:], uint16(b.depth))
		le.PutUint32(info[16:], b.compression)
		le.PutUint32(info[32:], b.used)
		for i, m := range b.masks {
			le.PutUint32(info[40+4*i:], m)
		}
	}
	info = info[:b.header]
	if b.header == 40 {
		for _, m := range b.masks {
			info = le.AppendUint32(info, m)
		}
	}
	for _, c := range b.palette {
		info = append(info, []byte{c.B, c.G, c.R, 0}[:entry]...)
	}
	info = append(info, make([]byte, b.gap)...)
	head := append([]byte("BM"), 1, 2, 3, 4, 0, 0, 0, 0) // the file's size is a lie
	offset := uint32(14 + len(info))
	if b.noOffset {
		offset = 0
	}
	head = le.AppendUint32(head, offset)
	return long(append(append(head, info...), b.data...))
}

// fieldRows packs a picture's pixels by masks, bottom row first, each row filled up to four bytes.
func fieldRows(m *image.NRGBA, depth int, masks []uint32) (data []byte) {
	size := m.Rect.Size()
	for y := size.Y - 1; y >= 0; y-- {
		for x := range size.X {
			c := m.NRGBAAt(x, y)
			var v uint32
			for i, channel := range []byte{c.R, c.G, c.B, c.A}[:len(masks)] {
				most := uint64(1)<<bits.OnesCount32(masks[i]) - 1
				v |= uint32((uint64(channel)*most+127)/255) << bits.TrailingZeros32(masks[i]) & masks[i]
			}
			for i := range depth / 8 {
				data = append(data, byte(v>>(8*i)))
			}
		}
		for len(data)%4 != 0 {
			data = append(data, 0)
		}
	}
	return data
}

func TestDecodeReadsBitmapsOfEveryDepthAndHeader(t *testing.T) {
	m := scene(37, 29)
	wide := []uint32{0xff0000, 0xff00, 0xff}
	for _, c := range []struct {
		name  string
		b     bitmap
		masks []uint32 // of the data
		most  int
	}{
		{"16 bits", bitmap{header: 40, depth: 16}, []uint32{0x7c00, 0x3e0, 0x1f}, 5},
		{"16 bits, no offset", bitmap{header: 40, depth: 16, noOffset: true}, []uint32{0x7c00, 0x3e0, 0x1f}, 5},
		{"565", bitmap{header: 40, depth: 16, compression: 3, masks: []uint32{0xf800, 0x7e0, 0x1f}},
			[]uint32{0xf800, 0x7e0, 0x1f}, 5},
		{"565 of version 2", bitmap{header: 52, depth: 16, compression: 3, masks: []uint32{0xf800, 0x7e0, 0x1f}},
			[]uint32{0xf800, 0x7e0, 0x1f}, 5},
		{"4444 of version 3", bitmap{header: 56, depth: 16, compression: 3, masks: []uint32{0xf00, 0xf0, 0xf, 0xf000}},
			[]uint32{0xf00, 0xf0, 0xf, 0xf000}, 9},
		{"24 bits of OS/2", bitmap{header: 12, depth: 24}, wide, 0},
		{"24 bits of OS/2 2", bitmap{header: 64, depth: 24}, wide, 0},
		{"24 bits of OS/2 2, cut header", bitmap{header: 16, depth: 24}, wide, 0},
		{"24 bits with a gap", bitmap{header: 40, depth: 24, gap: 33}, wide, 0},
		{"32 bits", bitmap{header: 40, depth: 32}, wide, 0},
		{"32 bits in another order", bitmap{header: 40, depth: 32, compression: 3,
			masks: []uint32{0xff, 0xff00, 0xff0000}}, []uint32{0xff, 0xff00, 0xff0000}, 0},
		{"32 bits, 10 each", bitmap{header: 40, depth: 32, compression: 3,
			masks: []uint32{0x3ff00000, 0xffc00, 0x3ff}}, []uint32{0x3ff00000, 0xffc00, 0x3ff}, 0},
		{"32 bits with alpha masks", bitmap{header: 40, depth: 32, compression: 6,
			masks: []uint32{0xff000000, 0xff0000, 0xff00, 0xff}}, []uint32{0xff000000, 0xff0000, 0xff00, 0xff}, 0},
		{"32 bits of version 4", bitmap{header: 108, depth: 32, compression: 3,
			masks: []uint32{0xff0000, 0xff00, 0xff, 0xff000000}}, []uint32{0xff0000, 0xff00, 0xff, 0xff000000}, 0},
		{"32 bits of version 5", bitmap{header: 124, depth: 32, compression: 3,
			masks: []uint32{0xff00, 0xff0000, 0xff000000, 0}}, []uint32{0xff00, 0xff0000, 0xff000000}, 0},
		{"32 bits of version 5 with an alpha of nothing", bitmap{header: 124, depth: 32, compression: 3,
			masks: []uint32{0xff0000, 0xff00, 0xff, 0xff000000}}, wide, 0},
	} {
		for _, topDown := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/topDown=%v", c.name, topDown), func(t *testing.T) {
				b := c.b
				b.width, b.height, b.data = 37, 29, fieldRows(m, c.b.depth, c.masks)
				if topDown {
					if b.header == 12 {
						t.Skip("OS/2 has no such files")
					}
					b.height = -29
					n := len(b.data) / 29
					turned := make([]byte, 0, len(b.data))
					for y := 28; y >= 0; y-- {
						turned = append(turned, b.data[y*n:(y+1)*n]...)
					}
					b.data = turned
				}
				got, err := decode(b.file())
				if err != nil {
					t.Fatal(err)
				}
				compare(t, got, m, c.most)
			})
		}
	}
}

// refused fails unless a file is refused with a message that has the words.
func refused(t *testing.T, file []byte, words string) {
	t.Helper()
	_, err := decode(file)
	e, ok := errors.AsType[*photo.Error](err)
	if !ok || !strings.Contains(e.Message, words) {
		t.Errorf("error is %v, want one with %q", err, words)
	}
}

// paletteOf is a palette of distinct colours.
func paletteOf(n int) (p []color.NRGBA) {
	for i := range n {
		p = append(p, color.NRGBA{byte(i * 37), byte(255 - i*11), byte(i * 91), 255})
	}
	return p
}

func TestDecodeReadsBitmapsWithPalettes(t *testing.T) {
	for _, depth := range []int{1, 2, 4, 8} {
		for _, header := range []int{12, 40, 64, 108} {
			for _, colours := range []int{1 << depth, 1<<depth - 1} { // few entries are allowed
				t.Run(fmt.Sprintf("%d bits/header %d/%d colours", depth, header, colours), func(t *testing.T) {
					const w, h = 41, 23
					b := bitmap{header: header, width: w, height: h, depth: depth, palette: paletteOf(colours)}
					if header != 12 && colours < 1<<depth {
						b.used = uint32(colours)
					}
					want := image.NewNRGBA(image.Rect(0, 0, w, h))
					for y := h - 1; y >= 0; y-- {
						row := make([]byte, (w*depth+31)/32*4)
						for x := range w {
							i := (x*x + 3*y) % colours
							row[x*depth/8] |= byte(i << (8 - depth - x*depth%8))
							want.SetNRGBA(x, y, b.palette[i])
						}
						b.data = append(b.data, row...)
					}
					got, err := decode(b.file())
					if err != nil {
						t.Fatal(err)
					}
					compare(t, got, want, 0)
				})
			}
		}
	}
}

func TestDecodeReadsRunLengths(t *testing.T) {
	p := paletteOf(16)
	white := color.NRGBA{255, 255, 255, 255}
	want := image.NewNRGBA(image.Rect(0, 0, 8, 6))
	for i := range want.Pix {
		want.Pix[i] = 255
	}
	set := func(y int, colours ...int) {
		for x, c := range colours {
			if c >= 0 {
				want.SetNRGBA(x, 5-y, p[c])
			} else {
				want.SetNRGBA(x, 5-y, white)
			}
		}
	}
	set(0, 3, 3, 3, 3, 3, 3, 3, 3)
	set(1, 1, 2, 3, 4, 5, 6, 7, 7)
	set(3, -1, -1, 9, 9, 9, 9, 9, 9)
	set(5, 10, 11, 10, 11, 10, 11, 10, 11)
	for _, c := range []struct {
		name        string
		header      int
		depth       int
		compression uint32
		data        []byte
		most        int
	}{
		{"RLE8", 40, 8, 1, []byte{8, 3, 0, 0, 0, 6, 1, 2, 3, 4, 5, 6, 2, 7, 0, 0, 0, 0, 0, 2, 2, 0, 6, 9, 0, 0, 0, 0,
			0, 8, 10, 11, 10, 11, 10, 11, 10, 11, 0, 1}, 0},
		{"RLE8 without ends", 40, 8, 1,
			[]byte{8, 3, 0, 0, 0, 6, 1, 2, 3, 4, 5, 6, 2, 7, 0, 0, 0, 0, 0, 2, 2, 0, 99, 9, 0, 0,
				0, 0, 0, 8, 10, 11, 10, 11, 10, 11, 10, 11}, 0},
		{"RLE8 of version 4", 108, 8, 1,
			[]byte{8, 3, 0, 0, 0, 6, 1, 2, 3, 4, 5, 6, 2, 7, 0, 0, 0, 2, 2, 1, 6, 9, 0, 0, 0, 0,
				0, 8, 10, 11, 10, 11, 10, 11, 10, 11, 0, 1}, 0},
		{
			"RLE4", 40, 4, 2, []byte{8, 0x33, 0, 0, 0, 6, 0x12, 0x34, 0x56, 0, 2, 0x77, 0, 0, 0, 0, 0, 2, 2, 0, 6, 0x99,
				0, 0, 0, 0,
				8, 0xab, 0, 1}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := bitmap{header: c.header, width: 8, height: 6, depth: c.depth, compression: c.compression, palette: p,
				used: 16, data: c.data}
			got, err := decode(b.file())
			if err != nil {
				t.Fatal(err)
			}
			compare(t, got, want, c.most)
		})
	}
}

func TestDecodeRefusesBitmapsByName(t *testing.T) {
	for _, c := range []struct {
		b    bitmap
		want string
	}{
		{bitmap{header: 40, width: 8, height: 8, compression: 4}, "holds a JPEG or PNG file"},
		{bitmap{header: 124, width: 8, height: 8, compression: 5}, "holds a JPEG or PNG file"},
		{bitmap{header: 64, width: 8, height: 8, depth: 1, compression: 3}, "compression that is not supported"},
		{bitmap{header: 40, width: 8, height: 8, depth: 32, compression: 11}, "compression that is not supported"},
		{bitmap{header: 40, width: 8, height: 800, depth: 24, data: make([]byte, 24*400)}, "incomplete"},
		{bitmap{header: 40, width: 8, height: 800, depth: 8, compression: 1, palette: paletteOf(256),
			data: append(bytes.Repeat([]byte{8, 1, 0, 0}, 400), 8)}, "incomplete"},
		{bitmap{header: 40, width: -8, height: 8, depth: 24, data: make([]byte, 400)}, "damaged"},
	} {
		refused(t, c.b.file(), c.want)
	}
}
