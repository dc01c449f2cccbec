package photo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
	"math/bits"
)

// The kinds of pixel data of a BMP file, by the numbers of Windows' headers. 3 and 4 have other meanings in those of
// OS/2.
const (
	bmpPlain = iota
	bmpRLE8
	bmpRLE4
	bmpFields
	bmpJPEG
	bmpPNG
	bmpAlphaFields
	bmpRLE24 // OS/2's 4
	bmpOther
)

// bmpHeader holds the data before the pixels of a BMP file of any version: OS/2 1.x (a header of 12 bytes), OS/2 2.x
// (16 to 64), Windows 3 (40), and the later ones of Windows (52, 56, 108, 124).
type bmpHeader struct {
	width, height int
	topDown       bool
	depth         int // bits a pixel
	sort          int
	masks         [4]uint32 // of red, green, blue and alpha in a pixel of 16, 24 or 32 bits
	palette       []color.NRGBA
	pixels        int // where they begin in the file
}

// configBMP is the config of a format.
func configBMP(r io.Reader) (image.Config, error) {
	file, err := io.ReadAll(r)
	if err != nil {
		return image.Config{}, err
	}
	h, err := readBMP(file)
	return image.Config{ColorModel: color.NRGBAModel, Width: h.width, Height: h.height}, err
}

// readBMP reads the headers, masks and palette.
func readBMP(file []byte) (h bmpHeader, err error) {
	const fileHeader = 14
	if len(file) < fileHeader+12 {
		return h, io.ErrUnexpectedEOF
	}
	size := binary.LittleEndian.Uint32(file[fileHeader:])
	if size < 12 || size > 1<<16 || int(size) > len(file)-fileHeader {
		return h, fmt.Errorf("the BMP header has %d bytes", size)
	}
	info := make([]byte, max(size, 124)) // the missing fields of a short header are zero
	copy(info, file[fileHeader:fileHeader+size])
	le := binary.LittleEndian
	compression, used, entry := uint32(0), uint32(0), 4
	if size == 12 {
		h.width, h.height = int(le.Uint16(info[4:])), int(le.Uint16(info[6:]))
		h.depth, entry = int(le.Uint16(info[10:])), 3
	} else {
		h.width, h.height = int(int32(le.Uint32(info[4:]))), int(int32(le.Uint32(info[8:])))
		h.depth, compression, used = int(le.Uint16(info[14:])), le.Uint32(info[16:]), le.Uint32(info[32:])
	}
	if h.height < 0 {
		h.height, h.topDown = -h.height, true
	}
	windows := size == 40 || size == 52 || size == 56 || size == 108 || size == 124
	h.sort = bmpSort(compression, windows)
	after := fileHeader + int(size)
	if h.sort == bmpFields || h.sort == bmpAlphaFields {
		n := 3 // masks after a header without any
		if h.sort == bmpAlphaFields {
			n = 4
		}
		masks := info[40:56]
		if size == 40 {
			masks = make([]byte, 16)
			if after+4*n > len(file) {
				return h, io.ErrUnexpectedEOF
			}
			after += copy(masks, file[after:after+4*n])
		}
		for i := range h.masks {
			h.masks[i] = le.Uint32(masks[4*i:])
		}
	} else if h.depth == 16 {
		h.masks = [4]uint32{0x7c00, 0x3e0, 0x1f, 0}
	} else if h.depth >= 24 {
		h.masks = [4]uint32{0xff0000, 0xff00, 0xff, 0}
		if size > 40 && windows && h.depth == 32 {
			h.masks[3] = 0xff000000 & le.Uint32(info[52:])
		}
	}
	if err := h.check(); err != nil {
		return h, err
	}
	offset := int64(le.Uint32(file[10:]))
	if offset < int64(after) { // it is 0 or wrong
		offset = -1
	}
	after = h.readPalette(file, after, offset, used, entry)
	if h.pixels = int(offset); offset < 0 {
		h.pixels = after
	}
	if h.pixels >= len(file) {
		return h, errors.New("the pixels of the BMP file begin after its end")
	}
	return h, nil
}

// bmpSort returns the kind of pixel data.
func bmpSort(compression uint32, windows bool) int {
	switch {
	case windows && compression <= bmpAlphaFields || compression <= bmpRLE4:
		return int(compression)
	case !windows && compression == 4:
		return bmpRLE24
	}
	return bmpOther
}

// check refuses pictures that cannot be read.
func (h *bmpHeader) check() error {
	if h.width < 0 {
		return errors.New("the width of the BMP picture is negative")
	}
	fits := false
	switch h.sort {
	case bmpPlain:
		fits = h.depth == 1 || h.depth == 2 || h.depth == 4 || h.depth == 8 || h.depth >= 16
	case bmpRLE8:
		fits = h.depth == 8
	case bmpRLE4:
		fits = h.depth == 4
	case bmpRLE24:
		fits = h.depth == 24
	case bmpFields, bmpAlphaFields:
		fits = h.depth >= 16
	case bmpJPEG, bmpPNG:
		return unsupported("the image is a BMP file that holds a JPEG or PNG file, which only printers read; " +
			"send that file itself")
	default:
		return unsupported("the image is a BMP file with a compression that is not supported; save it as PNG or JPEG")
	}
	if !fits || h.depth > 32 || h.depth > 8 && h.depth%8 != 0 {
		return fmt.Errorf("BMP pixels of %d bits in data of kind %d are not supported", h.depth, h.sort)
	}
	for _, m := range h.masks {
		if m>>bits.TrailingZeros32(m|1<<31)&(m>>bits.TrailingZeros32(m|1<<31)+1) != 0 {
			return fmt.Errorf("the BMP mask %#x has gaps", m)
		}
	}
	return nil
}

// readPalette reads as many colours as the header says and the file contains, and returns where they end. A missing
// colour is black, as on screens.
func (h *bmpHeader) readPalette(file []byte, at int, pixels int64, used uint32, entry int) (end int) {
	if h.depth > 8 {
		return at + entry*int(min(used, 256)) // a palette for screens of few colours
	}
	all := 1 << h.depth
	n := all
	if used > 0 && used < uint32(all) {
		n = int(used)
	}
	if room := (pixels - int64(at)) / int64(entry); pixels >= 0 && room < int64(n) {
		n = int(room)
	}
	h.palette = make([]color.NRGBA, all)
	for i := range h.palette {
		h.palette[i].A = 255
		if p := at + entry*i; i < n && p+3 <= len(file) {
			h.palette[i] = color.NRGBA{file[p+2], file[p+1], file[p], 255}
		}
	}
	return at + entry*n
}

// readBMPPixels decodes the picture. The note names faults that were tolerated.
func readBMPPixels(file []byte) (_ image.Image, note string, err error) {
	h, err := readBMP(file)
	if err != nil {
		return nil, "", err
	}
	dst := image.NewNRGBA(image.Rect(0, 0, h.width, h.height))
	data := file[h.pixels:]
	var rows int // in the file
	switch h.sort {
	case bmpRLE4, bmpRLE8, bmpRLE24:
		rows = h.runs(dst, data)
	default:
		rows = h.plain(dst, data)
	}
	if note, err = lacking("BMP", h.height-rows, h.height); err != nil {
		return nil, "", err
	}
	return dst, note, nil
}

// row returns the pixels of the n-th row in the file.
func (h *bmpHeader) row(dst *image.NRGBA, n int) []byte {
	if !h.topDown {
		n = h.height - 1 - n
	}
	return dst.Pix[n*dst.Stride : n*dst.Stride+4*h.width]
}

// plain reads rows of uncompressed pixels, each padded to a multiple of four bytes.
func (h *bmpHeader) plain(dst *image.NRGBA, data []byte) (rows int) {
	stride, used := (h.width*h.depth+31)/32*4, (h.width*h.depth+7)/8
	var fields [4]field
	for i, m := range h.masks {
		fields[i] = fieldOf(m)
	}
	visible := h.masks[3] == 0
	for rows < h.height && len(data) >= used { // the last row may lack its padding
		to := h.row(dst, rows)
		for x := range h.width {
			p := to[4*x : 4*x+4 : 4*x+4]
			if h.depth <= 8 {
				i := data[x*h.depth/8] >> (8 - h.depth - x*h.depth%8) & (1<<h.depth - 1)
				c := h.palette[i]
				p[0], p[1], p[2], p[3] = c.R, c.G, c.B, 255
				continue
			}
			var v uint32
			for i, n := 0, h.depth/8; i < n; i++ {
				v |= uint32(data[x*n+i]) << (8 * i)
			}
			p[0], p[1], p[2], p[3] = fields[0].of(v), fields[1].of(v), fields[2].of(v), 255
			if h.masks[3] != 0 {
				p[3] = fields[3].of(v)
				visible = visible || p[3] != 0
			}
		}
		rows++
		data = data[min(stride, len(data)):]
	}
	if !visible { // the writer did not use alpha
		for i := 3; i < len(dst.Pix); i += 4 {
			dst.Pix[i] = 255
		}
	}
	return rows
}

// field is one channel of a pixel.
type field struct{ shift, width int }

func fieldOf(mask uint32) field {
	return field{bits.TrailingZeros32(mask), bits.OnesCount32(mask)}
}

// of returns the channel's value, spread over the range of 0 to 255.
func (f field) of(pixel uint32) byte {
	if f.width == 0 {
		return 0
	}
	most := uint64(1)<<f.width - 1
	return byte((uint64(pixel)>>f.shift&most*255 + most/2) / most)
}
