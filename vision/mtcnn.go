package vision

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/visage-face/visage/vision/internal/geometry"
	"github.com/visage-face/visage/vision/internal/ort"
	"github.com/visage-face/visage/vision/internal/photo"
	"github.com/visage-face/visage/vision/pack"
)

// mtcnn finds faces, with five points each, with a detector of kind MTCNN (Zhang et al. 2016, "Joint Face Detection and
// Alignment using Multitask Cascaded Convolutional Networks"): a first network proposes squares all over the picture
// and at all sizes, a second drops most of them, and a third decides and marks the points.
type mtcnn struct {
	about pack.Detector
	// atOnce returns how many runs of its networks one look may make at the same time.
	atOnce                  func() int
	propose, refine, decide *ort.Session
}

// The outputs of the three networks: two scores for each place (no face, face), four offsets of the box as fractions of
// its sides, and five points as fractions of the box, x before y.
var (
	proposed = []string{"scores", "boxes"}
	decided  = []string{"scores", "boxes", "points"}
)

const (
	// cell is the side of the square that the first network sees, and step the distance between two of them, in pixels
	// of its input.
	cell = 12
	step = 2
	// shrinkage is the factor by which each picture of the pyramid is smaller than the one before.
	shrinkage = 0.709
	// rim is the width of the black border around the picture when it is searched for faces that fill it, as a fraction
	// of its shorter side: a face that the edge of the picture cuts, or that is as large as the picture, would fit no
	// cell otherwise.
	rim = 0.25
	// Overlaps above which one of two boxes is dropped: on one picture of the pyramid, between pictures, and after the
	// second network. After the third, that of the manifest applies.
	overlapLevel, overlapAll, overlapRefined = 0.5, 0.7, 0.5
	// maxProposals and maxRefined limit the boxes that go through the second and third network. A photo has at most 100
	// faces, with a few boxes each. maxOfLevel limits the boxes of one picture of the pyramid: no photo of people has
	// as many, but a picture made as an attack can have a face in every cell, and comparing all pairs would take many
	// seconds.
	maxProposals, maxRefined, maxOfLevel = 600, 250, 2400
	// boxesAtOnce is how many boxes go through a network in one run.
	boxesAtOnce = 64
)

// mismeasured is the least size of a box, as a fraction of the least face: the detector frames the same face sometimes
// wider and sometimes narrower, and a face of the least size must be found.
const mismeasured = 0.85

// candidate is a box that may hold a face, in pixels of the picture.
type candidate struct {
	finding
	// offsets are where the network places the edges of the box: left, top, right, bottom, as fractions of its sides.
	offsets [4]float64
}

// find implements detector.
func (d *mtcnn) find(ctx context.Context, img *photo.RGB, _ look) ([]finding, error) {
	if img.W < 1 || img.H < 1 {
		return nil, nil
	}
	all := newHalves(img)
	boxes, err := d.proposals(ctx, img, all)
	if err != nil {
		return nil, err
	}
	boxes, err = d.through(ctx, d.refine, d.about.Stages[0], all, boxes)
	if err != nil {
		return nil, err
	}
	boxes = keepApart(boxes, overlapRefined, maxRefined)
	for i, b := range boxes {
		boxes[i] = b.moved()
	}
	boxes = squares(boxes)
	boxes, err = d.through(ctx, d.decide, d.about.Stages[1], all, boxes)
	if err != nil {
		return nil, err
	}
	found := make([]finding, len(boxes))
	for i, b := range boxes {
		found[i] = b.finding
		found[i].box = b.moved().box
	}
	return found, nil
}

// proposals returns the squares in which the first network sees a face, best first.
func (d *mtcnn) proposals(ctx context.Context, img *photo.RGB, all *halves) ([]candidate, error) {
	width, height := float64(img.W), float64(img.H)
	short := min(width, height)
	type level struct {
		input     ort.Tensor
		toPicture geometry.Affine
		found     []candidate
	}
	var levels []level
	for side := smallest(img.W, img.H); ; side /= shrinkage { // of the faces of this level
		border := 0.0
		if 3*side > short {
			border = rim * short
		}
		scale := cell / side
		w, h := int(math.Ceil((width+2*border)*scale)), int(math.Ceil((height+2*border)*scale))
		if side > short && min(w, h) < cell {
			break
		}
		l := level{
			input:     newTensor(1, max(w, cell), max(h, cell)),
			toPicture: geometry.Affine{A: 1 / scale, C: -border, E: 1 / scale, F: -border},
		}
		all.fill(plane(l.input, 0, d.about.Input), l.toPicture)
		levels = append(levels, l)
	}
	runs, ctx := errgroup.WithContext(ctx)
	runs.SetLimit(d.atOnce())
	for i := range levels {
		l := &levels[i]
		runs.Go(func() (err error) {
			l.found, err = d.scan(ctx, l.input, l.toPicture)
			return err
		})
	}
	if err := runs.Wait(); err != nil {
		return nil, err
	}
	var found []candidate
	for _, l := range levels {
		found = append(found, keepApart(l.found, overlapLevel, maxOfLevel)...)
	}
	found = keepApart(found, overlapAll, maxProposals)
	for i, c := range found {
		found[i] = c.moved()
	}
	return squares(found), nil
}

// scan runs the first network on one picture of the pyramid, which toPicture maps to the photo.
func (d *mtcnn) scan(ctx context.Context, input ort.Tensor, toPicture geometry.Affine) ([]candidate, error) {
	out, err := d.propose.Run(ctx, input)
	if err != nil {
		return nil, err
	}
	scores, offsets := out[0], out[1]
	if len(scores.Shape) != 4 || scores.Shape[1] != 2 || len(offsets.Data) != 2*len(scores.Data) {
		return nil, fmt.Errorf("the detector's first network returned scores of shape %v and %d offsets", scores.Shape,
			len(offsets.Data))
	}
	rows, cols := int(scores.Shape[2]), int(scores.Shape[3])
	var found []candidate
	for i, score := range scores.Data[rows*cols:] {
		if float64(score) < d.about.MinScore {
			continue
		}
		x, y := float64(i%cols*step), float64(i/cols*step)
		a := toPicture.Apply(geometry.Point{X: x, Y: y})
		b := toPicture.Apply(geometry.Point{X: x + cell, Y: y + cell})
		c := candidate{finding: finding{box: rect{a.X, a.Y, b.X, b.Y}, score: float64(score)}}
		for k := range c.offsets {
			c.offsets[k] = float64(offsets.Data[k*rows*cols+i])
		}
		found = append(found, c)
	}
	return found, nil
}

// through runs the second or third network on boxes. It returns those that the network takes for faces, with its
// findings.
func (d *mtcnn) through(
	ctx context.Context, session *ort.Session, stage pack.Stage, all *halves, boxes []candidate,
) ([]candidate, error) {
	if len(boxes) == 0 {
		return nil, nil
	}
	in, workers := stage.Input, d.atOnce()
	var inputs []ort.Tensor
	chunks := slices.Collect(slices.Chunk(boxes, min((len(boxes)+workers-1)/workers, boxesAtOnce)))
	for _, some := range chunks {
		t := newTensor(len(some), in.Width, in.Height)
		for i, c := range some {
			view := geometry.Affine{
				A: c.box.width() / float64(in.Width), C: c.box.left,
				E: c.box.height() / float64(in.Height), F: c.box.top,
			}
			all.fill(plane(t, i, in), view)
		}
		inputs = append(inputs, t)
	}
	outputs := make([][]ort.Tensor, len(inputs))
	runs, ctx := errgroup.WithContext(ctx)
	runs.SetLimit(workers)
	for i := range inputs {
		runs.Go(func() (err error) {
			outputs[i], err = session.Run(ctx, inputs[i])
			return err
		})
	}
	if err := runs.Wait(); err != nil {
		return nil, err
	}
	var kept []candidate
	for i, some := range chunks {
		faces, err := read(outputs[i], stage.MinScore, some)
		if err != nil {
			return nil, err
		}
		kept = append(kept, faces...)
	}
	return kept, nil
}

// read returns the boxes that the second or third network takes for faces.
func read(out []ort.Tensor, minScore float64, boxes []candidate) ([]candidate, error) {
	n := len(boxes)
	if len(out[0].Data) != 2*n || len(out[1].Data) != 4*n || len(out) > 2 && len(out[2].Data) != 10*n {
		return nil, fmt.Errorf("a network of the detector returned %d scores for %d boxes", len(out[0].Data), n)
	}
	var kept []candidate
	for i, c := range boxes {
		c.score = float64(out[0].Data[2*i+1])
		if c.score < minScore {
			continue
		}
		for k := range c.offsets {
			c.offsets[k] = float64(out[1].Data[4*i+k])
		}
		if len(out) > 2 {
			c.five = new([5]geometry.Point)
			for k := range c.five {
				c.five[k] = geometry.Point{
					X: c.box.left + float64(out[2].Data[10*i+k])*c.box.width(),
					Y: c.box.top + float64(out[2].Data[10*i+5+k])*c.box.height(),
				}
			}
		}
		kept = append(kept, c)
	}
	return kept, nil
}

// squares turns boxes into squares around the same middle.
func squares(boxes []candidate) []candidate {
	var kept []candidate
	for _, c := range boxes {
		b := c.box
		side := max(b.width(), b.height())
		x, y := (b.left+b.right)/2, (b.top+b.bottom)/2
		c.box = rect{x - side/2, y - side/2, x + side/2, y + side/2}
		// An empty box, or one without a place, comes from an input that no picture gives.
		if side >= 1 && side < farthest && math.Abs(x)+math.Abs(y) < farthest {
			kept = append(kept, c)
		}
	}
	return kept
}

// moved returns the candidate with its box moved by the offsets.
func (c candidate) moved() candidate {
	b, w, h := c.box, c.box.width(), c.box.height()
	c.box = rect{b.left + c.offsets[0]*w, b.top + c.offsets[1]*h, b.right + c.offsets[2]*w, b.bottom + c.offsets[3]*h}
	c.offsets = [4]float64{}
	return c
}

// keepApart sorts boxes, best first, and drops those that overlap a better one by more than overlapping. It keeps at
// most a given number.
func keepApart(all []candidate, overlapping float64, most int) []candidate {
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(b.score, a.score) })
	var kept []candidate
	for _, c := range all {
		if len(kept) == most {
			break
		}
		if !slices.ContainsFunc(kept, func(k candidate) bool { return overlap(k.box, c.box) > overlapping }) {
			kept = append(kept, c)
		}
	}
	return kept
}
