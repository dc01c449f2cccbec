// Package jpeg decodes the JPEG files of cameras and phones (baseline, Huffman-coded, with the usual samplings of
// colour) faster than the standard library: as a whole, at a reduced scale, or in part.
//
// At a reduced scale each block of 8 × 8 pixels is computed as one of n × n, from its n × n lowest frequencies, and the
// bits of the others are only skipped. A decode of the whole records where each row of blocks begins in the file, so
// that a part can be decoded again without the rows above it.
//
// The package reads only files without a fault and declines all others; other decoders handle faults.
package jpeg

import (
	"bytes"
	"errors"
	"fmt"
	"image"
)

// ErrDeclined says that the file is of a kind that this package does not read, or has a fault. Another decoder may
// read it.
var ErrDeclined = errors.New("not a plain baseline JPEG file")

// declined is an ErrDeclined with its reason.
func declined(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDeclined, fmt.Sprintf(format, args...))
}

// Full is the scale of all pixels: eight of eight.
const Full = 8

// File is a file whose headers have been read. It keeps the file's bytes; they must not change. It is for one goroutine
// at a time.
type File struct {
	// Width and Height are the picture's, as stored, in pixels.
	Width, Height int

	parts        []component
	across, down int // units (MCUs) of the picture
	unitW, unitH int // pixels of a unit
	interval     int // units between restarts; 0: no restarts

	scan   []byte // of the file: from the scan's first byte
	data   []byte // the scan's bytes without the stuffed ones, and spare bytes behind
	starts []int  // where in data each interval begins, and last where the last one ends
	rows   []place
}

// component is one of luma and the two colour differences.
type component struct {
	id     byte
	h, v   int // blocks of a unit
	quant  [64]int32
	table  byte // of quantisation
	dc, ac *table
}

// place is a place in the data at which decoding can begin: the first bit of a unit.
type place struct {
	bit int
	dc  [3]int32
}

// headers reads segments.
type headers struct {
	f        *File
	quant    [4][64]int32
	hasQuant [4]bool
	huffman  [2][4]code // DC and AC
	jfif     bool
	adobe    int // the transform of an Adobe segment; -1 without one
}

// Parse reads a file's headers up to its pixels.
func Parse(file []byte) (*File, error) {
	if !bytes.HasPrefix(file, []byte{0xff, 0xd8}) {
		return nil, declined("no beginning")
	}
	h := headers{f: &File{}, adobe: -1}
	for at := 2; at+4 <= len(file); {
		marker, n := file[at+1], int(file[at+2])<<8+int(file[at+3])
		if file[at] != 0xff || marker == 0 || marker == 0xff { // padding, and bytes that other decoders skip too
			at++
			continue
		}
		if n < 2 || at+2+n > len(file) {
			return nil, declined("a segment that is longer than the file")
		}
		body := file[at+4 : at+2+n]
		at += 2 + n
		var err error
		switch {
		case marker == 0xc0 || marker == 0xc1:
			err = h.frame(body)
		case marker == 0xc4:
			err = h.codes(body)
		case marker == 0xdb:
			err = h.quantisation(body)
		case marker == 0xdd:
			if len(body) != 2 {
				return nil, declined("a broken restart interval")
			}
			h.f.interval = int(body[0])<<8 + int(body[1])
		case marker == 0xda:
			if err = h.scan(body); err == nil {
				h.f.scan = file[at:]
				return h.f, nil
			}
		case marker == 0xe0:
			h.jfif = h.jfif || bytes.HasPrefix(body, []byte("JFIF\x00"))
		case marker == 0xee:
			if len(body) >= 12 && bytes.HasPrefix(body, []byte("Adobe")) {
				h.adobe = int(body[11])
			}
		case marker >= 0xe1 && marker <= 0xef || marker == 0xfe:
		default:
			return nil, declined("a segment of kind %#x", marker)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, declined("no pixels")
}

// frame reads the header of the frame.
func (h *headers) frame(b []byte) error {
	f := h.f
	if len(f.parts) > 0 || len(b) < 6 || b[0] != 8 || b[5] != 1 && b[5] != 3 || len(b) != 6+3*int(b[5]) {
		return declined("a frame of another sort")
	}
	f.Height, f.Width = int(b[1])<<8+int(b[2]), int(b[3])<<8+int(b[4])
	if f.Width == 0 || f.Height == 0 {
		return declined("a picture without pixels")
	}
	for b = b[6:]; len(b) >= 3; b = b[3:] {
		f.parts = append(f.parts, component{id: b[0], h: int(b[1] >> 4), v: int(b[1] & 15), table: b[2]})
	}
	p := f.parts
	if len(p) == 1 {
		p[0].h, p[0].v = 1, 1 // the factors of a single component mean nothing
	} else if p[0].h < 1 || p[0].h > 2 || p[0].v < 1 || p[0].v > 2 || p[1].h*p[1].v*p[2].h*p[2].v != 1 {
		return declined("a sampling of %d × %d", p[0].h, p[0].v)
	} else if p[0].id == p[1].id || p[0].id == p[2].id || p[1].id == p[2].id {
		return declined("components of one name")
	}
	f.unitW, f.unitH = 8*p[0].h, 8*p[0].v
	f.across, f.down = (f.Width+f.unitW-1)/f.unitW, (f.Height+f.unitH-1)/f.unitH
	return nil
}

// quantisation reads tables of quantisation.
func (h *headers) quantisation(b []byte) error {
	for len(b) > 0 {
		wide, id := int(b[0]>>4), b[0]&15
		b = b[1:]
		if wide > 1 || id > 3 || len(b) < 64<<wide {
			return declined("a broken quantisation table")
		}
		for i := range 64 {
			if wide == 0 {
				h.quant[id][i] = int32(b[i])
			} else {
				h.quant[id][i] = int32(b[2*i])<<8 + int32(b[2*i+1])
			}
		}
		h.hasQuant[id] = true
		b = b[64<<wide:]
	}
	return nil
}

// codes reads Huffman codes.
func (h *headers) codes(b []byte) error {
	for len(b) > 0 {
		if len(b) < 17 || b[0]>>4 > 1 || b[0]&15 > 3 {
			return declined("a broken Huffman code")
		}
		class, id, counts := b[0]>>4, b[0]&15, b[1:17]
		n := 0
		for _, c := range counts {
			n += int(c)
		}
		if n > 256 || len(b) < 17+n {
			return declined("a broken Huffman code")
		}
		c := code{[16]byte(counts), b[17 : 17+n], class == 1}
		if err := c.check(); err != nil {
			return err
		}
		h.huffman[class][id] = c
		b = b[17+n:]
	}
	return nil
}

// scan reads the header of the only scan, and gives each component its tables. Only the codes that it names become
// tables: a file may hold hundreds of thousands of others.
func (h *headers) scan(b []byte) error {
	f := h.f
	n := len(f.parts)
	if n == 0 || len(b) != 4+2*n || int(b[0]) != n {
		return declined("more than one scan")
	}
	if b[1+2*n] != 0 || b[2+2*n] != 63 || b[3+2*n] != 0 {
		return declined("a scan of a part of the frequencies")
	}
	named := func(names string) bool {
		return string([]byte{f.parts[0].id, f.parts[1].id, f.parts[2].id}) == names
	}
	if n == 3 && !h.jfif && named("RGB") || h.adobe >= 0 && h.adobe != n/2 {
		return declined("colours other than luma and differences")
	}
	var tables [2][4]*table
	for i := range f.parts {
		p := &f.parts[i]
		dc, ac := b[2+2*i]>>4, b[2+2*i]&15
		if b[1+2*i] != p.id || dc > 3 || ac > 3 || p.table > 3 || !h.hasQuant[p.table] {
			return declined("a scan without a table")
		}
		for class, id := range [2]byte{dc, ac} {
			if h.huffman[class][id].symbols == nil {
				return declined("a scan without a Huffman code")
			}
			if tables[class][id] == nil {
				tables[class][id] = newTable(h.huffman[class][id])
			}
		}
		p.quant, p.dc, p.ac = h.quant[p.table], tables[0][dc], tables[1][ac]
	}
	return nil
}

// spare is the number of bytes after the end of the data: more than a block can take.
const spare = 512

// unstuff copies the data of the scan without the zeros after bytes 0xff, and finds the restarts and the end.
func (f *File) unstuff() error {
	data := make([]byte, 0, len(f.scan)+spare)
	starts := []int{0}
	for rest := f.scan; ; {
		i := bytes.IndexByte(rest, 0xff)
		if i < 0 || i+1 >= len(rest) {
			return declined("no end")
		}
		switch m := rest[i+1]; {
		case m == 0:
			data = append(data, rest[:i+1]...)
		case m >= 0xd0 && m <= 0xd7:
			if f.interval == 0 || int(m-0xd0) != (len(starts)-1)%8 {
				return declined("a stray restart")
			}
			data = append(data, rest[:i]...)
			starts = append(starts, len(data))
		case m == 0xd9:
			data = append(data, rest[:i]...)
			f.starts = append(starts, len(data))
			f.data = append(data, make([]byte, spare)...)
			intervals := 1
			if f.interval > 0 {
				intervals = (f.across*f.down + f.interval - 1) / f.interval
			}
			if len(starts) != intervals {
				return declined("%d intervals between restarts, not %d", len(starts), intervals)
			}
			return nil
		default:
			return declined("a marker %#x among the pixels", m)
		}
		rest = rest[i+2:]
	}
}

// Decode returns the whole picture at a scale of n to 8, where n is 1, 2, 3, 4 or Full: an *image.Gray or an
// *image.YCbCr whose bounds begin at 0 and are n/8 of the picture's, rounded up.
func (f *File) Decode(n int) (image.Image, error) {
	if f.data == nil {
		if err := f.unstuff(); err != nil {
			f.data = nil
			return nil, err
		}
	}
	f.rows = nil
	dst := f.canvas(image.Rect(0, 0, f.across, f.down), n)
	rows := make([]place, 0, f.down)
	at := place{}
	for row := range f.down {
		rows = append(rows, at)
		var err error
		if at, err = f.row(dst, row, at); err != nil {
			return nil, err
		}
	}
	f.rows = rows
	bounds := image.Rect(0, 0, (f.Width*n+Full-1)/Full, (f.Height*n+Full-1)/Full)
	return dst.picture(bounds), nil
}

// Part returns the part of the picture around a rectangle at full scale, rounded outwards to whole units, with bounds
// in the picture's pixels. Decode comes first, and its success is that of Part. The rectangle must touch the picture.
func (f *File) Part(r image.Rectangle) (image.Image, error) {
	all := image.Rect(0, 0, f.Width, f.Height)
	if r = r.Intersect(all); r.Empty() || f.rows == nil {
		return nil, errors.New("the part lies outside of the JPEG picture")
	}
	units := image.Rect(r.Min.X/f.unitW, r.Min.Y/f.unitH, (r.Max.X-1)/f.unitW+1, (r.Max.Y-1)/f.unitH+1)
	dst := f.canvas(units, Full)
	for row := units.Min.Y; row < units.Max.Y; row++ {
		if _, err := f.row(dst, row, f.rows[row]); err != nil {
			return nil, err
		}
	}
	bounds := image.Rect(units.Min.X*f.unitW, units.Min.Y*f.unitH, units.Max.X*f.unitW, units.Max.Y*f.unitH)
	return dst.picture(bounds.Intersect(all)), nil
}
