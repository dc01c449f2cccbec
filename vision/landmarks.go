package vision

import (
	"context"
	"fmt"
	"image"
	"math"

	"github.com/visage-face/visage/vision/internal/ort"
	"github.com/visage-face/visage/vision/pack"
)

// shape is the 68 points of the 300-W annotation, in pixels of the upright picture.
type shape [68]Point

// marker finds shapes.
type marker struct {
	about   pack.Landmarks
	session *ort.Session
}

// find returns the shape of the face in each box. The network sees the box in the middle of a black square.
func (m *marker) find(ctx context.Context, img *image.NRGBA, boxes []rect) ([]shape, error) {
	in := m.about.Input
	t := newTensor(len(boxes), in.Width, in.Height)
	views := make([]affine, len(boxes))
	for i, b := range boxes {
		views[i] = squareAround(b, in)
		within := image.Rect(
			int(math.Floor(b.left)), int(math.Floor(b.top)), int(math.Ceil(b.right)), int(math.Ceil(b.bottom)))
		plane(t, i, in).fill(img, within, views[i])
	}
	out, err := m.session.Run(ctx, t)
	if err != nil {
		return nil, err
	}
	points := out[0].Data
	if len(points) != len(boxes)*2*len(shape{}) {
		return nil, fmt.Errorf("landmark network gave %d numbers for %d faces", len(points), len(boxes))
	}
	shapes := make([]shape, len(boxes))
	for i := range shapes {
		for j := range shapes[i] {
			at := points[2*(i*len(shape{})+j):]
			x, y := views[i].apply(float64(at[0])*float64(in.Width), float64(at[1])*float64(in.Height))
			shapes[i][j] = Point{x, y}
		}
	}
	return shapes, nil
}

// squareAround maps a network's input to the square that has the box in its middle.
func squareAround(b rect, in pack.Input) affine {
	side := max(b.width(), b.height())
	return affine{
		a: side / float64(in.Width), c: (b.left+b.right)/2 - side/2,
		e: side / float64(in.Height), f: (b.top+b.bottom)/2 - side/2,
	}
}

// fivePoints are the eyes, the tip of the nose and the corners of the mouth.
func (s *shape) fivePoints() [5]Point {
	middle := func(points []Point) (m Point) {
		for _, p := range points {
			m.X += p.X / float64(len(points))
			m.Y += p.Y / float64(len(points))
		}
		return m
	}
	return [5]Point{middle(s[36:42]), middle(s[42:48]), s[30], s[48], s[54]}
}
