package vision

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/visage-face/visage/vision/internal/ort"
	"github.com/visage-face/visage/vision/internal/photo"
	"github.com/visage-face/visage/vision/pack"
)

// ssd finds faces with a detector of kind SSD.
type ssd struct {
	about   pack.Detector
	session *ort.Session
}

// Scales of the offsets of an SSD: centres in tenths, sizes in fifths of an anchor.
const (
	centreScale = 10
	sizeScale   = 5
)

// farthest limits the place and the size of a box, in pixels of the input: beyond it the network is broken.
const farthest = 1 << 20

// find implements detector.
func (d *ssd) find(ctx context.Context, img *photo.RGB, look look) ([]finding, error) {
	// The two finest grids fit; the coarser ones may reach beyond the input.
	second := d.about.Levels[min(1, len(d.about.Levels)-1)]
	c := newCanvas(img, look, second.Stride, d.about.Input)
	out, err := d.session.Run(ctx, c.tensor(img, d.about.Input))
	if err != nil {
		return nil, err
	}
	found, err := d.read(out, c.width, c.height)
	if err != nil {
		return nil, err
	}
	for i := range found {
		found[i].box = c.onPicture(found[i].box)
	}
	return found, nil
}

// read turns the network's output into findings, in pixels of its input.
func (d *ssd) read(out []ort.Tensor, width, height int) ([]finding, error) {
	boxes, scores := out[0].Data, out[1].Data
	var found []finding
	at := 0
	for _, l := range d.about.Levels {
		// The network halves its input, rounding up, until a cell is Stride wide.
		rows, cols := (height+l.Stride-1)/l.Stride, (width+l.Stride-1)/l.Stride
		if n := rows * cols * len(l.Sizes); at+n > len(scores) || 4*(at+n) > len(boxes) {
			return nil, fmt.Errorf("detector returned %d scores, too few for its anchors", len(scores))
		}
		for y := range rows {
			for x := range cols {
				for _, anchor := range l.Sizes {
					if score := float64(scores[at]); score > d.about.MinScore {
						e := boxes[4*at:]
						cy := (float64(y) + 0.5) * float64(l.Stride)
						cx := (float64(x) + 0.5) * float64(l.Stride)
						cy += float64(e[0]) / centreScale * anchor[0]
						cx += float64(e[1]) / centreScale * anchor[1]
						h := math.Exp(float64(e[2])/sizeScale) * anchor[0]
						w := math.Exp(float64(e[3])/sizeScale) * anchor[1]
						if size := math.Abs(cx) + math.Abs(cy) + w + h; math.IsNaN(size) || size > farthest {
							return nil, errors.New("detector returned a box that lies far outside the picture")
						}
						found = append(found, finding{box: rect{cx - w/2, cy - h/2, cx + w/2, cy + h/2}, score: score})
					}
					at++
				}
			}
		}
	}
	if at != len(scores) {
		return nil, fmt.Errorf("detector returned %d scores for %d anchors", len(scores), at)
	}
	return found, nil
}
