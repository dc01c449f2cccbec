package vision

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"slices"

	"github.com/visage-face/visage/vision/internal/geometry"
	"github.com/visage-face/visage/vision/internal/ort"
	"github.com/visage-face/visage/vision/internal/photo"
	"github.com/visage-face/visage/vision/pack"
)

// marker finds shapes.
type marker struct {
	about   pack.Landmarks
	session *ort.Session
}

// atOnce is how many faces go through a network at once: more than a few are hardly faster, and memory grows with them.
func atOnce(in pack.Input) int {
	if in.Fixed {
		return 1
	}
	return 8
}

// find returns the shape of the face in each box. The network sees the box in the middle of a black square.
func (m *marker) find(ctx context.Context, img *photo.RGB, boxes []rect) ([]geometry.Shape, error) {
	var shapes []geometry.Shape
	for some := range slices.Chunk(boxes, atOnce(m.about.Input)) {
		found, err := m.findSome(ctx, img, some)
		if err != nil {
			return nil, err
		}
		shapes = append(shapes, found...)
	}
	return shapes, nil
}

func (m *marker) findSome(ctx context.Context, img *photo.RGB, boxes []rect) ([]geometry.Shape, error) {
	in := m.about.Input
	t := newTensor(len(boxes), in.Width, in.Height)
	views := make([]geometry.Affine, len(boxes))
	for i, b := range boxes {
		views[i] = squareAround(b, in)
		within := image.Rect(
			int(math.Floor(b.left)), int(math.Floor(b.top)), int(math.Ceil(b.right)), int(math.Ceil(b.bottom)))
		plane(t, i, in).fillSmooth(img, within, views[i])
	}
	out, err := m.session.Run(ctx, t)
	if err != nil {
		return nil, err
	}
	points := out[0].Data
	if len(points) != len(boxes)*2*len(geometry.Shape{}) {
		return nil, fmt.Errorf("landmark network gave %d numbers for %d faces", len(points), len(boxes))
	}
	shapes := make([]geometry.Shape, len(boxes))
	for i := range shapes {
		for j := range shapes[i] {
			at := points[2*(i*len(shapes[i])+j):]
			x, y := float64(at[0])*float64(in.Width), float64(at[1])*float64(in.Height)
			if math.IsNaN(x) || math.IsInf(x, 0) || math.IsNaN(y) || math.IsInf(y, 0) {
				return nil, errors.New("landmark network gave a point that is nowhere")
			}
			shapes[i][j] = views[i].Apply(geometry.Point{X: x, Y: y})
		}
	}
	return shapes, nil
}

// squareAround maps a network's input to the square that has the box in its middle.
func squareAround(b rect, in pack.Input) geometry.Affine {
	side := max(b.width(), b.height())
	return geometry.Affine{
		A: side / float64(in.Width), C: (b.left+b.right)/2 - side/2,
		E: side / float64(in.Height), F: (b.top+b.bottom)/2 - side/2,
	}
}
