package evaluation

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/visage-face/visage/vision/pack"
)

// halfRate is the rate of false accepts that a confidence of one half stands for.
const halfRate = 1e-3

// ladder are the rates of false accepts that a calibration has rows for, as far down as they can be counted.
var ladder = []float64{
	1e-7, 3e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 0.3, 0.5, 0.9,
}

// Calibrate counts how often strangers come how near, over all and by group, and makes a calibration of it.
func (f *Faces) Calibrate(ctx context.Context) (*pack.Calibration, error) {
	d, err := f.compare(ctx)
	if err != nil {
		return nil, err
	}
	return d.calibrate()
}

func (d *distances) calibrate() (*pack.Calibration, error) {
	everybody, drawn := d.everybody(), d.draw()
	if d.strangers == 0 {
		return nil, errors.New("there is nobody to compare: it takes faces of at least two people")
	}
	if float64(d.strangers)*halfRate < leastCounted {
		return nil, fmt.Errorf("%d pairs of strangers are too few to count one in 1,000 of them: it takes %.0f pairs, "+
			"such as those of %.0f people with a photo each", d.strangers, leastCounted/halfRate,
			math.Ceil(math.Sqrt(2*leastCounted/halfRate))+1)
	}
	c := &pack.Calibration{Pairs: d.strangers, Photos: len(d.usable)}
	for _, n := range everybody.photos {
		if n > 0 {
			c.People++
		}
	}
	c.Rates = d.count(everybody, d.genuine, drawn)
	for k, g := range d.groups {
		some := d.within(k)
		var genuine []pair
		for _, p := range d.genuine {
			if d.masks[p.a]&d.masks[p.b]&(1<<k) != 0 {
				genuine = append(genuine, p)
			}
		}
		counted := pack.Group{
			Grouping: g.grouping, Name: g.name, Pairs: some.all, Genuine: len(genuine), Rates: d.count(some, genuine, drawn),
		}
		for _, n := range some.photos {
			if n > 0 {
				counted.People++
				counted.Photos += int(n)
			}
		}
		c.Groups = append(c.Groups, counted)
	}
	c.Worst = worst(c)
	least := c.Rates[0].FalseAccepts
	c.Method = fmt.Sprintf("Counted on all %d pairs of strangers, of %d people on %d photos, down to a rate of %.1g. "+
		"Intervals are of 95 %%, from drawing the people anew %d times.", c.Pairs, c.People, c.Photos, least, rounds)
	return c, nil
}

// count makes a crowd's table: the distance for each rate that at least leastCounted pairs stand behind.
func (d *distances) count(c *crowd, genuine []pair, drawn draws) []pack.Rate {
	var rows []pack.Rate
	var distances []float64
	last := 0.0
	for _, rate := range ladder {
		allowed := int(math.Round(rate * float64(c.all)))
		distance, known := c.distance(allowed)
		// Five decimals, downwards: no more are nearer than the rate says.
		distance = math.Floor(distance*1e5) / 1e5
		if allowed < leastCounted || !known || distance <= last || distance >= 2 {
			continue
		}
		last = distance
		n, _ := c.below(distance)
		true, _ := slices.BinarySearchFunc(genuine, distance, func(p pair, d float64) int {
			if float64(p.distance) < d {
				return -1
			}
			return 1
		})
		row := pack.Rate{Distance: distance, FalseAccepts: rate, Counted: n}
		if len(genuine) > 0 {
			row.TrueAccepts = round(float64(true)/float64(len(genuine)), 4)
		}
		rows, distances = append(rows, row), append(distances, distance)
	}
	for i, spread := range c.rates(distances, drawn) {
		// Beyond the nearest pairs, there is nothing to draw from; so many pairs are no longer uncertain.
		if distances[i] <= float64(c.near[len(c.near)-1].distance) {
			low, high := middle(spread)
			rows[i].Low, rows[i].High = round(low, 8), round(high, 8)
		}
	}
	return rows
}

// round keeps some decimals.
func round(v float64, decimals int) float64 {
	scale := math.Pow10(decimals)
	return math.Round(v*scale) / scale
}

// worst returns the table that confidence goes by: that of the group whose pairs are nearest where one in 1,000 is
// accepted. Where the group has too few pairs to count, the table over all pairs goes on with it, moved by as much as
// the two differ at the last rate that both have.
func worst(c *pack.Calibration) *pack.Worst {
	w := &pack.Worst{Grouping: "all", Name: "all pairs", Rates: c.Rates}
	nearest, _ := at(c.Rates, halfRate)
	for _, g := range c.Groups {
		if d, counted := at(g.Rates, halfRate); counted && d < nearest {
			nearest = d
			w = &pack.Worst{Grouping: g.Grouping, Name: g.Name, Rates: extend(g.Rates, c.Rates)}
		}
	}
	return w
}

// at returns the distance of the row with a rate.
func at(rows []pack.Rate, rate float64) (distance float64, found bool) {
	for _, r := range rows {
		if r.FalseAccepts == rate {
			return r.Distance, true
		}
	}
	return 0, false
}

// extend goes on with a group's table below and above what could be counted, by the table over all pairs.
func extend(group, all []pack.Rate) []pack.Rate {
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
