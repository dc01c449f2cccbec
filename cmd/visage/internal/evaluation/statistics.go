package evaluation

import (
	"math"
	"math/rand/v2"
	"slices"
)

// z is the 97.5 % quantile of the normal distribution: intervals here are of 95 %.
const z = 1.959964

// rounds is how often the bootstrap draws the people anew.
const rounds = 500

// wilson returns a share with its score interval (Wilson 1927), which stays sensible near 0 and 1 and for few cases.
func wilson(count, of int) Proportion {
	p := Proportion{Count: count, Of: of}
	if of == 0 {
		p.Value, p.Low, p.High = math.NaN(), 0, 1
		return p
	}
	n := float64(of)
	p.Value = float64(count) / n
	centre := p.Value + z*z/(2*n)
	spread := z * math.Sqrt(p.Value*(1-p.Value)/n+z*z/(4*n*n))
	p.Low = max(0, (centre-spread)/(1+z*z/n))
	p.High = min(1, (centre+spread)/(1+z*z/n))
	if count == of {
		p.High = 1
	}
	if count == 0 {
		p.Low = 0
	}
	return p
}

// rate finds the threshold at which no more than target of the strangers are accepted, and how many genuine pairs are
// then. strangers are sorted by distance. The interval comes from drawing the people anew: pairs that share a person
// are not independent, so counting pairs would promise too much. For a list of pairs, whose makers chose them to be
// independent, the pairs are what is drawn.
func rate(genuine, strangers []pair, people, lost int, target float64, listed bool, r Recogniser) Rate {
	out := Rate{FalseAccepts: target}
	allowed := int(target * float64(len(strangers)))
	if allowed < 1 || len(genuine) == 0 {
		return out
	}
	out.Measurable = true
	out.Threshold = strangers[allowed].distance
	out.Confidence = r.Confidence(out.Threshold)
	accepted := 0
	for _, p := range genuine {
		if p.distance < out.Threshold {
			accepted++
		}
	}
	// The wider of two intervals: the bootstrap knows that pairs depend on each other and that the threshold is
	// uncertain too, but promises certainty when every pair it can draw was accepted.
	out.TrueAccepts = wilson(accepted, len(genuine))
	out.All = float64(accepted) / float64(len(genuine)+lost)
	low, high := bootstrap(genuine, strangers, people, target, listed)
	out.TrueAccepts.Low, out.TrueAccepts.High = min(out.TrueAccepts.Low, low), max(out.TrueAccepts.High, high)
	return out
}

// bootstrap returns the 95 % interval of the true-accept rate at a false-accept rate, threshold and all.
func bootstrap(genuine, strangers []pair, people int, target float64, listed bool) (low, high float64) {
	random := rand.New(rand.NewPCG(3, 4)) // the same draws each time
	var values []float64
	for range rounds {
		var weigh func(p pair) float64
		if listed {
			// Each pair is drawn about as often as by chance alone: Poisson weights with mean 1.
			weigh = func(pair) float64 { return float64(poisson(random)) }
		} else {
			drawn := make([]float64, people)
			for range people {
				drawn[random.IntN(people)]++
			}
			weigh = func(p pair) float64 {
				if p.a == p.b {
					return drawn[p.a]
				}
				return drawn[p.a] * drawn[p.b]
			}
		}
		weights := make([]float64, len(strangers))
		var total float64
		for i, p := range strangers {
			weights[i] = weigh(p)
			total += weights[i]
		}
		allowed, sum, threshold := target*total, 0.0, math.Inf(1)
		for i, p := range strangers {
			if sum += weights[i]; sum > allowed {
				threshold = p.distance
				break
			}
		}
		var accepted, of float64
		for _, p := range genuine {
			w := weigh(p)
			of += w
			if p.distance < threshold {
				accepted += w
			}
		}
		if of > 0 && total > 0 {
			values = append(values, accepted/of)
		}
	}
	if len(values) == 0 {
		return 0, 1
	}
	slices.Sort(values)
	return values[int(0.025*float64(len(values)))], values[min(len(values)-1, int(0.975*float64(len(values))))]
}

// poisson draws a number with mean 1 (Knuth's method).
func poisson(random *rand.Rand) int {
	limit, product, n := math.Exp(-1), random.Float64(), 0
	for product > limit {
		product *= random.Float64()
		n++
	}
	return n
}

// curve returns the true-accept rate at false-accept rates from one pair to all, evenly spaced by their logarithm.
// strangers are sorted.
func curve(genuine, strangers []pair) []Point {
	if len(genuine) == 0 || len(strangers) == 0 {
		return nil
	}
	near := make([]float64, len(genuine))
	for i, p := range genuine {
		near[i] = p.distance
	}
	slices.Sort(near)
	const steps = 120
	least := math.Log(1 / float64(len(strangers)))
	var points []Point
	last := 0
	for i := range steps + 1 {
		accepted := int(math.Round(math.Exp(least*(1-float64(i)/steps)) * float64(len(strangers))))
		if accepted == last || accepted < 1 {
			continue
		}
		last = accepted
		threshold := math.Inf(1)
		if accepted < len(strangers) {
			threshold = strangers[accepted].distance
		}
		k, _ := slices.BinarySearch(near, threshold)
		points = append(points, Point{float64(accepted) / float64(len(strangers)), float64(k) / float64(len(near))})
	}
	return points
}
