package evaluation

import (
	"context"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
)

// Coding is the effect of storing and comparing templates as codes of 16 bits a number: for pairs, the difference of
// distance and confidence from those of the networks' original templates. All other figures are of codes.
type Coding struct {
	Pairs      int     `json:"pairs"`      // every compared pair or, of very many, an even sample
	Distance   float64 `json:"distance"`   // the largest change of the distance of a pair
	Confidence float64 `json:"confidence"` // the largest change of the confidence of a pair
	// of the pairs, those whose confidence changes in five decimals, truncated as clients see it
	Moved Proportion `json:"moved"`
}

// mostCoded is about the largest number of pairs that Coding compares.
const mostCoded = 100_000_000

// coding compares codes with templates on the pairs that compare compares.
func (d *distances) coding(ctx context.Context, scale Scale) (Coding, error) {
	var pairs func(row int, each func(a, b int32)) // of one row
	rows := len(d.usable)
	if d.set.Pairs != nil {
		rows = len(d.set.Pairs)
		pairs = func(row int, each func(a, b int32)) {
			if a, b := int32(d.set.Pairs[row][0]), int32(d.set.Pairs[row][1]); d.seen[a].template != nil &&
				d.seen[b].template != nil {
				each(a, b)
			}
		}
	} else {
		pairs = func(row int, each func(a, b int32)) {
			for _, b := range d.usable[:row] {
				each(d.usable[row], b)
			}
		}
	}
	step := 1
	if d.set.Pairs == nil {
		step += rows * (rows - 1) / 2 / mostCoded
	}
	var next atomic.Int64
	var mu sync.Mutex
	var workers sync.WaitGroup
	var all Coding // guarded by mu
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			var c Coding
			for ctx.Err() == nil {
				row := (int(next.Add(1)) - 1) * step
				if row >= rows {
					break
				}
				pairs(row, func(a, b int32) { c.add(scale, &d.seen[a], &d.seen[b]) })
			}
			mu.Lock()
			defer mu.Unlock()
			all.Pairs, all.Moved.Count = all.Pairs+c.Pairs, all.Moved.Count+c.Moved.Count
			all.Distance, all.Confidence = max(all.Distance, c.Distance), max(all.Confidence, c.Confidence)
		})
	}
	workers.Wait()
	if ctx.Err() != nil {
		return Coding{}, context.Cause(ctx)
	}
	all.Moved = wilson(all.Moved.Count, all.Pairs)
	return all, nil
}

func (c *Coding) add(scale Scale, a, b *sighting) {
	made, coded := away(a.made, b.made), away(a.template, b.template)
	before, after := scale.Confidence(made), scale.Confidence(coded)
	c.Pairs++
	c.Distance = max(c.Distance, math.Abs(made-coded))
	c.Confidence = max(c.Confidence, math.Abs(before-after))
	if math.Floor(before*1e5) != math.Floor(after*1e5) {
		c.Moved.Count++
	}
}

// away returns the cosine distance of two vectors of unit length as the service computes it: the score is rounded to
// float32.
func away(a, b []float32) float64 {
	sum := 0.0
	for i, x := range a {
		sum += float64(x) * float64(b[i])
	}
	return float64(min(max(1-float32(sum), 0), 2))
}
