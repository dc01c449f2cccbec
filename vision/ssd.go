package vision

import (
	"context"
	"fmt"
	"image"
	"math"

	"github.com/visage-face/visage/vision/internal/ort"
	"github.com/visage-face/visage/vision/pack"
)

// ssd finds faces with a detector of kind SSD.
type ssd struct {
	about   pack.Detector
	session *ort.Session
}

// Scales of the offsets that an SSD gives: centres in tenths, sizes in fifths of an anchor.
const (
	centreScale = 10
	sizeScale   = 5
)

// find looks at the picture once: scaled so that its longer side is side pixels, with a border (in pixels of the
// picture) of black around it.
func (d *ssd) find(ctx context.Context, img *image.NRGBA, side int, border float64) ([]finding, error) {
	size := img.Rect.Size()
	canvasWidth, canvasHeight := float64(size.X)+2*border, float64(size.Y)+2*border
	scale := max(canvasWidth, canvasHeight) / float64(side) // pixels of the picture in one of the input
	coarsest := d.about.Levels[1].Stride
	width, height := roundUp(canvasWidth/scale, coarsest), roundUp(canvasHeight/scale, coarsest)

	t := newTensor(1, width, height)
	plane(t, 0, d.about.Input).fill(img, img.Rect, affine{a: scale, c: -border, e: scale, f: -border})
	out, err := d.session.Run(ctx, t)
	if err != nil {
		return nil, err
	}
	found, err := d.read(out, width, height)
	if err != nil {
		return nil, err
	}
	for i, f := range found {
		found[i].box = rect{
			f.box.left*scale - border, f.box.top*scale - border, f.box.right*scale - border, f.box.bottom*scale - border,
		}
	}
	return found, nil
}

// read turns the network's output into findings, in pixels of its input.
func (d *ssd) read(out []ort.Tensor, width, height int) ([]finding, error) {
	boxes, scores := out[0].Data, out[1].Data
	var found []finding
	at := 0
	for _, l := range d.about.Levels {
		// The network halves its input, rounding up, so often that a cell is Stride wide.
		rows, cols := (height+l.Stride-1)/l.Stride, (width+l.Stride-1)/l.Stride
		if n := rows * cols * len(l.Sizes); at+n > len(scores) || 4*(at+n) > len(boxes) {
			return nil, fmt.Errorf("detector gave %d scores, too few for its anchors", len(scores))
		}
		for y := range rows {
			for x := range cols {
				for _, anchor := range l.Sizes {
					if score := float64(scores[at]); score > d.about.MinScore {
						e := boxes[4*at:]
						// The grid may reach beyond the input by part of a cell; its cells are spread over the
						// input evenly, as the anchors of the full square are.
						cy := (float64(y) + 0.5) * float64(l.Stride)
						cx := (float64(x) + 0.5) * float64(l.Stride)
						cy += float64(e[0]) / centreScale * anchor[0]
						cx += float64(e[1]) / centreScale * anchor[1]
						h := math.Exp(float64(e[2])/sizeScale) * anchor[0]
						w := math.Exp(float64(e[3])/sizeScale) * anchor[1]
						found = append(found, finding{box: rect{cx - w/2, cy - h/2, cx + w/2, cy + h/2}, score: score})
					}
					at++
				}
			}
		}
	}
	if at != len(scores) {
		return nil, fmt.Errorf("detector gave %d scores for %d anchors", len(scores), at)
	}
	return found, nil
}

func roundUp(x float64, multiple int) int {
	return max(1, int(math.Ceil(x/float64(multiple)-1e-9))) * multiple
}
