package pack

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

//go:embed quality-mobileface.json
var mobileFaceQualityFile []byte

// mobileFaceQuality is the rule of the mobileface pack for quality.
func mobileFaceQuality() *Quality {
	var q Quality
	if err := json.Unmarshal(mobileFaceQualityFile, &q); err != nil {
		panic("quality-mobileface.json: " + err.Error())
	}
	return &q
}

// Measure names a measured property of a face on which its quality depends.
type Measure string

// The measures of a face.
const (
	// Length is the length of the recogniser's output before it is scaled to a template of length 1. Networks that were
	// trained to tell people apart by direction alone return shorter outputs the less they see of a face.
	Length Measure = "length"
	// Misfit is how far the 68 points are from those of a face, as a fraction of its size.
	Misfit Measure = "misfit"
)

// Measures lists all measures.
func Measures() []Measure { return []Measure{Length, Misfit} }

// Quality is the rule by which the quality of a face follows from its measures: the score is the sum of a base, of
// terms, and of the template's numbers times those of Direction; the grades are intervals of the score. The figures are
// valid for one recogniser, whose mistakes they predict.
type Quality struct {
	// Method says how the figures were determined.
	Method string `json:"method"`
	// Base and Terms are added up.
	Base  float64 `json:"base"`
	Terms []Term  `json:"terms"`
	// Direction is as long as a template, or left out: templates of faces that cannot be recognised lie near each
	// other.
	Direction []float64 `json:"direction,omitempty"`
	// Below Floor no template is made; from Medium a face is good enough for identification, from High for enrolment.
	Floor  float64 `json:"floor"`
	Medium float64 `json:"medium"`
	High   float64 `json:"high"`
	// NoFace says what is taken for no face at all.
	NoFace NoFace `json:"noFace"`
}

// Term is 0 where the measure is From or beyond, Weight where it is To or beyond, and linear between.
type Term struct {
	Measure Measure `json:"measure"`
	From    float64 `json:"from"`
	To      float64 `json:"to"`
	Weight  float64 `json:"weight"`
}

// NoFace says which detections are discarded as doubtful in every respect. Such a detection has a detector's score
// below Score and a score of quality below Quality; and a misfit above Misfit, or the detector's five points lie
// farther than Apart from the same among the 68, on average and in parts of the face's size (as Misfit).
type NoFace struct {
	Score   float64 `json:"score"`
	Quality float64 `json:"quality"`
	Misfit  float64 `json:"misfit"`
	Apart   float64 `json:"apart"`
}

// Rate returns the score of a face, given what each measure says and its template.
func (q *Quality) Rate(of func(Measure) float64, template []float32) float64 {
	score := q.Base
	for _, t := range q.Terms {
		score += t.Weight * min(max((of(t.Measure)-t.From)/(t.To-t.From), 0), 1)
	}
	for i, x := range q.Direction {
		score += x * float64(template[i])
	}
	return score
}

// maxTerms bounds the terms of a quality.
const maxTerms = 64

func (q *Quality) check(length int) error {
	if len(q.Terms) == 0 || len(q.Terms) > maxTerms {
		return fmt.Errorf("want 1 to %d terms, have %d", maxTerms, len(q.Terms))
	}
	for i, t := range q.Terms {
		switch {
		case !slices.Contains(Measures(), t.Measure):
			var known []string
			for _, m := range Measures() {
				known = append(known, string(m))
			}
			return fmt.Errorf("term %d: unknown measure %q; known are %s", i, t.Measure, strings.Join(known, ", "))
		case !finite(t.From, t.To, t.Weight) || t.From == t.To:
			return fmt.Errorf("term %d: from, to or weight is not finite, or from is to", i)
		}
	}
	if len(q.Direction) != 0 && len(q.Direction) != length {
		return fmt.Errorf("direction has %d numbers, templates have %d", len(q.Direction), length)
	}
	if !finite(q.Direction...) || !finite(q.Base, q.NoFace.Score, q.NoFace.Quality, q.NoFace.Misfit, q.NoFace.Apart) {
		return errors.New("a number of base, direction or noFace is not finite")
	}
	if !finite(q.Floor, q.Medium, q.High) || q.Floor > q.Medium || q.Medium > q.High {
		return errors.New("floor, medium and high must rise")
	}
	return nil
}
