package photo

import (
	"bytes"
	"compress/lzw"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"io"
)

// gifFrame holds the data before the pixels of a GIF file's first frame.
type gifFrame struct {
	screen     image.Rectangle // large enough for the frame, whatever the header says
	frame      image.Rectangle
	palette    color.Palette
	interlaced bool
	data       []byte // from the code size on
}

// configGIF is the config of a format.
func configGIF(r io.Reader) (image.Config, error) {
	file, err := io.ReadAll(r)
	if err != nil {
		return image.Config{}, err
	}
	f, err := firstFrame(file)
	return image.Config{ColorModel: color.Palette{}, Width: f.screen.Dx(), Height: f.screen.Dy()}, err
}

// firstFrame reads a file up to the pixels of its first frame.
func firstFrame(file []byte) (f gifFrame, err error) {
	const header = 13
	if len(file) < header {
		return f, io.ErrUnexpectedEOF
	}
	le := binary.LittleEndian
	f.screen = image.Rect(0, 0, int(le.Uint16(file[6:])), int(le.Uint16(file[8:])))
	table := func(rest []byte, flags byte) (color.Palette, []byte, error) {
		n := 2 << (flags & 7)
		if flags&0x80 == 0 {
			return nil, rest, nil
		}
		if len(rest) < 3*n {
			return nil, nil, io.ErrUnexpectedEOF
		}
		colours := make(color.Palette, n)
		for i := range colours {
			colours[i] = color.NRGBA{rest[3*i], rest[3*i+1], rest[3*i+2], 255}
		}
		return colours, rest[3*n:], nil
	}
	global, rest, err := table(file[header:], file[10])
	if err != nil {
		return f, err
	}
	transparent := -1
	for len(rest) > 0 {
		switch rest[0] {
		case 0x21: // an extension
			if len(rest) >= 7 && rest[1] == 0xf9 && rest[2] == 4 {
				transparent = -1
				if rest[3]&1 != 0 {
					transparent = int(rest[6])
				}
			}
			for rest = rest[min(2, len(rest)):]; len(rest) > 0 && rest[0] != 0; {
				rest = rest[min(1+int(rest[0]), len(rest)):]
			}
			rest = rest[min(1, len(rest)):]
		case 0x2c:
			if len(rest) < 10 {
				return f, io.ErrUnexpectedEOF
			}
			x, y := int(le.Uint16(rest[1:])), int(le.Uint16(rest[3:]))
			f.frame = image.Rect(x, y, x+int(le.Uint16(rest[5:])), y+int(le.Uint16(rest[7:])))
			f.screen = f.screen.Union(image.Rect(0, 0, f.frame.Max.X, f.frame.Max.Y))
			f.interlaced = rest[9]&0x40 != 0
			local, data, err := table(rest[10:], rest[9])
			if err != nil {
				return f, err
			}
			if f.palette = global; local != nil {
				f.palette = local
			}
			if transparent >= 0 && transparent < len(f.palette) {
				f.palette[transparent] = color.NRGBA{}
			}
			f.data = data
			return f, nil
		case 0x3b:
			return f, errors.New("the GIF file has no frame")
		default: // filling
			rest = rest[1:]
		}
	}
	return f, io.ErrUnexpectedEOF
}

// readGIF decodes the first frame. It decodes what the standard library refuses: a frame larger than its screen, and
// more pixels, or a few less, than there should be.
func readGIF(file []byte) (_ image.Image, note string, err error) {
	m, first := gif.Decode(bytes.NewReader(file))
	if first == nil {
		return m, "", nil
	}
	f, err := firstFrame(file)
	if err != nil {
		return nil, "", err
	}
	if len(f.data) < 1 || f.data[0] < 1 || f.data[0] > 8 || f.palette == nil || f.frame.Empty() {
		return nil, "", first
	}
	dst := image.NewPaletted(f.frame, f.palette)
	pixels := lzw.NewReader(&gifBlocks{rest: f.data[1:]}, lzw.LSB, int(f.data[0]))
	defer pixels.Close()
	w, h, rows := f.frame.Dx(), f.frame.Dy(), 0
	for ; rows < h; rows++ {
		y := rows
		if f.interlaced {
			y = interlacedRow(rows, h)
		}
		if _, err := io.ReadFull(pixels, dst.Pix[y*dst.Stride:y*dst.Stride+w]); err != nil {
			break
		}
	}
	if note, err = lacking("GIF", h-rows, h); err != nil {
		return nil, "", err
	}
	if note == "" {
		note = "GIF file: " + first.Error()
	}
	return dst, note, nil
}

// interlacedRow returns which row of h the n-th in the file is.
func interlacedRow(n, h int) int {
	for _, pass := range [4][2]int{{0, 8}, {4, 8}, {2, 4}, {1, 2}} {
		rows := (h - pass[0] + pass[1] - 1) / pass[1]
		if n < rows {
			return pass[0] + n*pass[1]
		}
		n -= max(rows, 0)
	}
	return 0
}

// gifBlocks reads the data of blocks, each of which begins with its length, up to an empty one.
type gifBlocks struct {
	rest []byte
	left int
}

func (b *gifBlocks) ReadByte() (byte, error) {
	if b.left == 0 {
		if len(b.rest) == 0 || b.rest[0] == 0 {
			return 0, io.EOF
		}
		b.left, b.rest = int(b.rest[0]), b.rest[1:]
	}
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	v := b.rest[0]
	b.left, b.rest = b.left-1, b.rest[1:]
	return v, nil
}

func (b *gifBlocks) Read(to []byte) (int, error) {
	for i := range to {
		v, err := b.ReadByte()
		if err != nil {
			return i, err
		}
		to[i] = v
	}
	return len(to), nil
}
