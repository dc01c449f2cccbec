package pack

import (
	"errors"
	"fmt"
	"math"
	"sort"
)

// halfRate is the false-accept rate at which confidence is one half.
const halfRate = 1e-3

// steepness is by how much the log-odds of the confidence grow when those of a false accept shrink. With one half, a
// rate of 1e-4 is a confidence of 0.76, 1e-5 of 0.91, 1e-6 of 0.97; and 1e-2 of 0.24.
const steepness = 0.5

// Calibration says how often the faces of two strangers come as near as a given distance, and how that is known.
type Calibration struct {
	// Pairs of photos of strangers, of People different persons, were measured.
	Pairs  int `json:"pairs"`
	People int `json:"people"`
	// Method says in words how the table was made and how uncertain it is.
	Method string `json:"method"`
	// Rates is the table, distance and rate rising.
	Rates []Rate `json:"rates"`
}

// Rate is one row of a calibration.
type Rate struct {
	// Distance is a cosine distance: 0 same … 2 opposite.
	Distance float64 `json:"distance"`
	// FalseAccepts is the part of all pairs of strangers at this distance or nearer.
	FalseAccepts float64 `json:"falseAccepts"`
}

func (c *Calibration) check() error {
	if c.Pairs < 0 || c.People < 0 {
		return errors.New("pairs and people cannot be negative")
	}
	if c.Method == "" {
		return errors.New("method is missing")
	}
	if len(c.Rates) < 2 || len(c.Rates) > 1024 {
		return fmt.Errorf("rates: want 2 to 1024 rows, have %d", len(c.Rates))
	}
	last := Rate{Distance: 0, FalseAccepts: 0}
	for i, r := range c.Rates {
		if !(r.Distance > last.Distance && r.Distance < 2) || !(r.FalseAccepts > last.FalseAccepts && r.FalseAccepts < 1) {
			return fmt.Errorf("rates: row %d does not rise above the one before, or leaves (0, 2) or (0, 1)", i)
		}
		last = r
	}
	if c.Rates[0].FalseAccepts > halfRate || last.FalseAccepts < halfRate {
		return fmt.Errorf("rates: the table does not reach over a rate of %g", halfRate)
	}
	return nil
}

// Confidence turns a cosine distance into a confidence from 0 to 1. It falls as the distance grows, from 1 at a distance
// of 0 to 0 at 2, and is one half where one in 1,000 pairs of strangers is accepted.
func (c *Calibration) Confidence(distance float64) float64 {
	first, last := c.Rates[0], c.Rates[len(c.Rates)-1]
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
	above := sort.Search(len(c.Rates), func(i int) bool { return c.Rates[i].Distance > distance })
	a, b := c.Rates[above-1], c.Rates[above]
	part := (distance - a.Distance) / (b.Distance - a.Distance)
	// Rates span orders of magnitude; between two rows their log-odds are a straight line.
	return fromOdds(logOdds(a.FalseAccepts) + part*(logOdds(b.FalseAccepts)-logOdds(a.FalseAccepts)))
}

// ConfidenceAt returns the confidence that stands for a false-accept rate, whatever the pack: one half at 1e-3.
func ConfidenceAt(falseAccepts float64) float64 { return fromOdds(logOdds(falseAccepts)) }

func logOdds(p float64) float64 { return math.Log(p) - math.Log1p(-p) }

func fromOdds(l float64) float64 { return 1 / (1 + math.Exp(steepness*(l-logOdds(halfRate)))) }
