package sizing

import (
	"cmp"
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/visage-face/visage/cluster/placement"
)

// clock runs events in the order of their times, and of equal ones in the order in which they were planned.
type clock struct {
	now    time.Duration
	serial int
	events events
}

type event struct {
	at     time.Duration
	serial int
	run    func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(e[i].at, e[j].at), cmp.Compare(e[i].serial, e[j].serial)) < 0
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// after plans an event.
func (c *clock) after(d time.Duration, run func()) {
	heap.Push(&c.events, event{c.now + max(d, 0), c.serial, run})
	c.serial++
}

// run runs all events, and those that they plan.
func (c *clock) run() {
	for len(c.events) > 0 {
		e := heap.Pop(&c.events).(event)
		c.now = e.at
		e.run()
	}
}

// job is work for a station.
type job struct {
	kind int // jobs of one kind can be served together
	gone bool
	done func()
}

// station serves jobs in the order in which they came, one after another; together with the first that waits it serves
// others of its kind, up to most.
type station struct {
	clock   *clock
	most    int
	service func(kind, jobs int) time.Duration
	waiting []*job
	busy    bool
	dead    bool
}

func (s *station) arrive(j *job) {
	if s.dead {
		return // no answer, not even a refusal
	}
	s.waiting = append(s.waiting, j)
	s.next()
}

func (s *station) next() {
	s.waiting = slices.DeleteFunc(s.waiting, func(j *job) bool { return j.gone })
	if s.busy || s.dead || len(s.waiting) == 0 {
		return
	}
	kind := s.waiting[0].kind
	var together []*job
	s.waiting = slices.DeleteFunc(s.waiting, func(j *job) bool {
		take := j.kind == kind && len(together) < s.most
		if take {
			together = append(together, j)
		}
		return take
	})
	s.busy = true
	s.clock.after(s.service(kind, len(together)), func() {
		s.busy = false
		if s.dead {
			return
		}
		for _, j := range together {
			j.done()
		}
		s.next()
	})
}

// Simulation is a cluster and what happens to it. Zero values mean the defaults.
type Simulation struct {
	Need
	Nodes   int    // default 16
	Queries int    // default 4,000, of which one node is lost at half
	Lose    bool   // a node stops without a word, and stays away
	Seed    uint64 // the same seed gives the same result
}

// Times are quantiles of how long queries took.
type Times struct {
	Queries int           `json:"queries"`
	P50     time.Duration `json:"p50Nanoseconds"`
	P95     time.Duration `json:"p95Nanoseconds"`
	P99     time.Duration `json:"p99Nanoseconds"`
	Most    time.Duration `json:"mostNanoseconds"`
}

// Simulated is the outcome of a simulation.
type Simulated struct {
	Nodes      int     `json:"nodes"`
	Partitions int     `json:"partitions"`
	Replicas   int     `json:"replicas"`
	Before     Times   `json:"before"` // queries that began before the loss; all, without one
	During     Times   `json:"during"` // in the second after it
	After      Times   `json:"after"`
	Unanswered int     `json:"unanswered"` // by no replica: a caller gets a 503
	Hedges     float64 `json:"hedgesByRequest"`
	Busy       float64 `json:"busyShare"` // of the time of all nodes
}

// Simulate plays queries, which come at random (Poisson) with the need's rate, against the nodes. A query asks one
// replica of each partition, in turns, another one when it takes longer than 95 of 100 do, as package gallery/remote
// does, and ends with the last partition. A node makes one pass over a partition at a time, on all of its processors,
// for up to 64 queries that wait for the same one. The network takes as long as was measured on one machine.
func (f Figures) Simulate(s Simulation) (Simulated, error) {
	if err := s.fill(); err != nil {
		return Simulated{}, err
	}
	if s.Nodes == 0 {
		s.Nodes = 16
	}
	if s.Queries == 0 {
		s.Queries = 4000
	}
	if s.Nodes < 1 || s.Nodes > 1024 || s.Queries < 1 || s.Queries > 1_000_000 || s.Rate <= 0 {
		return Simulated{}, fmt.Errorf("simulate %d queries, %g a second, on %d nodes", s.Queries, s.Rate, s.Nodes)
	}
	whole := f.Gallery(s.Faces, s.Dim)
	// As many partitions as spread well, whatever one node could hold: a search is as fast as there are nodes.
	partitions := placement.Partitions(whole, max(whole/int64(perNode*s.Nodes), 1), 0)
	var members []placement.Node
	for i := range s.Nodes {
		members = append(members, placement.Node{Name: strconv.Itoa(i), Budget: s.NodeMemory})
	}
	m, err := placement.New(members)
	if err != nil {
		return Simulated{}, err
	}
	c := &cluster{
		figures: f, sim: s, clock: &clock{}, random: rand.New(rand.NewPCG(s.Seed, 1)), away: make([]bool, s.Nodes),
		hedges: 1,
	}
	for _, nodes := range m.Place("simulated", partitions, s.Replicas) {
		var at []int
		for _, n := range nodes {
			i, err := strconv.Atoi(n.Name)
			if err != nil {
				return Simulated{}, err
			}
			at = append(at, i)
		}
		c.places = append(c.places, at)
	}
	part := s.Faces / int64(partitions)
	one := f.Search(part, s.Dim) / time.Duration(s.NodeCores)
	shared := f.Together(part, s.Dim) / time.Duration(s.NodeCores)
	for range s.Nodes {
		c.nodes = append(c.nodes, &station{clock: c.clock, most: 64, service: func(_, jobs int) time.Duration {
			took := max(one, time.Duration(jobs)*shared)
			c.busy += took
			return took
		}})
	}
	return c.play(partitions), nil
}

// cluster is a simulation under way.
type cluster struct {
	figures  Figures
	sim      Simulation
	clock    *clock
	random   *rand.Rand
	places   [][]int
	nodes    []*station
	away     []bool // nodes that callers have found out to be gone
	turn     int
	busy     time.Duration
	requests int
	hedged   int
	hedges   float64 // that may be sent now
	recent   []time.Duration
	late     time.Duration
	lost     time.Duration // when the node was; 0: not
	took     []query
	ended    time.Duration // the last of them
}

type query struct{ began, took time.Duration }

func (c *cluster) play(partitions int) Simulated {
	var came time.Duration
	for i := range c.sim.Queries {
		came += time.Duration(c.random.ExpFloat64() / c.sim.Rate * float64(time.Second))
		c.clock.after(came, func() { c.ask() })
		if c.sim.Lose && i == c.sim.Queries/2 {
			c.lost = came
			c.clock.after(came, func() { c.nodes[0].dead = true })
		}
	}
	c.clock.run()
	r := Simulated{
		Nodes: c.sim.Nodes, Partitions: partitions, Replicas: c.sim.Replicas,
		Unanswered: c.sim.Queries - len(c.took), Hedges: float64(c.hedged) / float64(c.requests),
		Busy: c.busy.Seconds() / max(c.ended, came).Seconds() / float64(c.sim.Nodes),
	}
	var before, during, after []time.Duration
	for _, q := range c.took {
		switch {
		case c.lost == 0 || q.began+q.took < c.lost:
			before = append(before, q.took)
		case q.began < c.lost+time.Second:
			during = append(during, q.took)
		default:
			after = append(after, q.took)
		}
	}
	r.Before, r.During, r.After = timesOf(before), timesOf(during), timesOf(after)
	return r
}

func timesOf(took []time.Duration) Times {
	if len(took) == 0 {
		return Times{}
	}
	slices.Sort(took)
	at := func(share float64) time.Duration { return took[int(math.Ceil(share*float64(len(took))))-1] }
	return Times{len(took), at(0.5), at(0.95), at(0.99), took[len(took)-1]}
}

// ask begins a query.
func (c *cluster) ask() {
	began, missing := c.clock.now, len(c.places)
	for p := range c.places {
		c.part(p, func() {
			if missing--; missing == 0 {
				above := time.Duration(c.figures.Request + c.figures.Above)
				c.took = append(c.took, query{began, c.clock.now - began + above})
				c.ended = c.clock.now
			}
		})
	}
}

// part asks for one partition.
func (c *cluster) part(p int, answered func()) {
	c.turn++
	var order, last []int
	for i := range c.places[p] {
		n := c.places[p][(c.turn+i)%len(c.places[p])]
		if c.away[n] {
			last = append(last, n)
		} else {
			order = append(order, n)
		}
	}
	order = append(order, last...)
	began, done := c.clock.now, false
	var jobs []*job
	send := func(n int) {
		c.requests++
		j := &job{kind: p}
		j.done = func() {
			if done {
				return
			}
			done = true
			for _, other := range jobs {
				other.gone = true
			}
			if n != order[0] && c.nodes[order[0]].dead {
				c.away[order[0]] = true
			}
			c.note(c.clock.now - began)
			answered()
		}
		jobs = append(jobs, j)
		c.nodes[n].arrive(j)
	}
	send(order[0])
	if len(order) == 1 {
		return
	}
	wait := c.late
	if wait == 0 {
		wait = time.Second
	}
	second := func() {
		c.hedged++
		send(order[1])
	}
	c.clock.after(wait, func() {
		switch {
		case done:
		case c.hedges >= 1:
			c.hedges--
			second()
		default:
			c.clock.after(9*wait, func() {
				if !done {
					second()
				}
			})
		}
	})
}

// note remembers how long a partition took, and allows a share of a hedge.
func (c *cluster) note(took time.Duration) {
	c.hedges = min(c.hedges+0.1, 16)
	if c.recent = append(c.recent, took); len(c.recent) == 256 {
		slices.Sort(c.recent)
		c.late = c.recent[len(c.recent)*95/100]
		c.recent = c.recent[:0]
	}
}
