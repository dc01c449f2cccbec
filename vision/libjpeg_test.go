package vision

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"

	"github.com/visage-face/visage/vision/internal/photo"
)

// DecodeLikeReference decodes a JPEG file like the package that made the reference, except for the last bit in places.
func DecodeLikeReference(file []byte) (*photo.RGB, error) {
	src, err := jpeg.Decode(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	ycc, ok := src.(*image.YCbCr)
	if !ok {
		return nil, fmt.Errorf("a JPEG of %T", src)
	}
	img := &photo.RGB{W: ycc.Rect.Dx(), H: ycc.Rect.Dy(), Pix: make([]byte, 3*ycc.Rect.Dx()*ycc.Rect.Dy())}
	colours(img, ycc)
	return img, nil
}

// colours turns a JPEG's luma and chroma into red, green and blue the way libjpeg does: chroma is interpolated between
// its samples rather than repeated. On photos with half the samples that moves points by up to a hundredth of the face.
func colours(dst *photo.RGB, src *image.YCbCr) {
	b := src.Bounds()
	width, height := b.Dx(), b.Dy()
	across, down := 1, 1
	switch src.SubsampleRatio {
	case image.YCbCrSubsampleRatio422:
		across = 2
	case image.YCbCrSubsampleRatio420:
		across, down = 2, 2
	case image.YCbCrSubsampleRatio440:
		down = 2
	}
	plain := src.SubsampleRatio == image.YCbCrSubsampleRatio410 || src.SubsampleRatio == image.YCbCrSubsampleRatio411
	row := chroma{width: width, across: across, sum: make([]int, (width+across-1)/across)}
	blue, red := make([]int, width), make([]int, width)
	for y := range height {
		if plain {
			for x := range width {
				i := src.COffset(b.Min.X+x, b.Min.Y+y)
				blue[x], red[x] = int(src.Cb[i]), int(src.Cr[i])
			}
		} else {
			// With two rows of pixels to one of chroma, the nearer row counts three times as much as the farther.
			near, far := y/down, y/down
			if down == 2 {
				far = min(max(near-1+2*(y%2), 0), (height+1)/2-1)
			}
			row.spread(blue, src.Cb[near*src.CStride:], src.Cb[far*src.CStride:])
			row.spread(red, src.Cr[near*src.CStride:], src.Cr[far*src.CStride:])
		}
		luma := src.Y[y*src.YStride:]
		out := dst.Pix[3*y*width:]
		for x := range width {
			// ITU-R BT.601 over the full range (JFIF), in 1/65536.
			l, cb, cr := int(luma[x])<<16+1<<15, blue[x]-128, red[x]-128
			p := out[3*x : 3*x+3 : 3*x+3]
			p[0] = clamp((l + 91881*cr) >> 16)
			p[1] = clamp((l - 22554*cb - 46802*cr) >> 16)
			p[2] = clamp((l + 116130*cb) >> 16)
		}
	}
}

// chroma widens rows of chroma to the picture's width.
type chroma struct {
	width, across int
	sum           []int
}

// spread interpolates between a near and a far row, and between neighbours where there are two pixels to a sample.
func (c *chroma) spread(dst []int, near, far []byte) {
	for i := range c.sum {
		c.sum[i] = 3*int(near[i]) + int(far[i])
	}
	if c.across == 1 {
		for x := range dst {
			dst[x] = (c.sum[x] + 2) >> 2
		}
		return
	}
	last := len(c.sum) - 1
	for x := range dst {
		i := x / 2
		// Rounding up and down in turn, so that flat areas do not drift.
		side, half := min(max(i-1+2*(x%2), 0), last), 8-x%2
		dst[x] = (3*c.sum[i] + c.sum[side] + half) >> 4
	}
}

func clamp(v int) byte { return byte(min(max(v, 0), 255)) }
