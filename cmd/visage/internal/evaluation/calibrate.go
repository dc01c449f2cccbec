package evaluation

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/visage-face/visage/vision/pack"
)

// halfRate is the rate of false accepts at a confidence of one half.
const halfRate = 1e-3

// ladder is the rates of false accepts of a calibration's rows, as far down as they can be counted.
var ladder = []float64{
	1e-7, 3e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 0.3, 0.5, 0.9,
}

// ErrTooFew says that a set has too few people for a calibration.
var ErrTooFew = errors.New("too few people")

// Calibrate counts the distances of strangers, over all people and by group, and makes a calibration from them.
func (f *Faces) Calibrate(ctx context.Context) (*pack.Calibration, error) {
	d, err := f.compare(ctx)
	if err != nil {
		return nil, err
	}
	return d.calibrate()
}

func (d *distances) calibrate() (*pack.Calibration, error) {
	if d.strangers == 0 {
		return nil, fmt.Errorf("%w: faces of at least two people are required", ErrTooFew)
	}
	if float64(d.strangers)*halfRate < leastCounted {
		return nil, fmt.Errorf("%w to count one in 1,000 of them, %d pairs of strangers: it takes %.0f pairs, "+
			"such as those of %.0f people with a photo each", ErrTooFew, d.strangers, leastCounted/halfRate,
			math.Ceil(math.Sqrt(2*leastCounted/halfRate))+1)
	}
	labelled := d.strangers
	d = d.withoutDoubts()
	everybody, drawn := d.everybody(), d.draw()
	c := &pack.Calibration{Pairs: d.strangers, Photos: len(d.usable)}
	for _, n := range everybody.photos {
		if n > 0 {
			c.People++
		}
	}
	c.Rates = d.count(everybody, d.genuine, drawn)
	if _, counted := at(c.Rates, halfRate); !counted {
		return nil, errors.New("one in 1,000 pairs of strangers are at no distance from one another: " +
			"look for the same photos in the folders of two people")
	}
	c.Worst = &pack.Worst{Grouping: "all", Name: "all pairs", Rates: c.Rates}
	for k, g := range d.groups {
		some, genuine := d.within(k), d.genuineWithin(k)
		counted := pack.Group{
			Grouping: g.grouping, Name: g.name, Pairs: some.all, Genuine: len(genuine),
			Rates: d.count(some, genuine, drawn),
		}
		for _, n := range some.photos {
			if n > 0 {
				counted.People++
				counted.Photos += int(n)
			}
		}
		c.Groups = append(c.Groups, counted)
		cautious := extend(some.cautious(counted.Rates, drawn), c.Rates)
		if distance, known := at(cautious, halfRate); known {
			if nearest, _ := at(c.Worst.Rates, halfRate); distance < nearest {
				c.Worst = &pack.Worst{Grouping: g.grouping, Name: g.name, Rates: cautious}
			}
		}
	}
	half := distanceOf(c, 0.5)
	c.Half = atDistance(everybody, d.genuine, half, drawn)
	for k := range d.groups {
		c.Groups[k].Half = atDistance(d.within(k), d.genuineWithin(k), half, drawn)
	}
	c.Method = fmt.Sprintf("Every photo was compared with every other; rates are counted down to %.0e. "+
		"Intervals are of 95 %%, from drawing the people anew %d times.", c.Rates[0].FalseAccepts, rounds)
	if n := labelled - d.strangers; n > 0 {
		c.Method += fmt.Sprintf(" %d pairs were left out: they are nearer than half of all pairs of one person, "+
			"and so most likely one person under two names.", n)
	}
	return c, nil
}

// mostDoubts is the share of the pairs of strangers that may be left out.
const mostDoubts = 5e-6

// withoutDoubts leaves out pairs of strangers that most likely show one person: nearer than half of all pairs of one
// person. Every public set has some people under two names, and they would make up all of the lowest rates. If more
// pairs than mostDoubts are that near, the network does not separate people well enough to judge the labels; then all
// pairs are kept.
func (d *distances) withoutDoubts() *distances {
	if len(d.genuine) == 0 {
		return d
	}
	doubtful := acceptedOf(d.near, float64(d.genuine[len(d.genuine)/2].distance))
	if doubtful == 0 || float64(doubtful) > max(1, mostDoubts*float64(d.strangers)) {
		return d
	}
	clean := *d
	clean.near, clean.histogram = d.near[doubtful:], slices.Clone(d.histogram)
	clean.strangers -= doubtful
	for _, p := range d.near[:doubtful] {
		clean.histogram[bin(p.distance)]--
	}
	return &clean
}

// caution is the share of the bootstrap's rounds in which a group is nearer than its table says. The table is applied
// to other people of the group, and few were counted.
const caution = 0.25

// cautious returns a group's table with distances from the near side of the bootstrap's rounds.
func (c *crowd) cautious(rates []pack.Rate, drawn draws) []pack.Rate {
	var rising []float64
	for _, r := range rates {
		rising = append(rising, r.FalseAccepts)
	}
	var rows []pack.Rate
	var distances []float64
	last := 0.0
	for i, values := range c.thresholds(rising, drawn) {
		values = slices.DeleteFunc(values, math.IsNaN)
		if len(values) == 0 {
			continue
		}
		slices.Sort(values)
		distance := min(rates[i].Distance, math.Floor(values[int(caution*float64(len(values)))]*1e5)/1e5)
		if distance <= last {
			continue
		}
		last = distance
		n, _ := c.below(distance)
		rows = append(rows, pack.Rate{Distance: distance, FalseAccepts: rates[i].FalseAccepts, Counted: n})
		distances = append(distances, distance)
	}
	for i, values := range c.rates(distances, drawn) {
		low, high := middle(values)
		rows[i].Low, rows[i].High = round(low, 8), round(high, 8)
	}
	return rows
}

// genuineWithin returns the pairs of one person with both photos in a group, nearest first.
func (d *distances) genuineWithin(group int) []pair {
	var some []pair
	for _, p := range d.genuine {
		if d.masks[p.a]&d.masks[p.b]&(1<<group) != 0 {
			some = append(some, p)
		}
	}
	return some
}

// atDistance counts the accepted pairs of a crowd, and of one person, at a distance.
func atDistance(c *crowd, genuine []pair, distance float64, drawn draws) *pack.Rate {
	p := c.rate(distance, drawn)
	r := &pack.Rate{
		Distance: round(distance, 6), FalseAccepts: round(p.Value, 9), Counted: p.Count,
		Low: round(p.Low, 9), High: round(p.High, 9),
	}
	if len(genuine) > 0 {
		r.TrueAccepts = round(float64(acceptedOf(genuine, distance))/float64(len(genuine)), 4)
	}
	return r
}

// count makes a crowd's table: the distance for each rate with at least leastCounted pairs.
func (d *distances) count(c *crowd, genuine []pair, drawn draws) []pack.Rate {
	var rows []pack.Rate
	var distances []float64
	last := 0.0
	for _, rate := range ladder {
		allowed := int(math.Round(rate * float64(c.all)))
		distance, known := c.distance(allowed)
		// Five decimals, rounded down: no more pairs are nearer than the rate says.
		distance = math.Floor(distance*1e5) / 1e5
		if allowed < leastCounted || !known || distance <= last || distance >= 2 {
			continue
		}
		last = distance
		n, _ := c.below(distance)
		row := pack.Rate{Distance: distance, FalseAccepts: rate, Counted: n}
		if len(genuine) > 0 {
			row.TrueAccepts = round(float64(acceptedOf(genuine, distance))/float64(len(genuine)), 4)
		}
		rows, distances = append(rows, row), append(distances, distance)
	}
	for i, spread := range c.rates(distances, drawn) {
		// Beyond the nearest pairs the bootstrap has no data; rates of that many pairs are no longer uncertain.
		if distances[i] <= float64(c.near[len(c.near)-1].distance) {
			low, high := middle(spread)
			rows[i].Low, rows[i].High = round(low, 8), round(high, 8)
		}
	}
	return rows
}

// round rounds to some decimals.
func round(v float64, decimals int) float64 {
	scale := math.Pow10(decimals)
	return math.Round(v*scale) / scale
}

// leastExtended is the rate down to which a group must be counted for its table to be extended below: one decade above
// that of a confidence of one half.
const leastExtended = 1e-2

// at returns the distance of the row with a rate.
func at(rows []pack.Rate, rate float64) (distance float64, found bool) {
	for _, r := range rows {
		if r.FalseAccepts == rate {
			return r.Distance, true
		}
	}
	return 0, false
}

// extend extends a group's table below and above the counted rates by the table over all pairs, shifted by the
// difference at the last rate that both have. It returns nil for a group too small to be counted at all.
func extend(group, all []pack.Rate) []pack.Rate {
	if len(group) == 0 || group[0].FalseAccepts > leastExtended {
		return nil
	}
	first, last := group[0], group[len(group)-1]
	below, _ := at(all, first.FalseAccepts)
	above, _ := at(all, last.FalseAccepts)
	var rates []pack.Rate
	for _, r := range all {
		moved := pack.Rate{FalseAccepts: r.FalseAccepts}
		switch {
		case r.FalseAccepts < first.FalseAccepts:
			moved.Distance = round(r.Distance-below+first.Distance, 5)
		case r.FalseAccepts > last.FalseAccepts:
			moved.Distance = round(r.Distance-above+last.Distance, 5)
		default:
			continue
		}
		if moved.Distance > 0 {
			rates = append(rates, moved)
		}
	}
	rates = append(rates, group...)
	slices.SortFunc(rates, func(a, b pack.Rate) int {
		if a.FalseAccepts < b.FalseAccepts {
			return -1
		}
		return 1
	})
	return rates
}
