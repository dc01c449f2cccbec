// Package scatter searches collections that are cut into partitions over the replicas of an instance: it decides into
// how many, places them on the replicas that are there now, and asks them.
//
// Nothing is agreed between replicas. Each sees the others in the store, places partitions by the same function
// (package placement), and asks whom it finds: a replica that is asked for a partition serves it, whatever it thinks
// of the placement. Two that see different members, or cut a collection into different numbers for a while, load more
// than needed, and answer the same.
//
// A replica that leaves says so before it stops answering: partitions are not placed on it any more, and it answers
// those who do not know yet. One that has ended without a word is passed over by package remote, until the store
// counts it out. When all replicas of a partition are away or load it, the next one in the order is asked.
package scatter

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage/cluster/peer"
	"github.com/visage-face/visage/cluster/placement"
	"github.com/visage-face/visage/gallery/remote"
)

// Replica is one that can be asked for partitions.
type Replica struct {
	Name    string // as its certificate has it: see peer.CheckName
	Address string // host:port
	Budget  int64  // bytes that it has for galleries
	Leaving bool   // it answers, but nothing more is to be placed on it
}

// Config is what a Scatter needs.
type Config struct {
	Self  *peer.Identity  // required
	Local remote.Searcher // answers for this replica's own partitions; required
	// Replicas returns those that can be asked now, this one among them, in any order. Required. It is called in each
	// search.
	Replicas func() []Replica
	// PartitionBytes is how much memory a partition may take; a collection that takes no more is not cut. Required.
	PartitionBytes int64
	// Copies is how many replicas serve each partition: fewer where they are fewer, or have not enough memory. Default
	// 2.
	Copies int
	// Timeout is how long one replica may take before the next is asked. Default: that of remote.ClientConfig.
	Timeout time.Duration
}

// TooLargeError says that a collection needs more memory than the replicas have together that are there now. With the
// next one that comes, it may fit.
type TooLargeError struct {
	Needed, There int64 // bytes
}

// Error says how much memory is needed, and how much there is.
func (e *TooLargeError) Error() string {
	const mib = 1 << 20
	return fmt.Sprintf("it needs %d MiB of memory, and the replicas that run now have %d MiB together",
		(e.Needed+mib-1)/mib, e.There/mib)
}

// mostCuts bounds the collections whose cut is remembered. One that is forgotten is cut by its size alone.
const mostCuts = 10_000

// Scatter searches collections over replicas. It is safe for concurrent use.
type Scatter struct {
	cfg     Config
	client  *remote.Client
	metrics metrics

	mu      sync.Mutex // guards the fields below
	cuts    map[string]cut
	known   []Replica // that members was made of
	members placement.Members
	total   int64                 // budgets of members
	places  map[placed][][]string // of the members
}

// cut is how a collection was cut last.
type cut struct {
	count int
	bytes int64
	since time.Time // since when the size alone has asked for another count; zero: it does not
	at    time.Time // when it was asked for last
}

// cutLasts is how long a cut outlasts a size that alone would be cut otherwise. Replicas that started later know the
// size alone: without an end, they and the others would load different cuts for ever.
const cutLasts = 10 * time.Minute

// placed is what has a place.
type placed struct {
	collection    string
	count, copies int
}

// New checks cfg and makes a Scatter.
func New(cfg Config) (*Scatter, error) {
	if cfg.Copies == 0 {
		cfg.Copies = 2
	}
	if cfg.Local == nil || cfg.Replicas == nil || cfg.PartitionBytes < 1 || cfg.Copies < 1 {
		return nil, errors.New("a scatter needs a local searcher, replicas, and sizes of partitions and copies of at " +
			"least 1")
	}
	s := &Scatter{cfg: cfg, cuts: make(map[string]cut), places: make(map[placed][][]string)}
	var err error
	s.client, err = remote.NewClient(remote.ClientConfig{
		Self: cfg.Self, Local: cfg.Local, Dial: s.dial, Timeout: cfg.Timeout,
	})
	s.metrics = newMetrics(s)
	return s, err
}

// dialTime is how long a connection to a replica may take.
const dialTime = 5 * time.Second

// dial connects to a replica by its name.
func (s *Scatter) dial(ctx context.Context, node string) (net.Conn, error) {
	for _, r := range s.cfg.Replicas() {
		if r.Name == node {
			d := net.Dialer{Timeout: dialTime} // the transport dials longer than the caller waits
			return d.DialContext(ctx, "tcp", r.Address)
		}
	}
	return nil, fmt.Errorf("replica %s has left", node)
}

// Count returns into how many partitions a collection is cut that takes so many bytes: see placement.Partitions. It
// remembers the number, so that a collection whose size varies about a limit stays as it is, until the size alone has
// asked for another number for ten minutes: then all replicas have that.
func (s *Scatter) Count(collection string, bytes int64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	former := s.cuts[collection]
	count, since := placement.Partitions(bytes, s.cfg.PartitionBytes, former.count), time.Time{}
	if alone := placement.Partitions(bytes, s.cfg.PartitionBytes, 0); alone != count {
		if since = former.since; since.IsZero() {
			since = time.Now()
		} else if time.Since(since) >= cutLasts {
			count, since = alone, time.Time{}
		}
	}
	if count == 1 {
		delete(s.cuts, collection)
		return 1
	}
	if len(s.cuts) >= mostCuts {
		for other := range s.cuts {
			delete(s.cuts, other)
			break
		}
	}
	s.cuts[collection] = cut{count: count, bytes: bytes, since: since, at: time.Now()}
	return count
}

// Search answers a query over all partitions of a collection, whose number q.Count is, or fails: see
// remote.Client.Search. Further errors: *TooLargeError.
func (s *Scatter) Search(ctx context.Context, q remote.Query) (remote.Found, error) {
	nodes, err := s.place(q.Collection, q.Count)
	if err != nil {
		return remote.Found{}, err
	}
	found, err := s.client.Search(ctx, q, nodes)
	for asked := map[int]bool{}; err != nil && s.cfg.Copies > 1; {
		away, ok := errors.AsType[*remote.UnavailableError](err)
		if !ok || asked[away.Partition.Index] {
			break
		}
		i := away.Partition.Index
		asked[i] = true
		if nodes, err = s.beyond(q.Collection, nodes, i, err); err == nil {
			found, err = s.client.Search(ctx, q, nodes)
		}
	}
	s.metrics.searched(ctx, err)
	return found, err
}

// beyond returns nodes with the replicas of one partition replaced by the one that is next in its order: where a
// replica has just come, and another one ended without a word, both are placed before one that has had the partition
// until now. It returns err where there is no other one. With one copy of each partition, the operator has chosen less
// memory over availability.
func (s *Scatter) beyond(collection string, nodes [][]string, partition int, err error) ([][]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.members.Place(collection, len(nodes), len(s.known))[partition] {
		if !slices.Contains(nodes[partition], n.Name) {
			nodes = slices.Clone(nodes) // they are remembered
			nodes[partition] = []string{n.Name}
			return nodes, nil
		}
	}
	return nil, err
}

// place returns the names of the replicas of each partition.
func (s *Scatter) place(collection string, count int) ([][]string, error) {
	replicas := s.cfg.Replicas()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.meetLocked(replicas); err != nil {
		return nil, err
	}
	return s.placeLocked(collection, count)
}

// Placed is where the partitions of a collection are.
type Placed struct {
	Collection string
	Bytes      int64      // memory of all its partitions, each counted once
	Searched   time.Time  // when this replica has searched it, or trained it, last
	Partitions [][]string // the names of the replicas of each; nil: the memory of all replicas is too small
}

// Placed returns where the partitions of the collections are that this replica has searched since it started, as it
// sees the replicas now, in the order of the collections' names. Those that it has not searched for long may exist no
// more.
func (s *Scatter) Placed() ([]Placed, error) {
	replicas := s.cfg.Replicas()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.meetLocked(replicas); err != nil {
		return nil, err
	}
	var all []Placed
	for _, collection := range slices.Sorted(maps.Keys(s.cuts)) {
		c := s.cuts[collection]
		places, err := s.placeLocked(collection, c.count)
		if _, large := errors.AsType[*TooLargeError](err); err != nil && !large {
			return nil, err
		}
		all = append(all, Placed{collection, c.bytes, c.at, places})
	}
	return all, nil
}

func (s *Scatter) placeLocked(collection string, count int) ([][]string, error) {
	bytes := max(s.cuts[collection].bytes, 1)
	if bytes > s.total {
		return nil, &TooLargeError{Needed: bytes, There: s.total}
	}
	key := placed{collection, count, int(min(int64(s.cfg.Copies), s.total/bytes))}
	places, ok := s.places[key]
	if !ok {
		for _, nodes := range s.members.Place(collection, count, key.copies) {
			names := make([]string, len(nodes))
			for i, n := range nodes {
				names[i] = n.Name
			}
			places = append(places, names)
		}
		if len(s.places) >= mostCuts {
			clear(s.places)
		}
		s.places[key] = places
	}
	return places, nil
}

// meetLocked makes the members of replicas, if these are others than before. Those that leave are none, unless all do.
func (s *Scatter) meetLocked(replicas []Replica) error {
	if len(s.known) > 0 && slices.Equal(replicas, s.known) {
		return nil
	}
	staying := slices.DeleteFunc(slices.Clone(replicas), func(r Replica) bool { return r.Leaving })
	if len(staying) == 0 {
		staying = replicas
	}
	nodes := make([]placement.Node, len(staying))
	var total int64
	for i, r := range staying {
		nodes[i] = placement.Node{Name: r.Name, Budget: r.Budget}
		total += r.Budget
	}
	members, err := placement.New(nodes)
	if err != nil {
		return fmt.Errorf("place partitions: %w", err)
	}
	s.known, s.members, s.total = slices.Clone(replicas), members, total
	clear(s.places)
	return nil
}

// Close closes connections. No search may be under way.
func (s *Scatter) Close() { s.client.Close() }

// Collectors returns the metrics, to be registered once.
func (s *Scatter) Collectors() []prometheus.Collector { return s.metrics.all }
