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

// recogniser makes templates.
type recogniser struct {
	about   pack.Recogniser
	session *ort.Session
}

// described is the result of the recogniser for a face.
type described struct {
	template []float32
	// length is the length of the network's output before it was scaled to a template.
	length float64
}

// describe runs the recogniser on the face of each five points.
func (r *recogniser) describe(ctx context.Context, img *photo.RGB, fives [][5]geometry.Point) ([]described, error) {
	var all []described
	for some := range slices.Chunk(fives, atOnce(r.about.Input)) {
		made, err := r.describeSome(ctx, img, some)
		if err != nil {
			return nil, err
		}
		all = append(all, made...)
	}
	return all, nil
}

func (r *recogniser) describeSome(ctx context.Context, img *photo.RGB, fives [][5]geometry.Point) ([]described, error) {
	in := r.about.Input
	t := newTensor(len(fives), in.Width, in.Height)
	for i, five := range fives {
		view, err := align(r.about.Alignment, five)
		if err != nil {
			return nil, err
		}
		plane(t, i, in).fillSmooth(img, image.Rect(0, 0, img.W, img.H), view)
	}
	out, err := r.session.Run(ctx, t)
	if err != nil {
		return nil, err
	}
	n := r.about.Length
	if len(out[0].Data) != len(fives)*n {
		return nil, fmt.Errorf("recogniser returned %d numbers for %d faces of %d", len(out[0].Data), len(fives), n)
	}
	made := make([]described, len(fives))
	for i := range made {
		made[i].template = make([]float32, n)
		if made[i].length, err = unit(made[i].template, out[0].Data[i*n:(i+1)*n]); err != nil {
			return nil, err
		}
	}
	return made, nil
}

// unit writes v, scaled to length 1, to dst, and returns the length of v.
func unit(dst, v []float32) (float64, error) {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	length := math.Sqrt(sum)
	if !(length > 1e-6) || math.IsInf(length, 0) {
		return 0, errors.New("recogniser returned a template of length zero or not of numbers")
	}
	for i, x := range v {
		dst[i] = float32(float64(x) / length)
	}
	return length, nil
}

// align returns the map from a network's input to the picture that brings five points of a face as near as a turn, a
// scale and a shift can to the places where the network needs them.
func align(alignment [5][2]float64, five [5]geometry.Point) (geometry.Affine, error) {
	var wanted [5]geometry.Point
	for i, p := range alignment {
		wanted[i] = geometry.Point{X: p[0], Y: p[1]}
	}
	view, ok := geometry.Similarity(wanted[:], five[:])
	if !ok {
		return geometry.Affine{}, errors.New("all points of the face are equal")
	}
	return view, nil
}
