package evaluation

import "math"

// z is the 97.5 % quantile of the normal distribution: intervals here are 95 % intervals.
const z = 1.959964

// wilson returns a share with its score interval (Wilson 1927), which stays valid near 0 and 1 and for few cases.
func wilson(count, of int) Proportion {
	p := Proportion{Count: count, Of: of}
	if of == 0 {
		p.High = 1
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
