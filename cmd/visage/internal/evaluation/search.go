package evaluation

import (
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// Search is the result of open-set identification: searches in a group for people of whom not all are enrolled.
//
// People with at least two usable photos are enrolled, by their first photo; their other photos are the mates. People
// with one usable photo are strangers to the group: their photos are the non-mates. A search finds a mate when the
// nearest enrolled face is of the same person and below the threshold; it raises a false alarm when any face is below
// the threshold for a non-mate.
type Search struct {
	Enrolled int `json:"enrolled"`
	Mates    int `json:"mates"`
	NonMates int `json:"nonMates"`
	// Rates are the mates found at some rates of false alarms, the largest first.
	Rates []Identification `json:"rates"`
	// Sizes are the results for groups of some sizes.
	Sizes []Crowd `json:"sizes"`
}

// Identification is the share of mates found at a rate of false alarms.
type Identification struct {
	FalseAlarms float64    `json:"falseAlarms"` // the target rate
	Measurable  bool       `json:"measurable"`  // false: too few non-mates; nothing below is set
	Threshold   float64    `json:"threshold"`   // distance
	Confidence  float64    `json:"confidence"`
	Found       Proportion `json:"found"`
}

// Crowd is the results of searches in groups of one size.
type Crowd struct {
	Faces int `json:"faces"`
	// AtHalf is the outcome at a confidence of one half, AtDefault that at the default threshold of identify, whose
	// confidence is Default.
	AtHalf    Outcome `json:"atHalf"`
	AtDefault Outcome `json:"atDefault"`
	Default   float64 `json:"default"`
}

// Outcome is the share of searches for strangers with a false alarm, and of mates found.
type Outcome struct {
	FalseAlarms Proportion `json:"falseAlarms"`
	Found       Proportion `json:"found"`
}

// alarms are the reported rates of false alarms, sizes the reported sizes of groups.
var (
	alarms = []float64{1e-2, 1e-3}
	sizes  = []int{10, 100, 1000, 10_000}
)

// searched is the outcome of one search: the distance of the nearest enrolled face, and whether it is the right one.
type searched struct {
	person   int32
	distance float32
	right    bool
}

// search runs searches for every mate and non-mate, in the largest group and in smaller ones.
func (d *distances) search(ctx context.Context, scale Scale, drawn draws) (*Search, error) {
	photos := make([][]int32, d.people)
	for _, i := range d.usable {
		photos[d.person[i]] = append(photos[d.person[i]], i)
	}
	var enrolled, mates, nonMates []int32
	for _, p := range photos {
		switch {
		case len(p) == 1:
			nonMates = append(nonMates, p[0])
		case len(p) > 1:
			enrolled, mates = append(enrolled, p[0]), append(mates, p[1:]...)
		}
	}
	s := &Search{Enrolled: len(enrolled), Mates: len(mates), NonMates: len(nonMates), Sizes: []Crowd{}}
	games := []game{{of: enrolled}}
	for _, n := range sizes {
		if n >= len(enrolled) {
			break
		}
		random := rand.New(rand.NewPCG(11, uint64(n))) // the same groups each time
		for range max(1, min(50, 2000/n)) {
			some := slices.Clone(enrolled)
			random.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
			games = append(games, game{of: some[:n]})
		}
	}
	if err := d.play(ctx, games, mates, nonMates); err != nil {
		return nil, err
	}
	s.Rates = identifications(&games[0], scale, drawn)
	for len(games) > 1 {
		n := len(games[1].of)
		same := 1
		for same < len(games) && len(games[same].of) == n {
			same++
		}
		s.Sizes = append(s.Sizes, crowdOf(n, games[1:same], scale))
		games = slices.Delete(games, 1, same)
	}
	if len(enrolled) > 0 {
		s.Sizes = append(s.Sizes, crowdOf(len(enrolled), games, scale))
	}
	return s, nil
}

// game is a group of enrolled photos, and the results of searches in it.
type game struct {
	of              []int32
	mates, nonMates []searched
}

// play searches for every probe in every group; for mates only where their person is enrolled.
func (d *distances) play(ctx context.Context, games []game, mates, nonMates []int32) error {
	in := make([][]bool, len(games)) // by game and person
	var all []int32                  // the enrolled people of all groups
	for g := range games {
		in[g] = make([]bool, d.people)
		for _, i := range games[g].of {
			in[g][d.person[i]] = true
		}
		all = append(all, games[g].of...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	probes := slices.Concat(mates, nonMates)
	found := make([][]searched, len(probes)) // by probe and game
	var next atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			away := make([]float32, len(d.seen))
			for ctx.Err() == nil {
				k := int(next.Add(1)) - 1
				if k >= len(probes) {
					return
				}
				probe := probes[k]
				for _, i := range all {
					away[i] = 1 - dot(d.seen[probe].template, d.seen[i].template)
				}
				found[k] = make([]searched, len(games))
				for g := range games {
					best := searched{person: d.person[probe], distance: 3}
					for _, i := range games[g].of {
						if away[i] < best.distance {
							best.distance, best.right = away[i], d.person[i] == d.person[probe]
						}
					}
					found[k][g] = best
				}
			}
		})
	}
	workers.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for g := range games {
		for k, probe := range probes {
			if k >= len(mates) {
				games[g].nonMates = append(games[g].nonMates, found[k][g])
			} else if in[g][d.person[probe]] {
				games[g].mates = append(games[g].mates, found[k][g])
			}
		}
	}
	return nil
}

// identifications finds, for each rate of false alarms, the threshold and the mates found.
func identifications(g *game, scale Scale, drawn draws) []Identification {
	var all []Identification
	for _, target := range alarms {
		one := Identification{FalseAlarms: target}
		allowed := int(target * float64(len(g.nonMates)))
		if allowed >= 1 && len(g.mates) > 0 {
			one.Measurable = true
			ones := make([]uint8, len(drawn[0]))
			for i := range ones {
				ones[i] = 1
			}
			threshold, found := g.found(target, ones)
			one.Threshold, one.Confidence = threshold, scale.Confidence(threshold)
			one.Found = wilson(int(math.Round(found*float64(len(g.mates)))), len(g.mates))
			values := make(interval, len(drawn))
			drawn.each(func(round int, weights []uint8) { _, values[round] = g.found(target, weights) })
			one.Found.Low, one.Found.High = values.spread(one.Found)
		}
		all = append(all, one)
	}
	return all
}

// found returns the distance at which a share of the non-mates raise false alarms, and the share of the mates found
// there, with people weighted by how often they were drawn.
func (g *game) found(target float64, drawn []uint8) (threshold, found float64) {
	nearest := slices.SortedFunc(slices.Values(g.nonMates), func(a, b searched) int {
		if a.distance < b.distance {
			return -1
		}
		return 1
	})
	var all, sum float64
	for _, s := range nearest {
		all += float64(drawn[s.person])
	}
	threshold = 2
	for _, s := range nearest {
		if sum += float64(drawn[s.person]); sum > target*all {
			threshold = float64(s.distance)
			break
		}
	}
	var right, of float64
	for _, s := range g.mates {
		of += float64(drawn[s.person])
		if s.right && float64(s.distance) < threshold {
			right += float64(drawn[s.person])
		}
	}
	if of == 0 || all == 0 {
		return threshold, math.NaN()
	}
	return threshold, right / of
}

// crowdOf adds up the results of groups of one size.
func crowdOf(faces int, games []game, scale Scale) Crowd {
	c := Crowd{Faces: faces, Default: scale.Threshold(faces)}
	outcome := func(distance float64) Outcome {
		var alarms, strangers, right, mates int
		for g := range games {
			for _, s := range games[g].nonMates {
				strangers++
				if float64(s.distance) < distance {
					alarms++
				}
			}
			for _, s := range games[g].mates {
				mates++
				if s.right && float64(s.distance) < distance {
					right++
				}
			}
		}
		return Outcome{wilson(alarms, strangers), wilson(right, mates)}
	}
	c.AtHalf, c.AtDefault = outcome(distanceOf(scale, 0.5)), outcome(distanceOf(scale, c.Default))
	return c
}

// crowded takes one photo of each person in a group, and searches for each among all the others, so that every match is
// a false alarm.
func (d *distances) crowded(k int, scale Scale) Crowd {
	bit := uint64(1) << k
	var first []int32
	taken := make([]bool, d.people)
	for _, i := range d.usable {
		if d.masks[i]&bit != 0 && !taken[d.person[i]] {
			taken[d.person[i]] = true
			first = append(first, i)
		}
	}
	nearest := slices.Repeat([]float32{3}, len(first))
	for a := range first {
		for b := range a {
			away := 1 - dot(d.seen[first[a]].template, d.seen[first[b]].template)
			nearest[a], nearest[b] = min(nearest[a], away), min(nearest[b], away)
		}
	}
	c := Crowd{Faces: len(first) - 1}
	c.Default = scale.Threshold(c.Faces)
	alarms := func(distance float64) Outcome {
		n := 0
		for _, away := range nearest {
			if float64(away) < distance {
				n++
			}
		}
		return Outcome{FalseAlarms: wilson(n, len(nearest))}
	}
	c.AtHalf, c.AtDefault = alarms(distanceOf(scale, 0.5)), alarms(distanceOf(scale, c.Default))
	return c
}
