package sizing_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/cluster/sizing"
)

func figures(t testing.TB) sizing.Figures {
	t.Helper()
	f, err := sizing.Measured()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestModelAgreesWithWhatWasMeasured, at every point: memory within a tenth, since blocks are rarely full; disks within
// a half, since how much of the engine's files waits to be rewritten changes by the minute; processor time within a
// factor of 2.5, since caches hold small galleries and not large ones.
func TestModelAgreesWithWhatWasMeasured(t *testing.T) {
	f := figures(t)
	checked := 0
	for _, p := range f.Points {
		for _, c := range []struct {
			what      string
			got, want float64
			bound     float64
		}{
			{"gallery bytes", float64(f.Gallery(p.Faces, f.Dim)), float64(p.GalleryBytes), 1.1},
			{"search", float64(f.Search(p.Faces, f.Dim)), float64(p.Search), 2.5},
			{"search together", float64(f.Together(p.Faces, f.Dim)), float64(p.Together), 2.5},
			{"disk", float64(f.Disk(p.Faces, f.Dim)), float64(p.Disk), 1.5},
		} {
			if c.want == 0 {
				continue // not measured with so many
			}
			checked++
			if ratio := c.got / c.want; ratio > c.bound || ratio < 1/c.bound {
				t.Errorf("%d faces: %s of %.4g by the model, measured %.4g: more than %g apart", p.Faces, c.what, c.got,
					c.want, c.bound)
			}
		}
	}
	if checked < 8 {
		t.Errorf("only %d figures were compared", checked)
	}
}

// TestPlans: what a plan says follows from what it needs.
func TestPlans(t *testing.T) {
	f := figures(t)
	plan := func(n sizing.Need) sizing.Plan {
		t.Helper()
		p, err := f.Plan(n)
		if err != nil {
			t.Fatal(err)
		}
		if float64(p.NodeGallery) > 0.75*float64(p.NodeMemory) {
			t.Errorf("%+v: a node has %d bytes of galleries in %d", n, p.NodeGallery, p.NodeMemory)
		}
		if int64(p.Nodes)*p.NodeGallery < p.Galleries*99/100 {
			t.Errorf("%+v: %d nodes with %d bytes hold less than %d", n, p.Nodes, p.NodeGallery, p.Galleries)
		}
		if p.Cores > float64(p.Nodes*p.NodeCores) {
			t.Errorf("%+v: %.1f busy processors on %d nodes", n, p.Cores, p.Nodes)
		}
		return p
	}
	small := plan(sizing.Need{Faces: 10_000, Rate: 1})
	if small.Nodes != 2 || small.Partitions != 1 || small.Bound != "replicas" {
		t.Errorf("10,000 faces: %+v", small)
	}
	var before sizing.Plan
	for faces := int64(10_000); faces <= 10_000_000_000; faces *= 10 {
		p := plan(sizing.Need{Faces: faces, Rate: 10})
		if p.Nodes < before.Nodes || p.Partitions < before.Partitions || p.Disk <= before.Disk ||
			p.Identify <= before.Identify {
			t.Errorf("%d faces: %+v, fewer: %+v", faces, p, before)
		}
		before = p
	}
	if billion := plan(sizing.Need{Faces: 1e9, Rate: 1}); billion.Bound != "memory" || billion.Partitions < 8 {
		t.Errorf("a billion faces: %+v", billion)
	}
	if busy := plan(sizing.Need{Faces: 1e6, Rate: 5000}); busy.Bound != "processors" {
		t.Errorf("5,000 identifications a second: %+v", busy)
	}
	for _, n := range []sizing.Need{
		{}, {Faces: -1}, {Faces: 1, Rate: -1}, {Faces: 1, Rate: math.NaN()}, {Faces: 1, Replicas: 17},
		{Faces: 1, Dim: 4096}, {Faces: 1, NodeMemory: 1}, {Faces: 1, NodeCores: -1}, {Faces: 1 << 60},
	} {
		if p, err := f.Plan(n); err == nil {
			t.Errorf("%+v: %+v, no error", n, p)
		}
	}
}

// TestNoPlanWithPartitionsThatNoNodeHolds: the number of partitions has a bound, so nodes can be too small.
func TestNoPlanWithPartitionsThatNoNodeHolds(t *testing.T) {
	p, err := figures(t).Plan(sizing.Need{Faces: 1e12, Dim: 2048})
	if err == nil || !strings.Contains(err.Error(), "nodes with more memory") {
		t.Errorf("a plan for 1e12 faces: %d nodes, %v", p.Nodes, err)
	}
}

// TestQueues compares the simulation with what is known of queues: with random arrivals of rate λ and a mean service
// of 1/μ, a customer stays 1/(μ-λ) on average if services are exponential (M/M/1), whose quantile q is
// -ln(1-q)/(μ-λ), and 1/μ + λ/(2μ(μ-λ)) if all are equal (M/D/1, by Pollaczek and Khinchine).
func TestQueues(t *testing.T) {
	const customers, mu = 200_000, 1000.0
	second := func(d float64) time.Duration { return time.Duration(d * float64(time.Second)) }
	for _, load := range []float64{0.3, 0.5, 0.7} {
		lambda := load * mu
		near := func(what string, got, want float64) {
			t.Helper()
			if math.Abs(got/want-1) > 0.05 {
				t.Errorf("load %g, %s: %.4g s, by theory %.4g s", load, what, got, want)
			}
		}
		exponential := func(r *rand.Rand) time.Duration { return second(r.ExpFloat64() / mu) }
		stays := sizing.Queue(customers, lambda, exponential, 7)
		near("M/M/1, mean", mean(stays), 1/(mu-lambda))
		for _, q := range []float64{0.5, 0.95, 0.99} {
			near("M/M/1, quantile", quantile(stays, q), -math.Log(1-q)/(mu-lambda))
		}
		stays = sizing.Queue(customers, lambda, func(*rand.Rand) time.Duration { return second(1 / mu) }, 7)
		near("M/D/1, mean", mean(stays), 1/mu+lambda/(2*mu*(mu-lambda)))
	}
}

func mean(times []time.Duration) float64 {
	var sum time.Duration
	for _, t := range times {
		sum += t
	}
	return sum.Seconds() / float64(len(times))
}

func quantile(times []time.Duration, share float64) float64 {
	slices.Sort(times)
	return times[int(share*float64(len(times)-1))].Seconds()
}

// TestSimulation: the same seed gives the same result; more load makes queries slower; with two replicas a lost node
// costs no query, with one it does.
func TestSimulation(t *testing.T) {
	f := figures(t)
	simulate := func(s sizing.Simulation) sizing.Simulated {
		t.Helper()
		r, err := f.Simulate(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Before.Queries + r.During.Queries + r.After.Queries + r.Unanswered; got != s.Queries {
			t.Errorf("%+v: %d queries of %d", s, got, s.Queries)
		}
		return r
	}
	base := sizing.Simulation{Need: sizing.Need{Faces: 100_000_000, Rate: 20}, Nodes: 8, Queries: 300, Seed: 1}
	first := simulate(base)
	if again := simulate(base); again != first {
		t.Errorf("the same seed gave %+v and %+v", first, again)
	}
	other := base
	other.Seed = 2
	if simulate(other) == first {
		t.Error("another seed gave the same result")
	}
	busy := base
	busy.Rate = 200
	if r := simulate(busy); r.Before.P50 <= first.Before.P50 || r.Busy <= first.Busy {
		t.Errorf("ten times the rate: %+v, before %+v", r, first)
	}
	lost := base
	lost.Lose = true
	if r := simulate(lost); r.Unanswered != 0 || r.After.Queries == 0 || r.After.P50 < first.Before.P50 {
		t.Errorf("a lost node: %+v, without %+v", r, first)
	}
	lost.Replicas = 1
	if r := simulate(lost); r.Unanswered == 0 {
		t.Errorf("a lost node, without replicas: %+v", r)
	}
	for _, s := range []sizing.Simulation{
		{Need: sizing.Need{Faces: 1}}, {Need: sizing.Need{Rate: 1}},
		{Need: sizing.Need{Faces: 1, Rate: 1}, Nodes: -1}, {Need: sizing.Need{Faces: 1, Rate: 1}, Queries: 1e9},
	} {
		if r, err := f.Simulate(s); err == nil {
			t.Errorf("%+v: %+v, no error", s, r)
		}
	}
}
