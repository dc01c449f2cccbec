package vision

import (
	"image"
	"math"

	"github.com/visage-face/visage/vision/internal/geometry"
	"github.com/visage-face/visage/vision/internal/photo"
)

// halves are a decoded picture and copies of it, each half as wide and high as the one before. Each copy is made when
// it is first needed, so that many views of large parts cost no more than their own pixels. It is for use by one
// goroutine.
type halves struct {
	sizes []*photo.RGB
	scale photo.Scale // from places on the picture to places on the first copy
}

func newHalves(img *photo.RGB) *halves {
	whole, scale := img.Reduced()
	return &halves{[]*photo.RGB{whole}, scale}
}

// fill fills the input of a network with the part of the picture that m shows, from the copy that has just enough
// pixels, or up to twice as many in each direction. A picture that was decoded at a reduced scale is not decoded again.
func (h *halves) fill(p planes, m geometry.Affine) {
	m = m.Then(geometry.Affine{A: h.scale.By, C: h.scale.X, E: h.scale.By, F: h.scale.Y})
	step := max(math.Hypot(m.A, m.D), math.Hypot(m.B, m.E))
	size := 0
	for ; step >= 2 && min(h.sizes[size].W, h.sizes[size].H) > 1; size++ {
		if size+1 == len(h.sizes) {
			last := h.sizes[size]
			h.sizes = append(h.sizes, shrink(last, image.Rect(0, 0, last.W, last.H), 2))
		}
		step /= 2
		// The first pixel of a copy lies in the middle of the four pixels that it is the mean of.
		m = m.Then(geometry.Affine{A: 0.5, C: -0.25, E: 0.5, F: -0.25})
	}
	from := h.sizes[size]
	p.fill(from, image.Rect(0, 0, from.W, from.H), m)
}
