package evaluation

import "math"

// Accuracy is the share of pairs of a list that are decided correctly, by the protocol of LFW: each part of the list is
// judged at the threshold that is best for the other parts. Pairs that could not be compared count as refused.
type Accuracy struct {
	Folds int     `json:"folds"`
	Mean  float64 `json:"mean"`
	// Error is the standard error of the mean over the folds.
	Error float64 `json:"error"`
}

// judged is a pair of the list: whether it is of one person, and its distance, 3 when it could not be compared.
type judged struct {
	same     bool
	distance float64
}

// accuracy returns nil when the list is not divided into parts of equal size.
func (d *distances) accuracy() *Accuracy {
	folds, n := d.set.Folds, len(d.set.Pairs)
	if folds < 2 || n%folds != 0 {
		return nil
	}
	pairs := make([]judged, n)
	for i, p := range d.set.Pairs {
		pairs[i] = judged{d.person[p[0]] == d.person[p[1]], 3}
		if a, b := d.seen[p[0]].template, d.seen[p[1]].template; a != nil && b != nil {
			pairs[i].distance = float64(1 - dot(a, b))
		}
	}
	a := &Accuracy{Folds: folds}
	size := n / folds
	var shares []float64
	for k := range folds {
		part := pairs[k*size : (k+1)*size]
		threshold := bestThreshold(pairs[:k*size], pairs[(k+1)*size:])
		right := 0
		for _, p := range part {
			if p.same == (p.distance < threshold) {
				right++
			}
		}
		shares = append(shares, float64(right)/float64(size))
		a.Mean += shares[k] / float64(folds)
	}
	for _, s := range shares {
		a.Error += (s - a.Mean) * (s - a.Mean) / float64(folds-1)
	}
	a.Error = math.Sqrt(a.Error / float64(folds))
	return a
}

// bestThreshold returns the distance, in steps of 0.001, at which most pairs are decided correctly.
func bestThreshold(parts ...[]judged) float64 {
	const steps = 2000
	var change [steps + 2]int // by threshold: how many more are decided correctly than at the one before
	for _, part := range parts {
		for _, p := range part {
			if p.distance > 2 {
				continue
			}
			// A pair is accepted at every threshold above its distance.
			at := int(max(0, p.distance)*steps/2) + 1
			if p.same {
				change[at]++
			} else {
				change[at]--
			}
		}
	}
	best, most, sum := 0, 0, 0
	for i, n := range change {
		if sum += n; sum > most {
			best, most = i, sum
		}
	}
	return float64(best) * 2 / steps
}
