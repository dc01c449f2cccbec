package vision

import (
	"image"
	"math"

	"github.com/visage-face/visage/vision/internal/geometry"
	"github.com/visage-face/visage/vision/internal/measure"
	"github.com/visage-face/visage/vision/internal/photo"
)

// attributes fills in what is wanted of a face. Pose and quality need its points.
func (p *Pipeline) attributes(f *Face, img *photo.RGB, s *subject, want Attributes) {
	box := image.Rect(f.Box.Left, f.Box.Top, f.Box.Left+f.Box.Width, f.Box.Top+f.Box.Height)
	subject := measure.Subject{Width: float64(f.Box.Width), Height: float64(f.Box.Height)}
	byPixels := Blur | Exposure | Noise
	if p.grading() == nil {
		byPixels |= Quality
	}
	if want&byPixels != 0 {
		subject.Values = measure.Face(img, box)
	}
	set := func(to **float64, attribute Attributes, value float64) {
		if want&attribute != 0 {
			*to = &value
		}
	}
	set(&f.Blur, Blur, subject.Blur)
	set(&f.Exposure, Exposure, subject.Exposure)
	set(&f.Noise, Noise, subject.Noise)
	if want&(HeadPose|Quality) == 0 {
		return
	}
	shape := &s.settled.shape
	five := shape.Five()
	subject.Pupils = math.Hypot(five[1].X-five[0].X, five[1].Y-five[0].Y)
	pose, ok := geometry.PoseOf(shape)
	if !ok {
		// Points that no head casts still have a line through the eyes.
		pose = geometry.Pose{Roll: math.Atan2(five[1].Y-five[0].Y, five[1].X-five[0].X) * 180 / math.Pi}
	}
	subject.Pose = pose
	if want&HeadPose != 0 {
		pose := Pose(pose)
		f.Pose = &pose
	}
	if want&Quality != 0 {
		f.Quality = p.grade(s, subject)
	}
}
