package yunet

import (
	"cmp"
	"slices"
)

// Box is a rectangle in pixels, with fractions.
type Box struct{ Left, Top, Right, Bottom float64 }

// area is 0 for boxes turned inside out.
func (b Box) area() float64 { return max(b.Right-b.Left, 0) * max(b.Bottom-b.Top, 0) }

// Overlap returns the area that two boxes share over the area that they cover, 0 to 1.
func Overlap(a, b Box) float64 {
	shared := Box{max(a.Left, b.Left), max(a.Top, b.Top), min(a.Right, b.Right), min(a.Bottom, b.Bottom)}.area()
	if shared == 0 {
		return 0
	}
	return shared / (a.area() + b.area() - shared)
}

// Suppress returns the indices of the boxes to keep, best score first: those that do not overlap a kept one by more than
// maxOverlap. Of equal scores, the earlier is better. It serves boxes of any detector, and boxes merged from several
// looks at a picture.
func Suppress(boxes []Box, scores []float64, maxOverlap float64) []int {
	order := make([]int, len(boxes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	var kept []int
	for _, i := range order {
		if !slices.ContainsFunc(kept, func(k int) bool { return Overlap(boxes[k], boxes[i]) > maxOverlap }) {
			kept = append(kept, i)
		}
	}
	return kept
}

// Best returns the faces to keep, by Suppress.
func Best(faces []Face, maxOverlap float64) []Face {
	boxes, scores := make([]Box, len(faces)), make([]float64, len(faces))
	for i, f := range faces {
		boxes[i], scores[i] = f.Box, f.Score
	}
	var best []Face
	for _, i := range Suppress(boxes, scores, maxOverlap) {
		best = append(best, faces[i])
	}
	return best
}
