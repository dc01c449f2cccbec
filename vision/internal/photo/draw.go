package photo

import (
	"image"
	"image/color"
)

// draw converts a decoded picture, at some place in a frame of the given size, to RGB, upright and on white. mix gives
// the meaning of colour differences.
func draw(src image.Image, width, height int, o orientation, mix *mixture) *RGB {
	if whole, ok := src.(*packed); ok && o == upright {
		return &RGB{Pix: whole.Pix, W: width, H: height}
	}
	at, w, h := o.place(width, height)
	dst := &RGB{Pix: make([]byte, 3*w*h), W: w, H: h}
	b := src.Bounds()
	if b != image.Rect(0, 0, width, height) {
		for i := range dst.Pix {
			dst.Pix[i] = 255
		}
	}
	at.start += b.Min.X*at.right + b.Min.Y*at.down
	size := b.Size()
	switch src := src.(type) {
	case *image.YCbCr:
		drawYCbCr(dst.Pix, at, src, mix)
	case *image.NYCbCrA:
		drawYCbCr(dst.Pix, at, &src.YCbCr, mix)
		for y := range size.Y {
			p := at.start + y*at.down
			for _, a := range src.A[y*src.AStride : y*src.AStride+size.X] {
				for c := p; c < p+3; c++ {
					dst.Pix[c] = onWhite(dst.Pix[c], uint32(a))
				}
				p += at.right
			}
		}
	case *image.Gray:
		for y := range size.Y {
			row := src.Pix[y*src.Stride : y*src.Stride+size.X]
			p := at.start + y*at.down
			for _, v := range row {
				dst.Pix[p], dst.Pix[p+1], dst.Pix[p+2] = v, v, v
				p += at.right
			}
		}
	case *image.Paletted:
		drawPaletted(dst.Pix, at, src)
	case *image.RGBA:
		for y := range size.Y {
			row := src.Pix[y*src.Stride : y*src.Stride+4*size.X]
			p := at.start + y*at.down
			for ; len(row) >= 4; row = row[4:] {
				a := row[3]
				dst.Pix[p], dst.Pix[p+1], dst.Pix[p+2] = onPaper(row[0], a), onPaper(row[1], a), onPaper(row[2], a)
				p += at.right
			}
		}
	case *image.NRGBA:
		for y := range size.Y {
			row := src.Pix[y*src.Stride : y*src.Stride+4*size.X]
			p := at.start + y*at.down
			for ; len(row) >= 4; row = row[4:] {
				a := uint32(row[3])
				dst.Pix[p], dst.Pix[p+1], dst.Pix[p+2] = onWhite(row[0], a), onWhite(row[1], a), onWhite(row[2], a)
				p += at.right
			}
		}
	case *packed:
		for y := range size.Y {
			row := src.Pix[3*y*size.X : 3*(y+1)*size.X]
			p := at.start + y*at.down
			for ; len(row) >= 3; row = row[3:] {
				dst.Pix[p], dst.Pix[p+1], dst.Pix[p+2] = row[0], row[1], row[2]
				p += at.right
			}
		}
	case *image.CMYK:
		for y := range size.Y {
			row := src.Pix[y*src.Stride : y*src.Stride+4*size.X]
			p := at.start + y*at.down
			for ; len(row) >= 4; row = row[4:] {
				dst.Pix[p], dst.Pix[p+1], dst.Pix[p+2] = color.CMYKToRGB(row[0], row[1], row[2], row[3])
				p += at.right
			}
		}
	default:
		drawAny(dst.Pix, at, src)
	}
	return dst
}

// packed is a picture as a sandbox returns it: in the layout of RGB, and as large as the frame of its file.
type packed RGB

// ColorModel implements image.Image.
func (p *packed) ColorModel() color.Model { return color.NRGBAModel }

// Bounds implements image.Image.
func (p *packed) Bounds() image.Rectangle { return image.Rect(0, 0, p.W, p.H) }

// At implements image.Image.
func (p *packed) At(x, y int) color.Color {
	c := p.Pix[3*(y*p.W+x):]
	return color.NRGBA{c[0], c[1], c[2], 255}
}

// onWhite draws a channel with the opacity a on white, rounded to the nearest level.
func onWhite(v byte, a uint32) byte { return byte((uint32(v)*a + 255*(255-a) + 127) / 255) }

// onPaper draws a channel that is already multiplied by its opacity a on white. The channel should not exceed a, but it
// does so in places in lossy files.
func onPaper(v, a byte) byte { return min(v, a) + (255 - a) }

// mixture is how luma and colour differences make a colour, in units of 1/65536.
type mixture struct {
	black                                 int32 // luma of black, in whole levels
	luma, crRed, cbGreen, crGreen, cbBlue int32
}

var (
	// jfif is that of JPEG (JFIF 1.02): 1.402, 0.344136, 0.714136 and 1.772, over the full range.
	jfif = mixture{0, 65536, 91881, 22554, 46802, 116130}
	// studio is that of lossy WebP (RFC 9649, by ITU-R BT.601): luma from 16 to 235, differences from 16 to 240. The
	// decoder does not mention it, and image/color would make such pictures grey.
	studio = mixture{16, 76309, 104597, 25675, 53279, 132201}
)

// mixtureOf returns the mixture that a file asks for; if it does not say, that of phones and JPEG.
func mixtureOf(n *nclx) *mixture {
	if n == nil {
		return &jfif
	}
	red, blue := 0.299, 0.114 // luma's shares, of ITU-R BT.601
	switch n.matrix {
	case 1:
		red, blue = 0.2126, 0.0722 // BT.709
	case 9, 10:
		red, blue = 0.2627, 0.0593 // BT.2020
	}
	luma, difference, black := 1.0, 1.0, int32(0)
	if !n.full {
		luma, difference, black = 255.0/219, 255.0/224, 16
	}
	fixed := func(v float64) int32 { return int32(v*65536 + 0.5) }
	green := 1 - red - blue
	return &mixture{black, fixed(luma), fixed(difference * 2 * (1 - red)),
		fixed(difference * 2 * (1 - blue) * blue / green),
		fixed(difference * 2 * (1 - red) * red / green), fixed(difference * 2 * (1 - blue))}
}

// drawYCbCr mixes colours and rounds to the nearest level. image/color rounds down, but the decoder behind the
// reference results of the networks does not.
func drawYCbCr(dst []byte, at place, src *image.YCbCr, mix *mixture) {
	size, shift := src.Rect.Size(), columnShift(src.SubsampleRatio)
	for y := range size.Y {
		l := src.YOffset(src.Rect.Min.X, src.Rect.Min.Y+y)
		c := src.COffset(src.Rect.Min.X, src.Rect.Min.Y+y)
		row, cbs, crs := src.Y[l:l+size.X], src.Cb[c:], src.Cr[c:]
		p := at.start + y*at.down
		if shift == 1 {
			for i := range len(row) / 2 { // two pixels of the same differences
				red, green, blue := mix.differences(cbs[i], crs[i])
				l, next := (int32(row[2*i])-mix.black)*mix.luma, (int32(row[2*i+1])-mix.black)*mix.luma
				q := dst[p : p+3 : p+3]
				q[0], q[1], q[2] = whole(l+red), whole(l+green), whole(l+blue)
				p += at.right
				q = dst[p : p+3 : p+3]
				q[0], q[1], q[2] = whole(next+red), whole(next+green), whole(next+blue)
				p += at.right
			}
			cbs, crs, row = cbs[len(row)/2:], crs[len(row)/2:], row[len(row)&^1:]
		}
		for x, v := range row {
			red, green, blue := mix.differences(cbs[uint(x)>>shift], crs[uint(x)>>shift])
			l, q := (int32(v)-mix.black)*mix.luma, dst[p:p+3:p+3]
			q[0], q[1], q[2] = whole(l+red), whole(l+green), whole(l+blue)
			p += at.right
		}
	}
}

// differences returns what the colour differences add to luma, and half a level for rounding.
func (m *mixture) differences(blueness, redness byte) (red, green, blue int32) {
	cb, cr := int32(blueness)-128, int32(redness)-128
	return m.crRed*cr + 1<<15, 1<<15 - m.cbGreen*cb - m.crGreen*cr, m.cbBlue*cb + 1<<15
}

// whole converts a level in units of 1/65536 to a whole one.
func whole(v int32) byte {
	if v>>16&^255 != 0 { // out of range
		return byte(^v >> 31)
	}
	return byte(v >> 16)
}

// columnShift is the shift from a column to that of its colour differences. It is enough because decoders make pictures
// that begin at 0.
func columnShift(ratio image.YCbCrSubsampleRatio) uint {
	switch ratio {
	case image.YCbCrSubsampleRatio420, image.YCbCrSubsampleRatio422:
		return 1
	case image.YCbCrSubsampleRatio410, image.YCbCrSubsampleRatio411:
		return 2
	}
	return 0
}

// drawPaletted draws each colour of the palette on white once.
func drawPaletted(dst []byte, at place, src *image.Paletted) {
	var palette [256][3]byte // an index beyond the palette is black
	for i, c := range src.Palette {
		palette[i] = flat(c.RGBA())
	}
	size := src.Rect.Size()
	for y := range size.Y {
		p := at.start + y*at.down
		for _, v := range src.Pix[y*src.Stride : y*src.Stride+size.X] {
			c := palette[v]
			dst[p], dst[p+1], dst[p+2] = c[0], c[1], c[2]
			p += at.right
		}
	}
}

// drawAny draws the rare kinds: 16 bits a channel.
func drawAny(dst []byte, at place, src image.Image) {
	b := src.Bounds()
	wide, ok := src.(image.RGBA64Image) // as in the standard library; it saves an allocation a pixel
	for y := range b.Dy() {
		p := at.start + y*at.down
		for x := range b.Dx() {
			var c [3]byte
			if ok {
				v := wide.RGBA64At(b.Min.X+x, b.Min.Y+y)
				c = flat(uint32(v.R), uint32(v.G), uint32(v.B), uint32(v.A))
			} else {
				c = flat(src.At(b.Min.X+x, b.Min.Y+y).RGBA())
			}
			dst[p], dst[p+1], dst[p+2] = c[0], c[1], c[2]
			p += at.right
		}
	}
}

// flat draws a colour of 16 bits a channel, multiplied by its alpha, on white.
func flat(r, g, b, a uint32) [3]byte {
	white := 0xffff - a
	eight := func(v uint32) byte { return byte((min(v+white, 0xffff)*255 + 0x7fff) / 0xffff) }
	return [3]byte{eight(r), eight(g), eight(b)}
}
