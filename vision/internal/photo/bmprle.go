package photo

import "image"

// runs decodes run-length coded pixels: pairs of a count and a colour. A count of zero stands for an end of the line,
// an end of the picture, a jump, or uncompressed pixels. Pixels that a jump skips stay transparent. It returns the
// number of rows that the data reaches.
func (h *bmpHeader) runs(dst *image.NRGBA, data []byte) (rows int) {
	colour := 1 // bytes of a pair's colour
	if h.sort == bmpRLE24 {
		colour = 3
	}
	x, y := 0, 0
	put := func(r, g, b byte) {
		if x < h.width {
			p := h.row(dst, y)[4*x:]
			p[0], p[1], p[2], p[3] = r, g, b, 255
		}
		x++
	}
	index := func(i byte) {
		c := h.palette[i]
		put(c.R, c.G, c.B)
	}
	for y < h.height && len(data) >= 2 {
		n, v := int(data[0]), data[1]
		switch {
		case n == 0 && v == 0: // the line ends
			x, y = 0, y+1
			data = data[2:]
		case n == 0 && v == 1: // the picture ends
			return h.height
		case n == 0 && v == 2:
			if len(data) < 4 {
				return y
			}
			x, y = min(x+int(data[2]), h.width), y+int(data[3])
			data = data[4:]
		case n == 0: // uncompressed pixels, padded to a multiple of two bytes
			n, data = int(v), data[2:]
			size := (n*h.depth + 7) / 8
			if len(data) < size {
				return y
			}
			for i := range n {
				switch h.sort {
				case bmpRLE24:
					put(data[3*i+2], data[3*i+1], data[3*i])
				case bmpRLE8:
					index(data[i])
				default:
					index(data[i/2] >> (4 - 4*(i%2)) & 15)
				}
			}
			data = data[min(size+size%2, len(data)):]
		default:
			if len(data) < 1+colour {
				return y
			}
			for i := range n {
				switch h.sort {
				case bmpRLE24:
					put(data[3], data[2], data[1])
				case bmpRLE8:
					index(v)
				default:
					index(v >> (4 - 4*(i%2)) & 15)
				}
			}
			data = data[1+colour:]
		}
	}
	// A last line may lack its end.
	if x >= h.width {
		y++
	}
	return min(y, h.height)
}
