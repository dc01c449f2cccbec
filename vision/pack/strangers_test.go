package pack_test

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/visage-face/visage/vision/pack"
)

// grouped is a calibration whose worst group was counted down to 1e-3 and all pairs down to 1e-5.
func grouped() *pack.Calibration {
	return &pack.Calibration{
		Pairs: 10_000_000, People: 3000, Method: "counted",
		Rates: []pack.Rate{
			{Distance: 0.2, FalseAccepts: 1e-6, Counted: 9}, {Distance: 0.3, FalseAccepts: 1e-5, Counted: 100},
			{Distance: 0.4, FalseAccepts: 1e-4, Counted: 1000}, {Distance: 0.6, FalseAccepts: 1e-2, Counted: 100_000},
		},
		Worst: &pack.Worst{Grouping: "name", Name: "some", Rates: []pack.Rate{
			{Distance: 0.1, FalseAccepts: 1e-5}, {Distance: 0.2, FalseAccepts: 1e-4},
			{Distance: 0.3, FalseAccepts: 1e-3, Counted: 12}, {Distance: 0.5, FalseAccepts: 1e-1, Counted: 1200},
		}},
	}
}

func TestConfidenceHasItsRateOfStrangers(t *testing.T) {
	guessed := &pack.Calibration{Pairs: 1000, People: 30, Method: "a curve", Rates: []pack.Rate{
		{Distance: 0.1, FalseAccepts: 1e-6}, {Distance: 0.3, FalseAccepts: 1e-3}, {Distance: 0.5, FalseAccepts: 0.1},
	}}
	for _, tt := range []struct {
		name       string
		c          *pack.Calibration
		confidence float64
		worst, all pack.Strangers
	}{
		{"one half", grouped(), 0.5, pack.Strangers{Rate: 1e-3}, pack.Strangers{Rate: 1e-5}},
		{"between rows", grouped(), pack.ConfidenceAt(1e-2), pack.Strangers{Rate: 1e-2}, pack.Strangers{Rate: 1e-4}},
		{"beyond what was counted in the group", grouped(), pack.ConfidenceAt(1e-4),
			pack.Strangers{Rate: 1e-3, AtMost: true}, pack.Strangers{Rate: 1e-5, AtMost: true}},
		{"certain", grouped(), 1, pack.Strangers{Rate: 1e-3, AtMost: true}, pack.Strangers{Rate: 1e-5, AtMost: true}},
		{"none", grouped(), 0, pack.Strangers{Rate: 1, AtMost: true}, pack.Strangers{Rate: 1, AtMost: true}},
		{"a curve through few pairs", guessed, 0.5, pack.Strangers{Rate: 0.01, AtMost: true},
			pack.Strangers{Rate: 0.01, AtMost: true}},
		{"a curve where pairs support it", guessed, pack.ConfidenceAt(0.1) + 1e-9, pack.Strangers{Rate: 0.1},
			pack.Strangers{Rate: 0.1}},
		{"no calibration", &pack.Calibration{}, 0.5, pack.Strangers{Rate: 1, AtMost: true},
			pack.Strangers{Rate: 1, AtMost: true}},
	} {
		worst, all := tt.c.FalseAcceptsAt(tt.confidence)
		same := func(a, b pack.Strangers) bool {
			return a.AtMost == b.AtMost && math.Abs(a.Rate-b.Rate) <= 0.05*b.Rate
		}
		if !same(worst, tt.worst) || !same(all, tt.all) {
			t.Errorf("%s: %+v and %+v, want %+v and %+v", tt.name, worst, all, tt.worst, tt.all)
		}
	}
}

func TestRatesAreToldInRoundNumbers(t *testing.T) {
	for rate, want := range map[float64]int{
		1: 1, 0.5: 2, 0.3: 3, 1e-2: 100, 1e-3: 1000, 0.00073: 1300, 4.8e-5: 20_000, 1e-6: 1_000_000, 10.0 / 1364: 130,
	} {
		if got := (pack.Strangers{Rate: rate}).OneIn(); got != want {
			t.Errorf("a rate of %g is one in %d, want %d", rate, got, want)
		}
	}
}

// TestRatesFallWithConfidence: of the calibration that comes with mobileface, no higher confidence stands for more
// strangers, none for fewer than were counted, and 0.5 for one in 1,000 of the worst group.
func TestRatesFallWithConfidence(t *testing.T) {
	b, err := os.ReadFile("calibration-mobileface.json")
	if err != nil {
		t.Fatal(err)
	}
	var c pack.Calibration
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	last := [2]float64{1, 1}
	for i := range 1001 {
		worst, all := c.FalseAcceptsAt(float64(i) / 1000)
		if worst.Rate > last[0] || all.Rate > last[1] || all.Rate*float64(c.Pairs) < 9.9 {
			t.Fatalf("at %g %+v and %+v, after %v", float64(i)/1000, worst, all, last)
		}
		last = [2]float64{worst.Rate, all.Rate}
	}
	if worst, all := c.FalseAcceptsAt(0.5); worst.OneIn() != 1000 || all.OneIn() != 21_000 {
		t.Errorf("0.5 is one stranger in %d of the worst group, and in %d of all", worst.OneIn(), all.OneIn())
	}
	if worst, _ := c.FalseAcceptsAt(0.99); worst.OneIn() != 1000 || !worst.AtMost {
		t.Errorf("0.99 is one stranger in %d of the worst group, at most: %v", worst.OneIn(), worst.AtMost)
	}
	points := c.Curve()
	for i, p := range points {
		if i > 0 && (p.Confidence >= points[i-1].Confidence || p.TrueAccepts < points[i-1].TrueAccepts) {
			t.Errorf("the curve does not fall at point %d", i)
		}
	}
	if len(points) < 10 {
		t.Errorf("a curve of %d points", len(points))
	}
}
