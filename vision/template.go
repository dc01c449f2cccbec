package vision

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"

	"github.com/visage-face/visage/vision/internal/ort"
	"github.com/visage-face/visage/vision/pack"
)

// recogniser makes templates.
type recogniser struct {
	about   pack.Recogniser
	session *ort.Session
}

// describe returns the template of the face seen through each view.
func (r *recogniser) describe(ctx context.Context, img *image.NRGBA, views []affine) ([][]float32, error) {
	in := r.about.Input
	t := newTensor(len(views), in.Width, in.Height)
	for i, v := range views {
		plane(t, i, in).fill(img, img.Rect, v)
	}
	out, err := r.session.Run(ctx, t)
	if err != nil {
		return nil, err
	}
	n := r.about.Length
	if len(out[0].Data) != len(views)*n {
		return nil, fmt.Errorf("recogniser gave %d numbers for %d faces of %d", len(out[0].Data), len(views), n)
	}
	templates := make([][]float32, len(views))
	for i := range templates {
		templates[i] = make([]float32, n)
		if err := unit(templates[i], out[0].Data[i*n:(i+1)*n]); err != nil {
			return nil, err
		}
	}
	return templates, nil
}

// unit writes v at length 1 to dst.
func unit(dst, v []float32) error {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	length := math.Sqrt(sum)
	if !(length > 1e-6) || math.IsInf(length, 0) {
		return errors.New("recogniser gave a template without direction")
	}
	for i, x := range v {
		dst[i] = float32(float64(x) / length)
	}
	return nil
}

// align returns the view that brings the five points as near as a turn, a scale and a shift can to where the recogniser
// wants them.
func (r *recogniser) align(five [5]Point) affine {
	// Least squares over maps from the input to the picture: with both sets of points centred, the turn and scale are
	// one complex number, the quotient of their correlation and the spread of the wanted points.
	var px, py, wx, wy float64
	for i, w := range r.about.Alignment {
		px, py, wx, wy = px+five[i].X/5, py+five[i].Y/5, wx+w[0]/5, wy+w[1]/5
	}
	var re, im, spread float64
	for i, w := range r.about.Alignment {
		x, y, u, v := five[i].X-px, five[i].Y-py, w[0]-wx, w[1]-wy
		re += x*u + y*v
		im += y*u - x*v
		spread += u*u + v*v
	}
	re, im = re/spread, im/spread
	return affine{a: re, b: -im, c: px - re*wx + im*wy, d: im, e: re, f: py - im*wx - re*wy}
}
