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
)

// probeSide is the width and height of the pictures that networks are tried on, in pixels.
const probeSide = 128

// sameTemplate is the cosine distance below which two entirely different pictures have the same template. Those of the
// networks that we know are at least 0.1 apart.
const sameTemplate = 1e-3

// probe runs every network on made-up pictures, so that one that cannot work is refused before use: weights that are
// not numbers, outputs of other lengths than the manifest says, a recogniser that sees no difference between any two
// pictures. It stores the fingerprint of the recogniser.
func (p *Pipeline) probe(ctx context.Context) error {
	rings, bands := probePictures()
	if _, err := p.detector.find(ctx, rings, look{side: probeSide}); err != nil {
		return fmt.Errorf("try detector: %w", err)
	}
	if d, ok := p.detector.(*mtcnn); ok {
		if err := d.try(ctx, rings); err != nil {
			return fmt.Errorf("try detector: %w", err)
		}
	}
	if p.landmarker != nil {
		shapes, err := p.landmarker.find(ctx, rings, []view{p.landmarker.around(rect{16, 16, 112, 112}, 0)})
		if err != nil {
			return fmt.Errorf("try landmarks: %w", err)
		}
		if flat := shapes[0][0]; !slices.ContainsFunc(shapes[0][:], func(p geometry.Point) bool { return p != flat }) {
			return errors.New("try landmarks: all points are equal")
		}
	}
	five := [5]geometry.Point{{X: 46, Y: 52}, {X: 82, Y: 52}, {X: 64, Y: 72}, {X: 50, Y: 92}, {X: 78, Y: 92}}
	var templates [2][]float32
	for i, img := range []*photo.RGB{rings, bands} {
		made, err := p.recogniser.describe(ctx, img, [][5]geometry.Point{five})
		if err != nil {
			return fmt.Errorf("try recogniser: %w", err)
		}
		templates[i] = made[0].template
	}
	var product float64
	for i, x := range templates[0] {
		product += float64(x) * float64(templates[1][i])
	}
	if 1-product < sameTemplate {
		return errors.New("try recogniser: two pictures that are nothing alike have the same template, " +
			"so it would take everybody for one person")
	}
	for _, w := range p.wearNetworks {
		if err := w.look(ctx, rings, [][5]geometry.Point{five}, []signs{{}}); err != nil {
			return fmt.Errorf("try %s: %w", w.about.File, err)
		}
	}
	p.fingerprint = templates[0]
	return nil
}

// try runs the second and third network on the whole picture, because they are not run where the first finds no face.
func (d *mtcnn) try(ctx context.Context, img *photo.RGB) error {
	for i, session := range []*ort.Session{d.refine, d.decide} {
		in := d.about.Stages[i].Input
		t := newTensor(1, in.Width, in.Height)
		plane(t, 0, in).fillSmooth(img, image.Rect(0, 0, img.W, img.H), geometry.Affine{
			A: float64(img.W) / float64(in.Width), E: float64(img.H) / float64(in.Height),
		})
		out, err := session.Run(ctx, t)
		if err != nil {
			return err
		}
		for k, o := range out {
			if want := []int{2, 4, 10}[k]; len(o.Data) != want {
				return fmt.Errorf("network %d returned %d %s for a box, want %d", i+2, len(o.Data), decided[k], want)
			}
		}
	}
	return nil
}

// probePictures returns two entirely different pictures: dark and bright rings, and slanted bands of colours.
func probePictures() (rings, bands *photo.RGB) {
	paint := func(colour func(x, y float64) [3]float64) *photo.RGB {
		img := &photo.RGB{W: probeSide, H: probeSide, Pix: make([]byte, 3*probeSide*probeSide)}
		for y := range probeSide {
			for x := range probeSide {
				for i, v := range colour(float64(x), float64(y)) {
					img.Pix[3*(y*probeSide+x)+i] = byte(v)
				}
			}
		}
		return img
	}
	wave := func(turns float64) float64 { return 127.5 * (1 + math.Sin(2*math.Pi*turns)) }
	rings = paint(func(x, y float64) [3]float64 {
		v := wave(math.Hypot(x-64, y-64) / 24)
		return [3]float64{v, v, v}
	})
	bands = paint(func(x, y float64) [3]float64 {
		return [3]float64{wave((x + y) / 40), wave((x - y) / 56), wave(x / 32)}
	})
	return rings, bands
}

// Fingerprint returns the template of a fixed picture. If two pipelines have the same one, except for the last digits,
// their templates are comparable. The caller owns it.
func (p *Pipeline) Fingerprint() []float32 { return slices.Clone(p.fingerprint) }
