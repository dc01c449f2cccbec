package remote

import (
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	tailWindow = 256 // answers whose times are remembered
	tailLeast  = 32  // answers before the 95th percentile is taken for known
	tailEvery  = 16  // answers after which it is computed again
	mostTails  = 1024
	hedgeShare = 0.1 // hedges by requests
	hedgeMost  = 16  // hedges that can be saved up
	// A replica that takes so many times the 95th percentile is as good as dead: the next is asked, whatever the share
	// of hedges. Where all are that slow, servers refuse what is too much for them.
	lateness = 10
	// hedgeLeast is how long a hedge waits at least: within it, a replica whose processors are busy is as quick as the
	// next one, and a second request makes both busier.
	hedgeLeast = 3 * time.Millisecond
)

// tails knows how long answers for each collection take, and how many hedges may be sent.
type tails struct {
	mu     sync.Mutex // guards the fields below
	by     map[string]*tail
	hedges float64 // that may be sent now
}

func newTails() *tails { return &tails{by: make(map[string]*tail), hedges: 1} }

// of returns the times of a collection: of all its partitions, which are about equally large.
func (t *tails) of(collection string) *tail {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.by[collection]
	if one == nil {
		if len(t.by) >= mostTails { // any: it is learnt again in tailLeast answers
			for other := range maps.Keys(t.by) {
				delete(t.by, other)
				break
			}
		}
		one = &tail{}
		t.by[collection] = one
	}
	return one
}

// earn counts an answer, which allows a share of a hedge.
func (t *tails) earn() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hedges = min(t.hedges+hedgeShare, hedgeMost)
}

// allow reports whether a hedge may be sent, and counts it.
func (t *tails) allow() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hedges < 1 {
		return false
	}
	t.hedges--
	return true
}

// tail is the times of the last answers of one collection.
type tail struct {
	mu    sync.Mutex // guards the fields below
	times [tailWindow]time.Duration
	n     int // of all answers
	late  time.Duration
}

func (t *tail) add(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.times[t.n%tailWindow] = took
	t.n++
	if t.n >= tailLeast && t.n%tailEvery == 0 {
		sorted := slices.Sorted(slices.Values(t.times[:min(t.n, tailWindow)]))
		t.late = sorted[len(sorted)*95/100]
	}
}

// p95 returns the time that 95 of 100 answers do not exceed, once it is known, and at least hedgeLeast.
func (t *tail) p95() (late time.Duration, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(t.late, hedgeLeast), t.late > 0
}

const (
	restLeast = time.Second // how long a replica is asked last after it failed; twice as long each further time
	restMost  = 30 * time.Second
	overtakes = 2 // in a row, after which it counts as failed: one alone happens to every replica
)

// nodes remembers which replicas failed, or were slow.
type nodes struct {
	mu    sync.Mutex // guards the fields below
	next  int        // so that replicas take turns
	state map[string]*nodeState
}

type nodeState struct {
	failures, overtaken int // in a row
	rests               time.Time
}

func newNodes() *nodes { return &nodes{state: make(map[string]*nodeState)} }

// order returns replicas in the order in which they are asked: in turns, and those that rest last.
func (n *nodes) order(replicas []string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next++
	order := make([]string, 0, len(replicas))
	var resting []string
	now := time.Now()
	for i := range replicas {
		r := replicas[(n.next+i)%len(replicas)]
		if s := n.state[r]; s != nil && now.Before(s.rests) {
			resting = append(resting, r)
		} else {
			order = append(order, r)
		}
	}
	return append(order, resting...)
}

func (n *nodes) answered(node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.state, node)
}

func (n *nodes) failed(node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ofLocked(node).rest()
}

func (n *nodes) overtaken(node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.ofLocked(node)
	if s.overtaken++; s.overtaken >= overtakes {
		s.rest()
	}
}

// rest makes a replica the last that is asked, until it answers or the time is over.
func (s *nodeState) rest() {
	s.rests = time.Now().Add(min(restLeast<<min(s.failures, 10), restMost))
	s.failures++
	s.overtaken = 0
}

func (n *nodes) ofLocked(node string) *nodeState {
	s := n.state[node]
	if s == nil {
		s = &nodeState{}
		n.state[node] = s
	}
	return s
}
