package evaluation

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
)

// rounds is the number of rounds of the bootstrap.
const rounds = 500

// draws are bootstrap samples of the people with a face, drawn with replacement: by round and person, how often each
// was drawn. People are drawn rather than pairs, because pairs that share a person are not independent.
type draws [][]uint8

// draw draws the people who have a usable face. The draws are the same each time.
func (f *Faces) draw() draws {
	var present []int32
	seen := make([]bool, f.people)
	for _, i := range f.usable {
		if n := f.person[i]; !seen[n] {
			seen[n] = true
			present = append(present, n)
		}
	}
	all := make(draws, rounds)
	for r := range all {
		random := rand.New(rand.NewPCG(3, uint64(r)))
		all[r] = make([]uint8, f.people)
		for range present {
			all[r][present[random.IntN(len(present))]]++
		}
	}
	return all
}

// each calls do for every round, several at the same time.
func (d draws) each(do func(round int, drawn []uint8)) {
	var workers sync.WaitGroup
	n := runtime.GOMAXPROCS(0)
	for k := range n {
		workers.Go(func() {
			for r := k; r < len(d); r += n {
				do(r, d[r])
			}
		})
	}
	workers.Wait()
}

// middle returns the range of the middle 95 % of the values. NaN are left out.
func middle(values []float64) (low, high float64) {
	values = slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	if len(values) == 0 {
		return 0, 1
	}
	slices.Sort(values)
	n := float64(len(values))
	return values[int(0.025*n)], values[min(len(values)-1, int(0.975*n))]
}

// crowd is a set of pairs of strangers whose rates are computed: all pairs, or those within a group.
type crowd struct {
	of *distances
	// near are the nearest pairs, nearest first; all is how many there are, nearer or not.
	near []pair
	all  int
	// photos is, by person, the number of usable photos.
	photos []int32
	// listed says that the pairs are a list, whose makers chose them to be independent: then pairs are drawn, not
	// people.
	listed bool
}

// everybody returns all pairs of strangers.
func (d *distances) everybody() *crowd {
	c := &crowd{of: d, near: d.near, all: d.strangers, photos: make([]int32, d.people), listed: d.set.Pairs != nil}
	for _, i := range d.usable {
		c.photos[d.person[i]]++
	}
	return c
}

// within returns the pairs of strangers with both photos in a group.
func (d *distances) within(group int) *crowd {
	bit := uint64(1) << group
	c := &crowd{of: d, photos: make([]int32, d.people)}
	for _, i := range d.usable {
		if d.masks[i]&bit != 0 {
			c.photos[d.person[i]]++
		}
	}
	var sum, squares int
	for _, n := range c.photos {
		sum += int(n)
		squares += int(n) * int(n)
	}
	c.all = (sum*sum - squares) / 2
	for _, p := range d.near {
		if d.masks[p.a]&d.masks[p.b]&bit != 0 {
			c.near = append(c.near, p)
		}
	}
	return c
}

// distance returns the distance with that many pairs below it, and whether it is known.
func (c *crowd) distance(pairs int) (float64, bool) {
	if pairs < len(c.near) {
		return float64(c.near[pairs].distance), true
	}
	if c.near != nil && len(c.near) == len(c.of.near) { // all pairs: the histogram has the rest
		sum := 0
		for b, n := range c.of.histogram {
			if sum += int(n); sum > pairs {
				return float64(b) / (bins / 2), true
			}
		}
	}
	return 0, false
}

// below counts the pairs nearer than a distance. known is false if the distance is beyond the kept pairs.
func (c *crowd) below(distance float64) (pairs int, known bool) {
	k := acceptedOf(c.near, distance)
	if k < len(c.near) || len(c.near) == c.all {
		return k, true
	}
	if c.near != nil && len(c.near) == len(c.of.near) {
		sum := 0
		for b, n := range c.of.histogram {
			if float64(b+1)/(bins/2) > distance {
				break
			}
			sum += int(n)
		}
		return max(k, sum), true
	}
	return k, false
}

// rate returns the share of the pairs nearer than a distance, with its bootstrap interval.
func (c *crowd) rate(distance float64, d draws) Proportion {
	n, _ := c.below(distance)
	p := wilson(n, c.all)
	p.Low, p.High = c.rates([]float64{distance}, d)[0].spread(p)
	return p
}

// interval is the values of a figure in the rounds of the bootstrap.
type interval []float64

// spread returns the wider of two 95 % intervals: that of the rounds, and that of a proportion, since the bootstrap's
// interval is empty when the sample has no errors.
func (i interval) spread(p Proportion) (low, high float64) {
	low, high = middle(i)
	return min(p.Low, low), max(p.High, high)
}

// rates returns, for each of some rising distances, the share of the pairs nearer than it, by round.
func (c *crowd) rates(distances []float64, d draws) []interval {
	all := make([]interval, len(distances))
	for i := range all {
		all[i] = make(interval, len(d))
	}
	d.each(func(round int, drawn []uint8) {
		drawn = c.drawn(round, drawn)
		total := c.weight(drawn)
		sum, next := 0.0, 0
		for i := 0; next < len(distances); {
			if i == len(c.near) || float64(c.near[i].distance) >= distances[next] {
				all[next][round] = sum / total
				next++
				continue
			}
			sum += c.pairWeight(i, drawn)
			i++
		}
	})
	return all
}

// thresholds returns, for each of some rising rates, the distance with that share of the pairs below it, by round; NaN
// where it is beyond the kept pairs.
func (c *crowd) thresholds(rates []float64, d draws) []interval {
	all := make([]interval, len(rates))
	for i := range all {
		all[i] = make(interval, len(d))
	}
	d.each(func(round int, drawn []uint8) {
		drawn = c.drawn(round, drawn)
		total := c.weight(drawn)
		sum, next := 0.0, 0
		for i := range c.near {
			sum += c.pairWeight(i, drawn)
			for next < len(rates) && sum > rates[next]*total {
				all[next][round] = float64(c.near[i].distance)
				next++
			}
			if next == len(rates) {
				return
			}
		}
		for ; next < len(rates); next++ {
			all[next][round] = math.NaN()
		}
	})
	return all
}

func (c *crowd) pairWeight(i int, drawn []uint8) float64 {
	if c.listed {
		return float64(drawn[i])
	}
	p := &c.near[i]
	return float64(int(drawn[c.of.person[p.a]]) * int(drawn[c.of.person[p.b]]))
}

// weight is the weight of all pairs together.
func (c *crowd) weight(drawn []uint8) float64 {
	if c.listed {
		sum := 0
		for _, w := range drawn {
			sum += int(w)
		}
		return float64(sum)
	}
	var sum, squares float64
	for n, photos := range c.photos {
		w := float64(drawn[n]) * float64(photos)
		sum += w
		squares += w * w
	}
	return (sum*sum - squares) / 2
}

// drawn returns how often each unit was drawn: people, or the pairs of a list, each of which is drawn as often as a
// Poisson variable of mean 1 says.
func (c *crowd) drawn(round int, people []uint8) []uint8 {
	if !c.listed {
		return people
	}
	random := rand.New(rand.NewPCG(5, uint64(round)))
	drawn := make([]uint8, len(c.near))
	for i := range drawn {
		drawn[i] = poisson(random)
	}
	return drawn
}

// poisson draws a number with mean 1 (Knuth's method).
func poisson(random *rand.Rand) uint8 {
	limit, product, n := math.Exp(-1), random.Float64(), uint8(0)
	for product > limit {
		product *= random.Float64()
		n++
	}
	return n
}
