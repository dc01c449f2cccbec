package vision

import (
	"image"
	"math"

	"github.com/visage-face/visage/vision/internal/geometry"
	"github.com/visage-face/visage/vision/internal/photo"
)

// halves are a picture, as it was decoded, and copies of it each half as wide and high as the one before, made when
// they are first needed: many views of large parts cost no more than their own pixels. It is for one goroutine.
type halves struct {
	sizes []*photo.RGB
	scale photo.Scale // from the picture's places to those of the first
}

func newHalves(img *photo.RGB) *halves {
	whole, scale := img.Reduced()
	return &halves{[]*photo.RGB{whole}, scale}
}

// fill fills a network's input with what m shows of the picture, from the copy that has just as many pixels as needed
// or up to twice as many in each direction. A picture that was decoded at a reduced scale is not decoded again.
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
		// The first pixel of a copy lies in the middle of the four that went into it.
		m = m.Then(geometry.Affine{A: 0.5, C: -0.25, E: 0.5, F: -0.25})
	}
	from := h.sizes[size]
	p.fill(from, image.Rect(0, 0, from.W, from.H), m)
}
