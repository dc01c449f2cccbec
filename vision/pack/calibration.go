package pack

import (
	"errors"
	"fmt"
	"math"
	"sort"
)

// halfRate is the false-accept rate at which the confidence is one half.
const halfRate = 1e-3

// steepness is by how much the log-odds of the confidence rise when those of a false accept fall. With one half, a rate
// of 1e-4 is a confidence of 0.76, 1e-5 of 0.91, 1e-6 of 0.97; and 1e-2 of 0.24.
const steepness = 0.5

// searchRate is the largest fraction of searches of strangers with a false accept that Threshold allows.
const searchRate = 0.01

// Calibration says how often the faces of two strangers are as near as a given distance, and how that was measured.
//
// A measured calibration names its worst group of people, and confidence follows the rates of that group. Otherwise it
// follows Rates.
type Calibration struct {
	// Pairs of photos of strangers, of People different persons, were measured.
	Pairs  int `json:"pairs"`
	People int `json:"people"`
	// Photos gave one template each; 0 when not known.
	Photos int `json:"photos,omitempty"`
	// Method says in words how the table was made and how uncertain it is.
	Method string `json:"method"`
	// Subjects describes the people on the photos, and which people are missing.
	Subjects string `json:"subjects,omitempty"`
	// Recogniser is the SHA-256 of the network with these distances, in lower-case hexadecimal; empty when not known. A
	// pack with another recogniser does not open with this calibration.
	Recogniser string `json:"recogniser,omitempty"`
	// Rates is the table over all pairs, distance and rate rising.
	Rates []Rate `json:"rates"`
	// Half holds the accepted pairs at a confidence of one half; nil when they were not counted.
	Half *Rate `json:"half,omitempty"`
	// Worst is the group with the most false accepts; nil when groups were not distinguished.
	Worst *Worst `json:"worst,omitempty"`
	// Groups are the groups that were distinguished, those of one grouping together.
	Groups []Group `json:"groups,omitempty"`
}

// Rate is one row of a calibration.
type Rate struct {
	// Distance is a cosine distance: 0 same … 2 opposite.
	Distance float64 `json:"distance"`
	// FalseAccepts is the fraction of all pairs of strangers at this distance or nearer.
	FalseAccepts float64 `json:"falseAccepts"`
	// Counted is how many pairs were that near, Low and High are the 95 % interval of FalseAccepts; 0 when the row was
	// not counted.
	Counted int     `json:"counted,omitempty"`
	Low     float64 `json:"low,omitempty"`
	High    float64 `json:"high,omitempty"`
	// TrueAccepts is the fraction of all pairs of one person at this distance or nearer; 0 when not known.
	TrueAccepts float64 `json:"trueAccepts,omitempty"`
}

// Group is the result for a group of people, or of photos.
type Group struct {
	// Grouping is the property that distinguishes the groups, such as "name" or "yaw"; Name is the group's.
	Grouping string `json:"grouping"`
	Name     string `json:"name"`
	// Photos of People gave Pairs of strangers and Genuine pairs of one person within the group.
	Photos  int `json:"photos"`
	People  int `json:"people"`
	Pairs   int `json:"pairs"`
	Genuine int `json:"genuine"`
	// Half holds the accepted pairs of the group at a confidence of one half; nil when they were not counted.
	Half *Rate `json:"half,omitempty"`
	// Rates are the group's own, distance and rate rising, as far down as they could be counted.
	Rates []Rate `json:"rates"`
}

// Worst is the table that confidence follows.
type Worst struct {
	// Grouping and Name name the group.
	Grouping string `json:"grouping"`
	Name     string `json:"name"`
	// Rates are the group's, distance and rate rising. Below those that could be counted, it takes the shape of the
	// rates over all pairs.
	Rates []Rate `json:"rates"`
}

// empty reports whether there is no calibration.
func (c *Calibration) empty() bool { return c.Method == "" && len(c.Rates) == 0 }

// check refuses a calibration that contradicts itself, or that was measured with another recogniser than that of this
// SHA-256.
func (c *Calibration) check(recogniser string) error {
	if c.Recogniser != "" && c.Recogniser != recogniser {
		return fmt.Errorf("it was measured with the recogniser of SHA-256 %s, but the pack's recogniser is %s",
			c.Recogniser, recogniser)
	}
	if c.Pairs < 0 || c.People < 0 || c.Photos < 0 {
		return errors.New("pairs, people and photos cannot be negative")
	}
	if c.Method == "" {
		return errors.New("method is missing")
	}
	if err := checkRates(c.Rates, 2); err != nil {
		return fmt.Errorf("rates: %w", err)
	}
	if err := reach(c.Rates); err != nil {
		return fmt.Errorf("rates: %w", err)
	}
	if c.Worst != nil {
		if err := checkRates(c.Worst.Rates, 2); err != nil {
			return fmt.Errorf("worst: rates: %w", err)
		}
		if err := reach(c.Worst.Rates); err != nil {
			return fmt.Errorf("worst: rates: %w", err)
		}
	}
	if len(c.Groups) > 256 {
		return fmt.Errorf("groups: want at most 256, have %d", len(c.Groups))
	}
	if err := checkHalf(c.Half); err != nil {
		return fmt.Errorf("half: %w", err)
	}
	for _, g := range c.Groups {
		if err := checkHalf(g.Half); err != nil {
			return fmt.Errorf("group %q: half: %w", g.Name, err)
		}
		if g.Photos < 0 || g.People < 0 || g.Pairs < 0 || g.Genuine < 0 {
			return fmt.Errorf("group %q: a count cannot be negative", g.Name)
		}
		if err := checkRates(g.Rates, 0); err != nil {
			return fmt.Errorf("group %q: rates: %w", g.Name, err)
		}
	}
	return nil
}

// checkHalf refuses counts that are impossible at a confidence of one half. Nil: they were not counted.
func checkHalf(r *Rate) error {
	if r == nil {
		return nil
	}
	if !(r.Distance > 0 && r.Distance < 2) || !(r.FalseAccepts >= 0 && r.FalseAccepts <= 1) {
		return errors.New("the distance is not between 0 and 2, or the rate not from 0 to 1")
	}
	return r.checkCount()
}

// checkCount refuses impossible counts and intervals.
func (r Rate) checkCount() error {
	if r.Counted < 0 || !(r.Low >= 0 && r.Low <= 1) || !(r.High >= 0 && r.High <= 1) ||
		!(r.TrueAccepts >= 0 && r.TrueAccepts <= 1) {
		return errors.New("a count is negative, or a rate leaves 0 to 1")
	}
	return nil
}

func checkRates(rates []Rate, least int) error {
	if len(rates) < least || len(rates) > 1024 {
		return fmt.Errorf("want %d to 1024 rows, have %d", least, len(rates))
	}
	last := Rate{Distance: 0, FalseAccepts: 0}
	for i, r := range rates {
		if !(r.Distance > last.Distance && r.Distance < 2) ||
			!(r.FalseAccepts > last.FalseAccepts && r.FalseAccepts < 1) {
			return fmt.Errorf("row %d does not rise above the one before, or leaves (0, 2) or (0, 1)", i)
		}
		if err := r.checkCount(); err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
		last = r
	}
	return nil
}

// reach refuses a table that does not reach the rate at which the confidence is one half.
func reach(rates []Rate) error {
	if rates[0].FalseAccepts > halfRate || rates[len(rates)-1].FalseAccepts < halfRate {
		return fmt.Errorf("the table does not reach over a rate of %g", halfRate)
	}
	return nil
}

// curve returns the table that confidence follows.
func (c *Calibration) curve() []Rate {
	if c.Worst != nil {
		return c.Worst.Rates
	}
	return c.Rates
}

// Confidence turns a cosine distance into a confidence from 0 to 1. It falls as the distance grows, from 1 at a
// distance of 0 to 0 at 2. It is one half where one in 1,000 pairs of strangers is accepted: in the worst group, if
// that was measured, and so at most as many in every other.
func (c *Calibration) Confidence(distance float64) float64 {
	if c.empty() {
		return 0 // the distance has no meaning
	}
	rates := c.curve()
	first, last := rates[0], rates[len(rates)-1]
	switch {
	case math.IsNaN(distance) || distance >= 2:
		return 0
	case distance <= 0:
		return 1
	case distance < first.Distance:
		at := ConfidenceAt(first.FalseAccepts)
		return 1 - (1-at)*distance/first.Distance
	case distance >= last.Distance:
		return ConfidenceAt(last.FalseAccepts) * (2 - distance) / (2 - last.Distance)
	}
	return fromOdds(oddsBetween(rates, distance))
}

// oddsBetween returns the log-odds of the rate at a distance between the rows of a table. Rates span orders of
// magnitude; between two rows their log-odds are a straight line.
func oddsBetween(rates []Rate, distance float64) float64 {
	above := sort.Search(len(rates), func(i int) bool { return rates[i].Distance > distance })
	a, b := rates[above-1], rates[above]
	part := (distance - a.Distance) / (b.Distance - a.Distance)
	return logOdds(a.FalseAccepts) + part*(logOdds(b.FalseAccepts)-logOdds(a.FalseAccepts))
}

// FalseAccepts returns the fraction of all pairs of strangers at a distance or nearer, between the rows of Rates. For a
// distance below the first row, it is at most that of the first row; above the last, at least that of the last.
func (c *Calibration) FalseAccepts(distance float64) float64 {
	first, last := c.Rates[0], c.Rates[len(c.Rates)-1]
	switch {
	case distance <= first.Distance:
		return first.FalseAccepts
	case distance >= last.Distance:
		return last.FalseAccepts
	}
	odds := oddsBetween(c.Rates, distance)
	return 1 / (1 + math.Exp(-odds))
}

// mostAsked is the highest threshold that Threshold returns: above it, more people of a group are missed than found,
// whatever its size.
const mostAsked = 0.95

// Threshold returns the confidence that at most 1 % of searches of a stranger reach in a group of a number of faces:
// each face may be taken for the stranger in 1 % divided by their number, over all pairs. It is never below one half,
// and never above 0.95: a group so large that it would need more has more false alarms. A calibration without groups
// was not measured that far, and gives one half for every group.
func (c *Calibration) Threshold(faces int) float64 {
	if c.Worst == nil || faces < 1 {
		return 0.5
	}
	return min(max(0.5, c.Confidence(distanceAt(c.Rates, searchRate/float64(faces)))), mostAsked)
}

// distanceAt returns the distance with a rate, between the rows of a table by its log-odds. Beyond the first row it
// follows the line through the rows of its lowest decade, which is the cautious side: the tails of distances fall
// faster.
func distanceAt(rates []Rate, rate float64) float64 {
	above := sort.Search(len(rates), func(i int) bool { return rates[i].FalseAccepts >= rate })
	if above == len(rates) {
		return rates[len(rates)-1].Distance
	}
	a := above - 1
	if above == 0 {
		a, above = 0, sort.Search(len(rates)-2, func(i int) bool {
			return rates[i+1].FalseAccepts >= 10*rates[0].FalseAccepts
		})+1
	}
	low, high := rates[a], rates[above]
	part := (logOdds(rate) - logOdds(low.FalseAccepts)) / (logOdds(high.FalseAccepts) - logOdds(low.FalseAccepts))
	return max(0, low.Distance+part*(high.Distance-low.Distance))
}

// ConfidenceAt returns the confidence of a false-accept rate in every pack: one half at 1e-3.
func ConfidenceAt(falseAccepts float64) float64 { return fromOdds(logOdds(falseAccepts)) }

func logOdds(p float64) float64 { return math.Log(p) - math.Log1p(-p) }

func fromOdds(l float64) float64 { return 1 / (1 + math.Exp(steepness*(l-logOdds(halfRate)))) }
