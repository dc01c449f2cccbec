package vision

import (
	"context"
	"image"
	"math"

	"github.com/visage-face/visage/vision/internal/geometry"
	"github.com/visage-face/visage/vision/internal/measure"
	"github.com/visage-face/visage/vision/internal/photo"
)

// evidence is what the attributes of one face are measured from. Each part is computed when a measure first asks for
// it. Faces whose attributes need points are marked before, and those that the recogniser must grade are described.
type evidence struct {
	pipeline *Pipeline
	img      *photo.RGB
	box      Box
	subject  *subject
	signs    signs // that the networks of the pack saw

	values *measure.Values // nil until pixels is called
}

// measure sets the wanted attributes of the chosen faces. The subjects in some are those of the chosen faces.
func (p *Pipeline) measure(
	ctx context.Context, img *photo.RGB, faces []Face, chosen []int, some []*subject, want Attributes,
) error {
	seen, err := p.see(ctx, img, some, want)
	if err != nil {
		return err
	}
	for i, c := range chosen {
		if ctx.Err() != nil { // measuring a hundred large faces takes a second
			return context.Cause(ctx)
		}
		f := &faces[c]
		e := &evidence{pipeline: p, img: img, box: f.Box, subject: some[i], signs: seen[i]}
		f.Attributes = Measured{}
		for _, row := range table {
			if want&row.Bit != 0 {
				f.Attributes[row.Bit] = row.measure(e)
			}
		}
	}
	return nil
}

// pixels returns the values that are measured on the pixels inside the box.
func (e *evidence) pixels() measure.Values {
	if e.values == nil {
		b := e.box
		values := measure.Face(e.img, image.Rect(b.Left, b.Top, b.Left+b.Width, b.Top+b.Height))
		e.values = &values
	}
	return *e.values
}

// pupils returns the distance between the pupils, in pixels.
func (e *evidence) pupils() float64 {
	five := e.subject.five()
	return math.Hypot(five[1].X-five[0].X, five[1].Y-five[0].Y)
}

// pose returns the direction of the head. If no head could have these points, the line through the eyes still gives the
// roll.
func (e *evidence) pose() geometry.Pose {
	shape := &e.subject.settled.shape
	if pose, ok := geometry.PoseOf(shape); ok {
		return pose
	}
	five := shape.Five()
	return geometry.Pose{Roll: math.Atan2(five[1].Y-five[0].Y, five[1].X-five[0].X) * 180 / math.Pi}
}

// grade returns the quality of the face for recognition. If the pack has no rule for it, it depends on the pixels.
func (e *evidence) grade() Grade {
	m := measure.Subject{
		Width: float64(e.box.Width), Height: float64(e.box.Height), Pupils: e.pupils(), Pose: e.pose(),
	}
	if e.pipeline.grading() == nil {
		m.Values = e.pixels()
	}
	return e.pipeline.grade(e.subject, m)
}
