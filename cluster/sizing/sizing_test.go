package sizing_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/cluster/placement"
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
		if float64(p.NodeGallery) > 0.75*0.9*float64(p.NodeMemory) {
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
		p := plan(sizing.Need{Faces: faces, Rate: 10, Photos: 10})
		if p.Nodes < before.Nodes || p.Partitions < before.Partitions || p.Disk <= before.Disk ||
			p.Identify <= before.Identify {
			t.Errorf("%d faces: %+v, fewer: %+v", faces, p, before)
		}
		before = p
	}
	if billion := plan(sizing.Need{Faces: 1e9, Rate: 1}); billion.Bound != "memory" || billion.Partitions < 8 {
		t.Errorf("a billion faces: %+v", billion)
	}
	if busy := plan(sizing.Need{Faces: 1e6, Rate: 5000, Photos: 5000}); busy.Bound != "processors" {
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

// TestPlanIsWhatServersDo: replicas with the settings of a plan, and any names, cut the collection as planned, have all
// copies of its partitions, and have the memory for them.
func TestPlanIsWhatServersDo(t *testing.T) {
	f := figures(t)
	rnd := rand.New(rand.NewPCG(5, 6))
	for _, n := range []sizing.Need{
		{Faces: 10_000}, {Faces: 1e6}, {Faces: 10e6}, {Faces: 100e6}, {Faces: 1e9}, {Faces: 1e9, Replicas: 3},
		{Faces: 10e6, NodeMemory: 4 << 30}, {Faces: 120e6}, {Faces: 1e9, Dim: 512, NodeMemory: 256 << 30},
	} {
		n.Rate, n.Photos = 10, 10
		p, err := f.Plan(n)
		if err != nil {
			t.Fatal(err)
		}
		if p.GalleryMemory > p.NodeMemory || p.PartitionMemory > p.GalleryMemory || p.GalleryMemory%(1<<20) != 0 ||
			p.PartitionMemory%(1<<20) != 0 {
			t.Errorf("%+v: galleries of %d bytes, partitions of %d", n, p.GalleryMemory, p.PartitionMemory)
		}
		bytes := f.Gallery(n.Faces, cmp.Or(n.Dim, 192))
		if got := placement.Partitions(bytes, p.PartitionMemory, 0); got != p.Partitions {
			t.Errorf("%+v: servers cut the collection into %d partitions, the plan into %d", n, got, p.Partitions)
		}
		if p.Partitions == 1 {
			if bytes > p.GalleryMemory || p.Galleries != bytes*int64(p.Nodes) {
				t.Errorf("%+v: a gallery of %d bytes: %+v", n, bytes, p)
			}
			continue
		}
		if got := p.GalleryMemory * int64(p.Nodes) / bytes; got < int64(p.Replicas) { // as package scatter has it
			t.Errorf("%+v: servers have %d copies, the plan %d", n, got, p.Replicas)
		}
		for range 5 {
			serves, most := map[string]int{}, 0
			var nodes []placement.Node
			for range p.Nodes {
				nodes = append(nodes, placement.Node{Name: fmt.Sprintf("r%x", rnd.Uint64()), Budget: p.GalleryMemory})
			}
			m, err := placement.New(nodes)
			if err != nil {
				t.Fatal(err)
			}
			for _, place := range m.Place(fmt.Sprint(rnd.Uint64()), p.Partitions, p.Replicas) {
				for _, node := range place {
					serves[node.Name]++
					most = max(most, serves[node.Name])
				}
			}
			if need := int64(most) * bytes / int64(p.Partitions); need > p.GalleryMemory*95/100 {
				t.Fatalf("%+v: the fullest of %d nodes needs %d bytes for %d partitions; it may use %d", n, p.Nodes,
					need, most, p.GalleryMemory)
			}
		}
	}
}

// TestLoading: a node opens every face in each reading, whatever it keeps, and a database that gives faces to all nodes
// gives each one less.
func TestLoading(t *testing.T) {
	f := figures(t)
	for _, n := range []sizing.Need{{Faces: 1e6, Rate: 1}, {Faces: 1e9, Rate: 1}, {Faces: 1e9, Rate: 1, NodeCores: 1}} {
		p, err := f.Plan(n)
		if err != nil {
			t.Fatal(err)
		}
		opened := time.Duration(n.Faces * f.Load / int64(p.NodeCores))
		if p.LoadRows < n.Faces || p.LoadTime < opened || p.TrainRows < p.LoadRows*int64(p.Nodes) ||
			p.TrainTime < p.LoadTime {
			t.Errorf("%+v: loads %d faces in %v, and trains with %d in %v; opening them takes %v", n, p.LoadRows,
				p.LoadTime, p.TrainRows, p.TrainTime, opened)
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
