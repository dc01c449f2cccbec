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

// landmarker finds shapes.
type landmarker struct {
	about   pack.Landmarks
	session *ort.Session
}

// atOnce is how many faces go through a network in one run: more are hardly faster, and memory grows with them.
func atOnce(in pack.Input) int {
	if in.Fixed {
		return 1
	}
	return 8
}

// view is how a network is shown a face.
type view struct {
	// toPicture maps the network's input to the picture.
	toPicture geometry.Affine
	// within is the part of the picture that is shown; the rest is black.
	within image.Rectangle
}

// find returns the shape of the face in each view.
func (m *landmarker) find(ctx context.Context, img *photo.RGB, views []view) ([]geometry.Shape, error) {
	var shapes []geometry.Shape
	for some := range slices.Chunk(views, atOnce(m.about.Input)) {
		found, err := m.findSome(ctx, img, some)
		if err != nil {
			return nil, err
		}
		shapes = append(shapes, found...)
	}
	return shapes, nil
}

func (m *landmarker) findSome(ctx context.Context, img *photo.RGB, views []view) ([]geometry.Shape, error) {
	in := m.about.Input
	t := newTensor(len(views), in.Width, in.Height)
	for i, v := range views {
		plane(t, i, in).fillSmooth(img, v.within, v.toPicture)
	}
	out, err := m.session.Run(ctx, t)
	if err != nil {
		return nil, err
	}
	points := out[0].Data
	if len(points) != len(views)*2*len(geometry.Shape{}) {
		return nil, fmt.Errorf("landmark network returned %d numbers for %d faces", len(points), len(views))
	}
	shapes := make([]geometry.Shape, len(views))
	for i := range shapes {
		for j := range shapes[i] {
			at := points[2*(i*len(shapes[i])+j):]
			x, y := float64(at[0])*float64(in.Width), float64(at[1])*float64(in.Height)
			if math.IsNaN(x) || math.IsInf(x, 0) || math.IsNaN(y) || math.IsInf(y, 0) {
				return nil, errors.New("landmark network returned a point that is not a number")
			}
			shapes[i][j] = views[i].toPicture.Apply(geometry.Point{X: x, Y: y})
		}
	}
	return shapes, nil
}

// around shows the box in the middle of a black square, after it turns the picture clockwise by quarters.
func (m *landmarker) around(b rect, turn int) view {
	side, in := max(b.width(), b.height()), m.about.Input
	square := geometry.Affine{A: side / float64(in.Width), C: -side / 2, E: side / float64(in.Height), F: -side / 2}
	back := [4]geometry.Affine{{A: 1, E: 1}, {B: 1, D: -1}, {A: -1, E: -1}, {B: -1, D: 1}}[turn]
	back.C, back.F = (b.left+b.right)/2, (b.top+b.bottom)/2
	return view{square.Then(back), image.Rect(
		int(math.Floor(b.left)), int(math.Floor(b.top)), int(math.Ceil(b.right)), int(math.Ceil(b.bottom)))}
}
