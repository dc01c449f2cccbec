package vision

import (
	"cmp"
	"context"
	"image"
	"math"
	"slices"

	"github.com/visage-face/visage/vision/internal/geometry"
	"github.com/visage-face/visage/vision/internal/photo"
)

// detector is a network that finds faces.
type detector interface {
	// find returns all findings in the picture, in its pixels: each face many times, in no order. It is safe for
	// concurrent use.
	find(ctx context.Context, img *photo.RGB, look look) ([]finding, error)
}

// rect is a rectangle in pixels of the upright picture, with fractions.
type rect struct{ left, top, right, bottom float64 }

func (r rect) width() float64  { return r.right - r.left }
func (r rect) height() float64 { return r.bottom - r.top }
func (r rect) area() float64   { return max(r.width(), 0) * max(r.height(), 0) }

// lies reports whether the rectangle is near a picture. Networks return others for inputs that no picture gives.
func (r rect) lies() bool {
	return r.right > r.left && r.bottom > r.top &&
		min(r.left, r.top) > -farthest && max(r.right, r.bottom) < farthest
}

// common returns the area of the intersection of two rectangles.
func common(a, b rect) float64 {
	return rect{max(a.left, b.left), max(a.top, b.top), min(a.right, b.right), min(a.bottom, b.bottom)}.area()
}

// overlap returns the area of the intersection of two rectangles divided by that of their union, 0 to 1.
func overlap(a, b rect) float64 {
	c := common(a, b)
	return c / max(a.area()+b.area()-c, math.SmallestNonzeroFloat64)
}

// inside returns the share of the smaller rectangle that lies in the larger, 0 to 1.
func inside(a, b rect) float64 {
	return common(a, b) / max(min(a.area(), b.area()), math.SmallestNonzeroFloat64)
}

// finding is a face as a detector reports it.
type finding struct {
	box   rect
	score float64
	// turn is the number of quarter turns clockwise that bring the face upright, 0 to 3, as far as the detector can
	// tell.
	turn int
	// five points, if the detector gives them: eyes, nose, corners of the mouth.
	five *[5]geometry.Point
}

// maxInside is the largest share of a face's box inside another's. If a head hides more of another, that one no longer
// shows a face; a detector, however, often reports one face twice, with and without the hair.
const maxInside = 0.7

// suppress keeps the first of findings that overlap by more than maxOverlap, or that lie mostly inside each other.
// Findings must be in order of preference.
func suppress(all []finding, maxOverlap float64) []finding {
	var kept []finding
	for _, f := range all {
		if !slices.ContainsFunc(kept, func(k finding) bool {
			return overlap(k.box, f.box) > maxOverlap || inside(k.box, f.box) > maxInside
		}) {
			kept = append(kept, f)
		}
	}
	return kept
}

// byScore sorts findings, best first.
func byScore(all []finding) []finding {
	slices.SortStableFunc(all, func(a, b finding) int { return cmp.Compare(b.score, a.score) })
	return all
}

// Sizes of the smallest faces worth recognising: 36 pixels wide and high up to 1920 × 1080, and proportionally more
// beyond. The Face contract promises to find faces of this size.
const (
	minFace    = 36
	fullWidth  = 1920
	fullHeight = 1080
)

// smallest returns the shortest side of a face on a picture of the given size, in pixels.
func smallest(width, height int) float64 {
	long, short := float64(max(width, height)), float64(min(width, height))
	return minFace * max(1, long/fullWidth, short/fullHeight)
}

// maxFaces is the largest number of faces of a photo.
const maxFaces = 100

// arrange turns findings into faces: clipped to the picture, rounded to whole pixels, without those less than least
// pixels wide or high, sorted by area. It returns the findings in the same order.
func arrange(all []finding, width, height int, least float64) ([]Face, []finding) {
	type pair struct {
		face    Face
		finding finding
	}
	var pairs []pair
	for _, f := range all {
		if !f.box.lies() {
			continue
		}
		b := image.Rect(
			int(math.Round(f.box.left)), int(math.Round(f.box.top)), int(math.Round(f.box.right)),
			int(math.Round(f.box.bottom)),
		).Intersect(image.Rect(0, 0, width, height))
		if float64(b.Dx()) < least || float64(b.Dy()) < least {
			continue
		}
		pairs = append(pairs, pair{Face{Box: Box{b.Min.X, b.Min.Y, b.Dx(), b.Dy()}, Score: f.score}, f})
	}
	slices.SortStableFunc(pairs, func(a, b pair) int {
		return cmp.Compare(b.face.Box.Width*b.face.Box.Height, a.face.Box.Width*a.face.Box.Height)
	})
	pairs = pairs[:min(len(pairs), maxFaces)]
	faces, findings := make([]Face, len(pairs)), make([]finding, len(pairs))
	for i, p := range pairs {
		faces[i], findings[i] = p.face, p.finding
	}
	return faces, findings
}
