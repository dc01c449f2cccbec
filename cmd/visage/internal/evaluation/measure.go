package evaluation

import (
	"context"
	"math"
	"slices"
)

// Scale converts distances into confidences. *vision.Pipeline and *pack.Calibration are scales.
type Scale interface {
	// Confidence falls as the distance grows; see vision.Pipeline.
	Confidence(distance float64) float64
	// Threshold is the least confidence for a match in a group of that many faces.
	Threshold(faces int) float64
}

// Result is the result of a measurement. The same photos and pack give the same result.
type Result struct {
	Pack   string `json:"pack"`
	Photos int    `json:"photos"`
	People int    `json:"people"`
	// Undetected are photos without a face, or that cannot be used; Refused are those with a face of which no template
	// could be made. Detection and Templates are the shares of photos that had a face, and a template.
	Undetected []Missed   `json:"undetected"`
	Refused    []Missed   `json:"refused"`
	Detection  Proportion `json:"detection"`
	Templates  Proportion `json:"templates"`
	// Genuine are the compared pairs of one person, Strangers those of two people, and Lost the pairs of one person
	// that could not be compared, because a template is missing.
	Genuine   int `json:"genuine"`
	Strangers int `json:"strangers"`
	Lost      int `json:"lost"`
	// Rates are the true accepts at the Targets of false accepts, the largest first.
	Rates []Rate `json:"rates"`
	// Half is the accepted pairs at a confidence of one half.
	Half Half `json:"half"`
	// EqualError is the threshold at which the rates of false accepts and false rejects are equal.
	EqualError Rate `json:"equalError"`
	// Coding is the effect of storing templates as codes.
	Coding Coding `json:"coding"`
	// RankOne is how often the nearest of all other photos is of the same person.
	RankOne Proportion `json:"rankOne"`
	// Search is nil for a list of pairs, Accuracy for everything else.
	Search   *Search   `json:"search,omitempty"`
	Accuracy *Accuracy `json:"accuracy,omitempty"`
	// Groups are those of at least 20 people, by grouping.
	Groups []Group `json:"groups"`
	// Curve has false accepts rising.
	Curve []Point `json:"curve"`
	// Nearest are the strangers who look most alike, Farthest the photos of one person that look least alike.
	Nearest  []Mistake `json:"nearest"`
	Farthest []Mistake `json:"farthest"`
}

// Missed is a photo without a template.
type Missed struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// Rate is the share of genuine pairs that are accepted at a rate of false accepts.
type Rate struct {
	FalseAccepts float64    `json:"falseAccepts"` // the target rate
	Measurable   bool       `json:"measurable"`   // false: too few pairs for such a rate; nothing below is set
	Threshold    float64    `json:"threshold"`    // pairs nearer than this distance are accepted
	Confidence   float64    `json:"confidence"`   // the pack's, at the threshold
	TrueAccepts  Proportion `json:"trueAccepts"`
	All          float64    `json:"all"` // true accepts when pairs that could not be compared count as refused
}

// Half is the accepted pairs at a confidence of one half.
type Half struct {
	Distance     float64    `json:"distance"`
	FalseAccepts Proportion `json:"falseAccepts"`
	TrueAccepts  Proportion `json:"trueAccepts"`
}

// Proportion is a share with its 95 % confidence interval.
type Proportion struct {
	Count int     `json:"count"`
	Of    int     `json:"of"`
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// Point is a point of the curve of true accepts against false accepts.
type Point struct {
	FalseAccepts float64 `json:"falseAccepts"`
	TrueAccepts  float64 `json:"trueAccepts"`
}

// Mistake is a pair on the wrong side.
type Mistake struct {
	A          string  `json:"a"` // paths
	B          string  `json:"b"`
	Distance   float64 `json:"distance"`
	Confidence float64 `json:"confidence"`
}

// Group is the result for a group of people or photos.
type Group struct {
	Grouping  string `json:"grouping"`
	Name      string `json:"name"`
	Photos    int    `json:"photos"`
	People    int    `json:"people"`
	Strangers int    `json:"strangers"`
	Genuine   int    `json:"genuine"`
	// Half is the accepted pairs of the group at a confidence of one half, FalseAccepts and TrueAccepts those at the
	// thresholds of Result.Rates, in their order.
	Half         Half      `json:"half"`
	FalseAccepts []float64 `json:"falseAccepts"`
	TrueAccepts  []float64 `json:"trueAccepts"`
	// Crowd is a group of one photo of each of these people, and how often a stranger of the same group matches someone
	// in it.
	Crowd Crowd `json:"crowd"`
}

// Targets are the false-accept rates that are reported.
var Targets = []float64{1e-2, 1e-3, 1e-4, 1e-5, 1e-6}

// leastCounted is the number of pairs of strangers below which a rate is not reported.
const leastCounted = 10

// mistakes is how many of each kind are reported.
const mistakes = 20

// Measure compares the faces with one another, and converts distances by a scale.
func (f *Faces) Measure(ctx context.Context, scale Scale) (*Result, error) {
	d, err := f.compare(ctx)
	if err != nil {
		return nil, err
	}
	return d.measure(ctx, scale)
}

func (d *distances) measure(ctx context.Context, scale Scale) (*Result, error) {
	photos := len(d.seen)
	r := &Result{
		Pack: d.pack, Photos: photos, People: d.people, Genuine: len(d.genuine), Strangers: d.strangers, Lost: d.lost,
		Undetected: []Missed{}, Refused: []Missed{}, Groups: []Group{}, Nearest: []Mistake{}, Farthest: []Mistake{},
	}
	for i := range d.seen {
		switch s := &d.seen[i]; {
		case s.template != nil:
		case s.found:
			r.Refused = append(r.Refused, Missed{d.set.Photos[i].Path, s.reason})
		default:
			r.Undetected = append(r.Undetected, Missed{d.set.Photos[i].Path, s.reason})
		}
	}
	r.Detection = wilson(photos-len(r.Undetected), photos)
	r.Templates = wilson(len(d.usable), photos)
	everybody, drawn := d.everybody(), d.draw()
	r.Rates = d.rates(everybody, drawn, scale)
	half := distanceOf(scale, 0.5)
	r.Half = d.atHalf(everybody, func(pair) bool { return true }, half, drawn)
	r.EqualError = d.equalError(everybody, scale)
	r.RankOne = d.rankOne()
	var err error
	if r.Coding, err = d.coding(ctx, scale); err != nil {
		return nil, err
	}
	r.Curve = d.curve(everybody)
	r.Nearest, r.Farthest = d.mistakes(scale)
	if d.set.Pairs != nil {
		r.Accuracy = d.accuracy()
		return r, nil
	}
	if r.Search, err = d.search(ctx, scale, drawn); err != nil {
		return nil, err
	}
	for k := range d.groups {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		r.Groups = append(r.Groups, d.measureGroup(k, scale, half, r.Rates, drawn))
	}
	return r, nil
}

// distanceOf returns the largest distance with at least a confidence.
func distanceOf(scale Scale, confidence float64) float64 {
	near, far := 0.0, 2.0
	for far-near > 1e-9 {
		if middle := (near + far) / 2; scale.Confidence(middle) >= confidence {
			near = middle
		} else {
			far = middle
		}
	}
	return near
}

// rates finds, for each target, the threshold at which no more of the strangers are accepted, and the share of genuine
// pairs that are accepted there.
func (d *distances) rates(c *crowd, drawn draws, scale Scale) []Rate {
	all := make([]Rate, len(Targets))
	var measured []int
	var rising []float64
	for i, target := range slices.Backward(Targets) {
		all[i].FalseAccepts = target
		allowed := int(target * float64(c.all))
		threshold, known := c.distance(allowed)
		if allowed < leastCounted || !known || len(d.genuine) == 0 {
			continue
		}
		measured, rising = append(measured, i), append(rising, target)
		all[i].Measurable, all[i].Threshold, all[i].Confidence = true, threshold, scale.Confidence(threshold)
	}
	thresholds := c.thresholds(rising, drawn)
	for k, i := range measured {
		r := &all[i]
		accepted := d.acceptedBelow(r.Threshold)
		r.TrueAccepts = wilson(accepted, len(d.genuine))
		r.All = float64(accepted) / float64(len(d.genuine)+d.lost)
		// The interval includes the uncertainty of the threshold.
		r.TrueAccepts.Low, r.TrueAccepts.High = d.genuineRates(thresholds[k], c.listed, drawn).spread(r.TrueAccepts)
	}
	return all
}

// acceptedBelow counts the pairs of one person nearer than a distance.
func (d *distances) acceptedBelow(distance float64) int {
	return acceptedOf(d.genuine, distance)
}

// acceptedOf counts the pairs nearer than a distance among sorted pairs.
func acceptedOf(pairs []pair, distance float64) int {
	k, _ := slices.BinarySearchFunc(pairs, distance, func(p pair, d float64) int {
		if float64(p.distance) < d {
			return -1
		}
		return 1
	})
	return k
}

// genuineRates returns, by round, the share of the pairs of one person that are nearer than the round's threshold.
func (d *distances) genuineRates(thresholds interval, listed bool, drawn draws) interval {
	rates := make(interval, len(drawn))
	drawn.each(func(round int, weights []uint8) {
		var accepted, of float64
		pairs := crowd{of: d, near: d.genuine, listed: listed}
		if listed {
			weights = pairs.drawn(len(drawn)+round, weights)
		}
		for i := range d.genuine {
			w := 0.0
			if listed {
				w = float64(weights[i])
			} else {
				w = float64(weights[d.person[d.genuine[i].a]])
			}
			of += w
			if float64(d.genuine[i].distance) < thresholds[round] {
				accepted += w
			}
		}
		rates[round] = accepted / of
		if math.IsNaN(thresholds[round]) {
			rates[round] = math.NaN()
		}
	})
	return rates
}

// atHalf returns the accepted pairs of a crowd, and of the pairs of one person that belong to it.
func (d *distances) atHalf(c *crowd, belongs func(pair) bool, distance float64, drawn draws) Half {
	h := Half{Distance: distance, FalseAccepts: c.rate(distance, drawn)}
	accepted, of := 0, 0
	for _, p := range d.genuine {
		if belongs(p) {
			of++
			if float64(p.distance) < distance {
				accepted++
			}
		}
	}
	h.TrueAccepts = wilson(accepted, of)
	return h
}

// equalError finds the threshold at which both error rates are equal.
func (d *distances) equalError(c *crowd, scale Scale) Rate {
	if len(d.genuine) == 0 || c.all == 0 {
		return Rate{}
	}
	near, far := 0.0, 2.0
	for far-near > 1e-6 {
		middle := (near + far) / 2
		accepted, _ := c.below(middle)
		missed := len(d.genuine) - d.acceptedBelow(middle)
		if float64(accepted)/float64(c.all) < float64(missed)/float64(len(d.genuine)) {
			near = middle
		} else {
			far = middle
		}
	}
	accepted, _ := c.below(far)
	genuine := d.acceptedBelow(far)
	return Rate{
		FalseAccepts: float64(accepted) / float64(c.all), Measurable: true, Threshold: far,
		Confidence: scale.Confidence(far), TrueAccepts: wilson(genuine, len(d.genuine)),
		All: float64(genuine) / float64(len(d.genuine)+d.lost),
	}
}

// rankOne uses each photo of a person with another one as a probe, and counts how often the nearest of all other photos
// is of that person.
func (d *distances) rankOne() Proportion {
	count := map[int32]int{}
	for _, i := range d.usable {
		count[d.person[i]]++
	}
	right, of := 0, 0
	for _, i := range d.usable {
		if count[d.person[i]] < 2 || d.nearest[i] < 0 {
			continue
		}
		of++
		if d.person[d.nearest[i]] == d.person[i] {
			right++
		}
	}
	return wilson(right, of)
}

// curve returns the true-accept rate at false-accept rates from one pair to all, evenly spaced by their logarithm.
func (d *distances) curve(c *crowd) []Point {
	points := []Point{}
	if len(d.genuine) == 0 || c.all == 0 {
		return points
	}
	const steps = 160
	least := math.Log(1 / float64(c.all))
	last := 0
	for i := range steps + 1 {
		accepted := int(math.Round(math.Exp(least*(1-float64(i)/steps)) * float64(c.all)))
		if accepted == last || accepted < 1 {
			continue
		}
		last = accepted
		threshold, known := c.distance(accepted)
		if !known {
			threshold = math.Inf(1)
		}
		points = append(points, Point{
			float64(accepted) / float64(c.all), float64(d.acceptedBelow(threshold)) / float64(len(d.genuine)),
		})
	}
	return points
}

// mistakes returns the strangers nearest to one another, and the photos of one person farthest from one another.
func (d *distances) mistakes(scale Scale) (nearest, farthest []Mistake) {
	made := func(p pair) Mistake {
		return Mistake{
			d.set.Photos[p.a].Path, d.set.Photos[p.b].Path, float64(p.distance), scale.Confidence(float64(p.distance)),
		}
	}
	nearest, farthest = []Mistake{}, []Mistake{}
	for _, p := range d.near[:min(mistakes, len(d.near))] {
		nearest = append(nearest, made(p))
	}
	for _, p := range slices.Backward(d.genuine[max(0, len(d.genuine)-mistakes):]) {
		farthest = append(farthest, made(p))
	}
	return nearest, farthest
}

// measureGroup measures within a group.
func (d *distances) measureGroup(k int, scale Scale, half float64, overall []Rate, drawn draws) Group {
	c := d.within(k)
	bit := uint64(1) << k
	belongs := func(p pair) bool { return d.masks[p.a]&d.masks[p.b]&bit != 0 }
	g := Group{Grouping: d.groups[k].grouping, Name: d.groups[k].name, Strangers: c.all}
	for _, n := range c.photos {
		if n > 0 {
			g.People++
			g.Photos += int(n)
		}
	}
	g.Half = d.atHalf(c, belongs, half, drawn)
	g.Genuine = g.Half.TrueAccepts.Of
	for _, r := range overall {
		if !r.Measurable {
			continue
		}
		accepted, _ := c.below(r.Threshold)
		g.FalseAccepts = append(g.FalseAccepts, float64(accepted)/float64(c.all))
		genuine := 0
		for _, p := range d.genuine[:d.acceptedBelow(r.Threshold)] {
			if belongs(p) {
				genuine++
			}
		}
		g.TrueAccepts = append(g.TrueAccepts, wilson(genuine, g.Genuine).Value)
	}
	g.Crowd = d.crowded(k, scale)
	return g
}
