package vision

import (
	"context"

	"github.com/visage-face/visage/vision/internal/ort"
	"github.com/visage-face/visage/vision/internal/photo"
	"github.com/visage-face/visage/vision/internal/yunet"
	"github.com/visage-face/visage/vision/pack"
)

// yuNet finds faces, with five points each, with a detector of kind YuNet.
type yuNet struct {
	about   pack.Detector
	session *ort.Session
}

// find implements detector.
func (d *yuNet) find(ctx context.Context, img *photo.RGB, look look) ([]finding, error) {
	c := newCanvas(img, look, yunet.Stride, d.about.Input)
	out, err := d.session.Run(ctx, c.tensor(img, d.about.Input))
	if err != nil {
		return nil, err
	}
	data := make([][]float32, len(out))
	for i, o := range out {
		data[i] = o.Data
	}
	faces, err := yunet.Decode(data, c.width, c.height, d.about.MinScore)
	if err != nil {
		return nil, err
	}
	found := make([]finding, len(faces))
	for i, f := range faces {
		five := f.Points
		for j, p := range five {
			five[j] = c.toPicture.Apply(p)
		}
		found[i] = finding{box: c.onPicture(rect{f.Left, f.Top, f.Right, f.Bottom}), score: f.Score, five: &five}
	}
	return found, nil
}
