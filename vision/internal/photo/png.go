package photo

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/adler32"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"io"
	"strings"
)

const pngSignature = "\x89PNG\r\n\x1a\n"

// pngChunk is one chunk of a PNG file.
type pngChunk struct {
	name string
	data []byte
	good bool // the checksum is there and right
	cut  bool // the file ends within the chunk
}

// nextPNGChunk returns the first chunk and what follows it; ok is false at the end of the file.
func nextPNGChunk(file []byte) (c pngChunk, rest []byte, ok bool) {
	const around = 12 // length, name and checksum
	if len(file) < 8 {
		return c, nil, false
	}
	n := uint64(binary.BigEndian.Uint32(file))
	c.name = string(file[4:8])
	if n > uint64(len(file))-8 || len(file) < int(n)+around {
		c.data, c.cut = file[8:min(uint64(len(file)), 8+n)], true
		return c, nil, true
	}
	c.data = file[8 : 8+n]
	c.good = crc32.ChecksumIEEE(file[4:8+n]) == binary.BigEndian.Uint32(file[8+n:])
	return c, file[around+n:], true
}

// configPNG reads the size and the kind of colours from the first chunk. What is between it and the pixels may be
// damaged, so that the standard library's DecodeConfig refuses it.
func configPNG(r io.Reader) (image.Config, error) {
	head := make([]byte, 33)
	if _, err := io.ReadFull(r, head); err != nil {
		return image.Config{}, err
	}
	c, _, _ := nextPNGChunk(head[8:])
	switch {
	case c.name == "CgBI":
		return image.Config{},
			unsupported("the image is a PNG file in the form that Xcode packs into applications (CgBI); " +
				"send the original file")
	case c.name != "IHDR" || len(c.data) != 13 || !c.good:
		return image.Config{}, errors.New("the header of the PNG file is damaged")
	}
	w, h := binary.BigEndian.Uint32(c.data), binary.BigEndian.Uint32(c.data[4:])
	if w > 1<<30 || h > 1<<30 {
		w, h = min(w, 1<<30), min(h, 1<<30)
	}
	config := image.Config{Width: int(w), Height: int(h), ColorModel: color.NRGBAModel}
	switch depth, sort := c.data[8], c.data[9]; {
	case depth == 16:
		config.ColorModel = color.NRGBA64Model
	case sort == 0:
		config.ColorModel = color.GrayModel
	case sort == 3:
		config.ColorModel = color.Palette{}
	}
	return config, nil
}

// readPNG decodes the picture. A file that the standard library refuses is written again from its critical chunks, with
// as many pixels as the header says, and decoded once more.
func readPNG(file []byte) (_ image.Image, note string, err error) {
	m, first := png.Decode(bytes.NewReader(file))
	if first == nil {
		return m, "", nil
	}
	p, err := gatherPNG(file)
	if err != nil {
		return nil, "", err
	}
	m, err = png.Decode(p)
	if err != nil {
		return nil, "", errors.Join(first, err)
	}
	missing := p.raw - p.found
	note, err = lacking("PNG", int((missing+p.row-1)/p.row), int((p.raw+p.row-1)/p.row))
	if err != nil {
		return nil, "", err
	}
	if note == "" {
		note = "PNG file that " + strings.TrimPrefix(first.Error(), "png: ")
	}
	return m, note, nil
}

// gatherPNG takes the critical chunks, and the transparent colours, from a file. A wrong checksum in a chunk that
// matters ends it, as in browsers: the pixels would be others.
func gatherPNG(file []byte) (*pngWriter, error) {
	var header, palette, transparent []byte
	var pixels [][]byte
	for rest, ended := file[len(pngSignature):], false; !ended; {
		c, after, ok := nextPNGChunk(rest)
		if !ok {
			break
		}
		rest = after
		critical := c.name[0]&0x20 == 0 && c.name != "IEND" // which has no content to be wrong
		if critical && !c.good && !c.cut {
			return nil, fmt.Errorf("chunk %q of the PNG file has a wrong checksum", c.name)
		}
		switch {
		case c.name == "IHDR" && header == nil:
			header = c.data
		case c.name == "PLTE" && palette == nil && !c.cut:
			palette = c.data
		case c.name == "tRNS" && transparent == nil && c.good && pixels == nil:
			transparent = c.data
		case c.name == "IDAT":
			pixels = append(pixels, c.data)
		case c.name == "IEND":
			ended = true
		case critical && c.name != "PLTE" && !c.cut:
			return nil, fmt.Errorf("the PNG file has an unknown critical chunk %q", c.name)
		}
	}
	if len(header) != 13 || len(pixels) == 0 {
		return nil, errors.New("the PNG file has no pixels")
	}
	p := &pngWriter{checksum: adler32.New()}
	p.measure(header)
	p.buffer.WriteString(pngSignature)
	p.chunk("IHDR", header)
	sort := header[9]
	if sort != 0 && sort != 4 && len(palette)%3 == 0 && len(palette) > 0 {
		p.chunk("PLTE", palette[:min(len(palette), 3*256)])
	}
	if want := map[byte]int{0: 2, 2: 6, 3: len(transparent)}[sort]; len(transparent) > 0 && len(transparent) == want {
		p.chunk("tRNS", transparent)
	}
	readers := make([]io.Reader, len(pixels))
	for i, data := range pixels {
		readers[i] = bytes.NewReader(data)
	}
	data := io.MultiReader(readers...)
	if _, err := io.CopyN(io.Discard, data, 2); err != nil { // of zlib, which say nothing of use
		return nil, fmt.Errorf("the PNG file has no pixels: %w", err)
	}
	p.pixels = flate.NewReader(data)
	return p, nil
}

// pngWriter is a PNG file that is written as it is read: the pixels of another, unpacked, exactly as many as its header
// says. What is missing becomes zeros.
type pngWriter struct {
	raw, row int64 // bytes of all rows, and of one (or in interlaced pictures, an average one)
	found    int64 // bytes that were there
	written  int64
	pixels   io.Reader
	checksum interface {
		io.Writer
		Sum32() uint32
	}
	buffer bytes.Buffer
	ended  bool
}

// measure computes the bytes of the rows.
func (p *pngWriter) measure(header []byte) {
	w, h := int64(binary.BigEndian.Uint32(header)), int64(binary.BigEndian.Uint32(header[4:]))
	samples := map[byte]int64{0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[header[9]]
	bytesOf := func(w, h int64) int64 {
		if w <= 0 || h <= 0 {
			return 0
		}
		return h * (1 + (w*samples*int64(header[8])+7)/8)
	}
	if header[12] == 0 {
		p.raw = bytesOf(w, h)
	} else {
		for _, pass := range [7][4]int64{ // first column and row, and steps
			{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4}, {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2},
		} {
			p.raw += bytesOf((w-pass[0]+pass[2]-1)/pass[2], (h-pass[1]+pass[3]-1)/pass[3])
		}
	}
	p.row = max(p.raw/max(h, 1), 1)
}

func (p *pngWriter) chunk(name string, data []byte) {
	var word [4]byte
	binary.BigEndian.PutUint32(word[:], uint32(len(data)))
	p.buffer.Write(word[:])
	sum := crc32.NewIEEE()
	_, _ = io.MultiWriter(&p.buffer, sum).Write(append([]byte(name), data...)) // neither can fail
	binary.BigEndian.PutUint32(word[:], sum.Sum32())
	p.buffer.Write(word[:])
}

// Read implements io.Reader.
func (p *pngWriter) Read(to []byte) (int, error) {
	for p.buffer.Len() == 0 {
		if p.ended {
			return 0, io.EOF
		}
		p.more()
	}
	return p.buffer.Read(to)
}

// more writes the next pixels as a chunk of one stored block.
func (p *pngWriter) more() {
	const most = 1 << 15
	n := min(p.raw-p.written, most)
	block := make([]byte, n)
	if p.found == p.written {
		got, err := io.ReadFull(p.pixels, block)
		p.found += int64(got)
		if err != nil {
			p.pixels = nil
		}
	}
	_, _ = p.checksum.Write(block) // it cannot fail
	last := byte(0)
	if p.written+n == p.raw {
		last = 1
	}
	var data []byte
	if p.written == 0 {
		data = []byte{0x78, 1}
	}
	data = append(data, last, byte(n), byte(n>>8), ^byte(n), ^byte(n>>8))
	data = append(data, block...)
	if last == 1 {
		data = binary.BigEndian.AppendUint32(data, p.checksum.Sum32())
	}
	p.written += n
	p.chunk("IDAT", data)
	if last == 1 {
		p.chunk("IEND", nil)
		p.ended = true
	}
}
