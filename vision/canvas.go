package vision

import (
	"image"
	"math"

	"github.com/visage-face/visage/vision/internal/geometry"
	"github.com/visage-face/visage/vision/internal/ort"
	"github.com/visage-face/visage/vision/internal/photo"
	"github.com/visage-face/visage/vision/pack"
)

// look is a way to show a picture to a detector.
type look struct {
	// side is the length of the input's longer side in pixels.
	side int
	// border is the width of the black border on each side of the picture, as a fraction of its width.
	border float64
}

// canvas is a detector's input with a picture on it.
type canvas struct {
	width, height int
	// toPicture maps places on the canvas to places on the picture.
	toPicture geometry.Affine
}

// newCanvas returns a canvas that is just large enough, with sides that are multiples of a number, or as large as the
// fixed input of the network. The rest beside the picture is black.
func newCanvas(img *photo.RGB, l look, multiple int, in pack.Input) canvas {
	border := l.border * float64(img.W)
	width, height := float64(img.W)+2*border, float64(img.H)+2*border
	if in.Fixed {
		scale := max(width/float64(in.Width), height/float64(in.Height))
		return canvas{in.Width, in.Height, geometry.Affine{A: scale, C: -border, E: scale, F: -border}}
	}
	scale := max(width, height) / float64(l.side) // pixels of the picture for one of the canvas
	return canvas{
		width: roundUp(width/scale, multiple), height: roundUp(height/scale, multiple),
		toPicture: geometry.Affine{A: scale, C: -border, E: scale, F: -border},
	}
}

// tensor returns the network's input.
func (c canvas) tensor(img *photo.RGB, in pack.Input) ort.Tensor {
	t := newTensor(1, c.width, c.height)
	plane(t, 0, in).fillSmooth(img, image.Rect(0, 0, img.W, img.H), c.toPicture)
	return t
}

// onPicture maps a rectangle from the canvas.
func (c canvas) onPicture(r rect) rect {
	a := c.toPicture.Apply(geometry.Point{X: r.left, Y: r.top})
	b := c.toPicture.Apply(geometry.Point{X: r.right, Y: r.bottom})
	return rect{a.X, a.Y, b.X, b.Y}
}

// roundUp returns the least multiple that is not below x, except for rounding errors.
func roundUp(x float64, multiple int) int {
	return max(1, int(math.Ceil(x/float64(multiple)-1e-9))) * multiple
}
