package photo_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"math/bits"
)

// blocks makes a JPEG of 8 × 8 blocks of one colour each: no encoder at hand writes four components, progressive
// frames, or headers that lie. The samples are stored as given, without any conversion of colours.
type blocks struct {
	columns, rows int
	samples       func(column, row, component int) byte
	components    int
	progressive   bool
	adobe         int    // the transform in the Adobe segment: 0 none, 1 YCbCr, 2 YCCK; below 0: no such segment
	exif          []byte // an EXIF segment, if not nil
	width, height int    // in the header; 0: the true size
}

func (b blocks) file() []byte {
	var f bytes.Buffer
	segment := func(marker byte, data ...byte) {
		f.Write([]byte{0xff, marker})
		f.Write(binary.BigEndian.AppendUint16(nil, uint16(len(data)+2)))
		f.Write(data)
	}
	f.WriteString("\xff\xd8")
	if b.exif != nil {
		segment(0xe1, append([]byte("Exif\x00\x00"), b.exif...)...)
	}
	if b.adobe >= 0 {
		segment(0xee, append([]byte("Adobe\x00\x64\x00\x00\x00\x00"), byte(b.adobe))...)
	}
	segment(0xfe, make([]byte, 1024)...) // enough bytes for the smallest file
	segment(0xdb, append([]byte{0}, bytes.Repeat([]byte{1}, 64)...)...)
	w, h := b.columns*8, b.rows*8
	if b.width != 0 {
		w, h = b.width, b.height
	}
	frame := []byte{8, byte(h >> 8), byte(h), byte(w >> 8), byte(w), byte(b.components)}
	scan := []byte{byte(b.components)}
	for c := range byte(b.components) {
		frame = append(frame, c+1, 0x11, 0)
		scan = append(scan, c+1, 0)
	}
	marker, last := byte(0xc0), byte(63)
	if b.progressive {
		marker, last = 0xc2, 0
	}
	segment(marker, frame...)
	// DC: twelve sizes of four bits each. AC: the end of the block, of one bit.
	segment(0xc4, 0x00, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
	segment(0xc4, 0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	segment(0xda, append(scan, 0, last, 0)...)
	b.data(&f)
	f.WriteString("\xff\xd9")
	return f.Bytes()
}

// data writes the entropy-coded samples.
func (b blocks) data(f *bytes.Buffer) {
	var acc uint32
	var n int
	put := func(code uint32, size int) {
		acc, n = acc<<size|code&(1<<size-1), n+size
		for ; n >= 8; n -= 8 {
			v := byte(acc >> (n - 8))
			f.WriteByte(v)
			if v == 0xff {
				f.WriteByte(0)
			}
		}
	}
	before := make([]int, b.components)
	for row := range b.rows {
		for column := range b.columns {
			for c := range b.components {
				dc := 8 * (int(b.samples(column, row, c)) - 128)
				d := dc - before[c]
				before[c] = dc
				size := bits.Len(uint(max(d, -d)))
				put(uint32(size), 4)
				if d < 0 {
					d--
				}
				put(uint32(d), size)
				if !b.progressive {
					put(0, 1)
				}
			}
		}
	}
	put(0x7f, 7) // to the byte's end
}

// tiff makes EXIF data that holds nothing but an orientation.
func tiff(order binary.AppendByteOrder, orientation uint16) []byte {
	b := []byte("II*\x00")
	if order == binary.AppendByteOrder(binary.BigEndian) {
		b = []byte("MM\x00*")
	}
	b = order.AppendUint32(b, 8)
	b = order.AppendUint16(b, 1)
	b = order.AppendUint16(b, 0x0112)
	b = order.AppendUint16(b, 3)
	b = order.AppendUint32(b, 1)
	b = order.AppendUint16(b, orientation)
	b = order.AppendUint16(b, 0)
	return order.AppendUint32(b, 0)
}

// pngWith puts a chunk behind a PNG's header.
func pngWith(file []byte, name string, data []byte) []byte {
	const header = 8 + 25
	chunk := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	body := append([]byte(name), data...)
	chunk = binary.BigEndian.AppendUint32(append(chunk, body...), crc32.ChecksumIEEE(body))
	return bytes.Join([][]byte{file[:header], chunk, file[header:]}, nil)
}

// pngSized changes the size in a PNG's header.
func pngSized(file []byte, w, h uint32) []byte {
	b := bytes.Clone(file)
	binary.BigEndian.PutUint32(b[16:], w)
	binary.BigEndian.PutUint32(b[20:], h)
	binary.BigEndian.PutUint32(b[29:], crc32.ChecksumIEEE(b[12:29]))
	return b
}

// webpOf makes a lossless WebP of the simplest kind: every channel's values are eight bits each. The frame's header may
// be another than that of the file around it.
func webpOf(m *image.NRGBA, w, h int, exif []byte) []byte {
	var out []byte
	var acc uint64
	var n int
	put := func(v uint64, size int) {
		acc |= v << n
		for n += size; n >= 8; n -= 8 {
			out, acc = append(out, byte(acc)), acc>>8
		}
	}
	b := m.Bounds()
	put(0x2f, 8)
	put(uint64(b.Dx()-1), 14)
	put(uint64(b.Dy()-1), 14)
	put(1, 1) // alpha is used
	put(0, 3) // version
	put(0, 3) // no transform, no colour cache, one group of codes
	for _, symbols := range []int{256 + 24, 256, 256, 256} {
		put(0, 1)    // a code by lengths, themselves coded:
		put(12-4, 4) // of the first twelve, in the format's order,
		for i := range 12 {
			used := uint64(0)
			if i == 2 || i == 11 { // 0 and 8 are used, one bit each
				used = 1
			}
			put(used, 3)
		}
		put(0, 1) // all symbols follow
		for s := range symbols {
			long := uint64(0)
			if s < 256 {
				long = 1
			}
			put(long, 1)
		}
	}
	put(1, 4) // distances: one symbol, 0, of no bits
	for y := range b.Dy() {
		for x := range b.Dx() {
			c := m.NRGBAAt(b.Min.X+x, b.Min.Y+y)
			for _, v := range []byte{c.G, c.R, c.B, c.A} {
				put(uint64(bits.Reverse8(v)), 8)
			}
		}
	}
	put(0, 7)
	chunk := func(name string, data []byte) []byte {
		c := append([]byte(name), binary.LittleEndian.AppendUint32(nil, uint32(len(data)))...)
		c = append(c, data...)
		if len(data)%2 == 1 {
			c = append(c, 0)
		}
		return c
	}
	x := make([]byte, 10)
	if exif != nil {
		x[0] = 1 << 3
	}
	x[4], x[5], x[6] = byte(w-1), byte((w-1)>>8), byte((w-1)>>16)
	x[7], x[8], x[9] = byte(h-1), byte((h-1)>>8), byte((h-1)>>16)
	body := append([]byte("WEBP"), chunk("VP8X", x)...)
	body = append(body, chunk("VP8L", out)...)
	if exif != nil {
		body = append(body, chunk("EXIF", exif)...)
	}
	return append(append([]byte("RIFF"), binary.LittleEndian.AppendUint32(nil, uint32(len(body)))...), body...)
}
