package face

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/visage-face/visage/gallery"
)

// samePerson is the confidence from which two faces count as one person (contract §5.5).
const samePerson = 0.5

// confidence returns what clients see: five decimals, cut off and not rounded, so that a value below a threshold never
// seems to reach it.
func confidence(m Recogniser, distance float32) float64 {
	c := min(max(m.Confidence(float64(distance)), 0), 1)
	return math.Floor(c*1e5) / 1e5
}

// within returns a distance beyond which no face has at least that confidence, so that a search can skip such faces; 0
// when every face has the confidence, or none. It need not be exact: callers check the confidence of each result.
func within(m Recogniser, least float64) float32 {
	enough := func(distance float32) bool { return confidence(m, distance) >= least }
	near, far := float32(0), float32(2)
	if !enough(near) || enough(far) {
		return 0
	}
	for far-near > 1e-6 { // confidence falls with the distance
		if middle := (near + far) / 2; enough(middle) {
			near = middle
		} else {
			far = middle
		}
	}
	return far + 1e-6
}

// ranked is a code, by its index in a list, with its distance from a probe.
type ranked struct {
	index    int
	distance float32
}

// rank returns the k codes nearest to a probe, nearest first. Equally near codes keep their order.
func rank(probe gallery.Code, codes []gallery.Code, k int) ([]ranked, error) {
	order := make([]ranked, len(codes))
	for i, c := range codes {
		distance, err := gallery.Distance(probe, c)
		if err != nil {
			return nil, fmt.Errorf("compare: %w", err)
		}
		order[i] = ranked{index: i, distance: distance}
	}
	slices.SortStableFunc(order, func(a, b ranked) int { return cmp.Compare(a.distance, b.distance) })
	return order[:min(k, len(order))], nil
}

// sameModel refuses faces that cannot be compared with templates of a model and its networks.
func sameModel(model, networks string, found ...detectionRecord) error {
	for _, d := range found {
		switch {
		case d.Model != model:
			return badArgument(
				"recognitionModel incompatible: the face %s was detected with %s, which cannot be compared with %s.",
				d.ID, d.Model, model)
		case d.Networks != networks:
			return badArgument(
				"recognitionModel incompatible: the face %s was detected by the model pack %s, which cannot be "+
					"compared with %s.",
				d.ID, d.Networks, networks)
		}
	}
	return nil
}

// comparable returns the side of a collection that detected faces can be compared with, and its recogniser. It refuses
// faces that were detected with another model or by networks of neither side, and faces that differ among themselves.
func (s *Service) comparable(c collectionRecord, found ...detectionRecord) (collectionRecord, Recogniser, error) {
	if next := c.Migration; next != nil && found[0].Model == next.Model && found[0].Networks == next.Networks {
		c = c.next()
	}
	m, err := s.recogniserOf(c)
	if err != nil {
		return c, nil, err
	}
	return c, m, sameModel(c.Model, c.Networks, found...)
}
