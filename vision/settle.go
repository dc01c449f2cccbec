package vision

import (
	"context"
	"fmt"
	"image"
	"math"

	"github.com/visage-face/visage/vision/internal/geometry"
	"github.com/visage-face/visage/vision/internal/photo"
)

// settled is a face with its points, in the orientation in which they fit.
type settled struct {
	shape geometry.Shape
	// misfit is geometry.Misfit of the shape.
	misfit float64
}

// doubt is the misfit, increased by the distance between these points and those of the detector: the points of a face
// that is hard to mark may fit by accident in an orientation in which the detector did not find it.
func (s *settled) doubt(f *finding) float64 { return s.misfit * (1 + s.apart(f)) }

// apart returns the distance of the detector's five points from the same among the 68, on average and as a fraction of
// the mean distance of the 68 from their middle; 0 if the detector gives none. Different networks find them, and they
// agree only on faces.
func (s *settled) apart(f *finding) float64 {
	if f.five == nil {
		return 0
	}
	sum := 0.0
	for i, p := range s.shape.Five() {
		sum += math.Hypot(p.X-f.five[i].X, p.Y-f.five[i].Y) / 5
	}
	frame := geometry.FrameOf(&s.shape)
	return sum / max(math.Hypot(frame.A, frame.D), 1e-9)
}

const (
	// sureMisfit is the misfit up to which the first look at a face is accepted: 95 % of upright faces have less, and
	// no face on its side or upside down has.
	sureMisfit = 0.018
	// reframings is how often a face is marked again in the frame that its points suggest, because detectors do not
	// know where a head that is not upright ends. In the right orientation the points fit after one to three steps, in
	// the others they do not.
	reframings = 3
)

// settle marks the findings. If the points do not fit, even in the frame that they suggest, it marks the face in four
// orientations, because the landmark network marks eyes and a mouth wherever it is shown a supposedly upright face. It
// keeps the points that fit best.
func (p *Pipeline) settle(ctx context.Context, img *photo.RGB, findings []finding) ([]settled, error) {
	views := make([]view, len(findings))
	for i, f := range findings {
		views[i] = p.landmarker.around(f.box, f.turn)
	}
	faces, err := p.marked(ctx, img, views)
	if err != nil {
		return nil, err
	}
	doubtful := func() (which []int) {
		for i, f := range faces {
			if f.misfit > sureMisfit {
				which = append(which, i)
			}
		}
		return which
	}
	// try marks the views, the same number for each of some faces, and keeps the points that fit better and are still
	// of the same face.
	try := func(which []int, views []view) ([]settled, error) {
		tried, err := p.marked(ctx, img, views)
		for i, f := range tried {
			at := which[i*len(which)/len(views)]
			if of := &findings[at]; f.doubt(of) < faces[at].doubt(of) && inBox(&f.shape, of.box) {
				faces[at] = f
			}
		}
		return tried, err
	}
	some := doubtful()
	views = nil
	for _, i := range some {
		views = append(views, p.landmarker.frame(&faces[i].shape, img))
	}
	if _, err := try(some, views); err != nil {
		return nil, err
	}
	some = doubtful()
	views = nil
	for _, i := range some {
		for turn := range 4 {
			views = append(views, p.landmarker.around(findings[i].box, turn))
		}
	}
	for range 1 + reframings {
		tried, err := try(some, views)
		if err != nil {
			return nil, err
		}
		for i := range tried {
			views[i] = p.landmarker.frame(&tried[i].shape, img)
		}
	}
	return faces, nil
}

// marked marks the face in each view.
func (p *Pipeline) marked(ctx context.Context, img *photo.RGB, views []view) ([]settled, error) {
	shapes, err := p.landmarker.find(ctx, img, views)
	if err != nil {
		return nil, fmt.Errorf("find landmarks: %w", err)
	}
	faces := make([]settled, len(shapes))
	for i := range shapes {
		faces[i] = settled{shapes[i], geometry.Misfit(&shapes[i])}
	}
	return faces, nil
}

// Where a landmark network finds the points in the box of an upright face, as the detectors place it: their distance
// from their middle, as root mean square, and how far that middle is below the middle of the box, in sides of the box.
const (
	pointsSpread = 0.295
	pointsBelow  = 0.07
)

// inBox reports whether the points are those of the face in a box, and not of an object beside it or on it.
func inBox(s *geometry.Shape, box rect) bool {
	frame := geometry.FrameOf(s)
	size := math.Hypot(frame.A, frame.D) / (pointsSpread * max(box.width(), box.height()))
	return frame.C > box.left && frame.C < box.right && frame.F > box.top && frame.F < box.bottom && size > 0.5 &&
		size < 2
}

// frame shows a face as its points suggest: upright, and of the size and height at which the network knows faces.
func (m *landmarker) frame(s *geometry.Shape, img *photo.RGB) view {
	side := 1 / pointsSpread
	in := m.about.Input
	square := geometry.Affine{
		A: side / float64(in.Width), C: -side / 2,
		E: side / float64(in.Height), F: -side/2 - pointsBelow*side,
	}
	return view{square.Then(geometry.FrameOf(s)), image.Rect(0, 0, img.W, img.H)}
}
