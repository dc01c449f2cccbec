package pack

import "math"

// leastNear is how many pairs of strangers must have been as near as a distance for its rate to be told: rates of fewer
// pairs are chance.
const leastNear = 10

// Strangers says how rarely two strangers have a confidence or more.
type Strangers struct {
	// Rate is their fraction of all pairs, above 0.
	Rate float64
	// AtMost is set when the measurement does not reach so far: the fraction is Rate or less, nobody knows by how much.
	AtMost bool
}

// OneIn returns n for the sentence "one pair of strangers in n": 1/Rate, rounded down to two digits. The remaining
// rounding of a rate does not show in it.
func (s Strangers) OneIn() int {
	n := math.Floor(1/s.Rate + 1e-6)
	for unit := 1.0; ; unit *= 10 {
		if n < 100*unit {
			return int(math.Floor(n/unit) * unit)
		}
	}
}

// FalseAcceptsAt returns how rarely two strangers of the worst group that was measured have a confidence or more, and
// any two strangers: one and the same where groups were not told apart. Rates that the measurement does not support,
// since they continue a curve beyond the pairs that were counted, are bounded by the lowest that it does.
func (c *Calibration) FalseAcceptsAt(confidence float64) (worst, all Strangers) {
	if c.empty() {
		return Strangers{1, true}, Strangers{1, true} // nothing is known
	}
	distance := c.farthest(confidence)
	all = strangersAt(c.Rates, distance, c.Pairs)
	if c.Worst == nil {
		return all, all
	}
	pairs := c.Pairs
	for _, g := range c.Groups {
		if g.Grouping == c.Worst.Grouping && g.Name == c.Worst.Name {
			pairs = g.Pairs
		}
	}
	return strangersAt(c.Worst.Rates, distance, pairs), all
}

// farthest returns the largest distance with at least a confidence.
func (c *Calibration) farthest(confidence float64) float64 {
	near, far := 0.0, 2.0
	for far-near > 1e-9 { // confidence falls with the distance
		if middle := (near + far) / 2; c.Confidence(middle) >= confidence {
			near = middle
		} else {
			far = middle
		}
	}
	return near
}

// strangersAt returns the rate at a distance of a table that was made from a number of pairs.
func strangersAt(rates []Rate, distance float64, pairs int) Strangers {
	first, last := rates[0], rates[len(rates)-1]
	s := Strangers{Rate: 1, AtMost: true}
	switch {
	case distance < first.Distance:
		s.Rate = first.FalseAccepts
	case distance < last.Distance:
		s = Strangers{Rate: 1 / (1 + math.Exp(-oddsBetween(rates, distance)))}
	}
	const rounding = 1e-6
	if least := lowestSupported(rates, pairs); s.Rate < least*(1+rounding) {
		s = Strangers{Rate: least, AtMost: s.AtMost || s.Rate < least*(1-rounding)}
	}
	return s
}

// lowestSupported returns the lowest rate of a table that enough pairs support: that were counted or, in a table
// without counts, that are to be expected.
func lowestSupported(rates []Rate, pairs int) float64 {
	for _, r := range rates {
		if r.Counted >= leastNear {
			return r.FalseAccepts
		}
	}
	return min(1, leastNear/float64(max(pairs, 1)))
}

// Curve returns the points of a drawing of the calibration: the confidences of its rows, from the highest to the
// lowest.
func (c *Calibration) Curve() []CurvePoint {
	if c.empty() {
		return nil
	}
	var points []CurvePoint
	for _, r := range c.curve() {
		p := CurvePoint{Distance: r.Distance, Confidence: c.Confidence(r.Distance)}
		p.Worst, p.All = c.FalseAcceptsAt(p.Confidence)
		p.TrueAccepts = trueAcceptsAt(c.Rates, r.Distance)
		points = append(points, p)
	}
	return points
}

// CurvePoint is a point of the curve of a calibration.
type CurvePoint struct {
	Distance   float64 // cosine distance, 0 same … 2 opposite
	Confidence float64
	Worst, All Strangers // as FalseAcceptsAt returns them
	// TrueAccepts is the fraction of pairs of one person, at this distance or nearer, rounded down to the row before; 0
	// when that is not known.
	TrueAccepts float64
}

// trueAcceptsAt returns the fraction of pairs of one person of the last row that is not beyond a distance.
func trueAcceptsAt(rates []Rate, distance float64) (fraction float64) {
	for _, r := range rates {
		if r.Distance <= distance {
			fraction = r.TrueAccepts
		}
	}
	return fraction
}
