// Package overhead measures what it costs to search a collection in partitions on several replicas: Run starts replicas
// that listen on this machine, asks them, compares every answer with that of one gallery, and returns how much longer
// the answers took than the slowest partition alone.
package overhead

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/visage-face/visage/cluster/peer"
	"github.com/visage-face/visage/cluster/placement"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/gallery/remote"
)

// Config is what to measure. Zero values mean the defaults.
type Config struct {
	Faces      int // default 100,000
	Dim        int // numbers in a template; default 192
	Nodes      int // replicas; default 4
	Partitions int // a power of two; default 4
	Copies     int // of each partition; default 2
	Queries    int // with one probe each, one at a time; default 10,000
	// Progress is called with the name of each stage as it begins. May be nil.
	Progress func(what string)
}

// Result is the outcome of a measurement.
type Result struct {
	Queries   int           // all answered as one gallery answers
	Slowest   time.Duration // the slowest partition of a query, median
	P50, P99  time.Duration // how much longer a whole query took than its slowest partition
	Processor time.Duration // of this process, for everything, by query; 0 where the system does not tell
	Alone     time.Duration // the same for the one gallery with all faces
	Stats     remote.Stats
}

// collection is the name of the collection.
const collection = "measured"

// within is the largest distance that queries ask for: that of one person's faces.
const within = 0.45

// Run measures. processor returns the processor time of this process so far, nil where the system does not tell. Run
// fails when an answer differs, and stops with the cause of ctx.
func Run(ctx context.Context, cfg Config, processor func() time.Duration) (Result, error) {
	for _, d := range []struct {
		n  *int
		to int
	}{{&cfg.Faces, 100_000}, {&cfg.Dim, 192}, {&cfg.Nodes, 4}, {&cfg.Partitions, 4}, {&cfg.Copies, 2},
		{&cfg.Queries, 10_000}} {
		if *d.n == 0 {
			*d.n = d.to
		}
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	if processor == nil {
		processor = func() time.Duration { return 0 }
	}
	cfg.Progress(fmt.Sprintf("making %d faces of %d numbers, in one gallery and in %d partitions", cfg.Faces, cfg.Dim,
		cfg.Partitions))
	r := &rig{cfg: cfg, asked: make(map[uint64]*atomic.Int64)}
	defer r.close()
	if err := r.fill(ctx); err != nil {
		return Result{}, err
	}
	client, places, err := r.start()
	if err != nil {
		return Result{}, err
	}
	cfg.Progress(fmt.Sprintf("searching %d times", cfg.Queries))
	return r.measure(ctx, client, places, processor)
}

// rig is replicas on this machine.
type rig struct {
	cfg        Config
	whole      *gallery.Gallery
	partitions []*gallery.Gallery
	codes      []gallery.Code
	servers    []*http.Server
	serving    sync.WaitGroup

	mu    sync.Mutex               // guards asked
	asked map[uint64]*atomic.Int64 // by version, which is the number of a query: its slowest partition
}

func (r *rig) close() {
	for _, s := range r.servers {
		s.Close()
	}
	r.serving.Wait()
	for _, g := range append(r.partitions, r.whole) {
		if g != nil {
			g.Close()
		}
	}
}

// fill makes the galleries. Every code is kept, to be asked for.
func (r *rig) fill(ctx context.Context) error {
	var err error
	if r.whole, err = gallery.New(r.cfg.Dim); err != nil {
		return err
	}
	r.whole.Expect(r.cfg.Faces)
	for range r.cfg.Partitions {
		g, err := gallery.New(r.cfg.Dim)
		if err != nil {
			return err
		}
		g.Expect(r.cfg.Faces / r.cfg.Partitions)
		r.partitions = append(r.partitions, g)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range r.cfg.Faces {
		if i%1000 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		e := gallery.Entry{Order: uint64(i), Code: make(gallery.Code, 2*r.cfg.Dim)}
		binary.BigEndian.PutUint64(e.ID[:], rnd.Uint64())
		binary.BigEndian.PutUint64(e.Owner[:], uint64(i))
		for at := 0; at < len(e.Code); at += 2 {
			n := max(min(rnd.NormFloat64()/3, 1), -1) * gallery.CodeMost
			binary.LittleEndian.PutUint16(e.Code[at:], uint16(int16(n)))
		}
		r.codes = append(r.codes, e.Code)
		p := placement.Partition(e.ID, r.cfg.Partitions)
		if err := errors.Join(r.whole.Add(e), r.partitions[p].Add(e)); err != nil {
			return err
		}
	}
	return nil
}

// start starts the replicas, and makes a client that is none of them.
func (r *rig) start() (*remote.Client, [][]string, error) {
	authority, err := peer.NewAuthority(peer.Instance{1})
	if err != nil {
		return nil, nil, err
	}
	addresses := make(map[string]string, r.cfg.Nodes)
	var members []placement.Node
	for i := range r.cfg.Nodes {
		name := "node-" + strconv.Itoa(i)
		members = append(members, placement.Node{Name: name, Budget: 1})
		self, err := authority.Identity(name, 0)
		if err != nil {
			return nil, nil, err
		}
		server, err := remote.NewServer(remote.ServerConfig{Self: self, Searcher: r})
		if err != nil {
			return nil, nil, err
		}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, fmt.Errorf("listen on this machine: %w", err)
		}
		addresses[name] = listener.Addr().String()
		web := server.HTTP()
		r.servers = append(r.servers, web)
		r.serving.Go(func() { _ = web.ServeTLS(listener, "", "") }) // it ends when it is closed
	}
	m, err := placement.New(members)
	if err != nil {
		return nil, nil, err
	}
	var places [][]string
	for _, nodes := range m.Place(collection, r.cfg.Partitions, r.cfg.Copies) {
		var names []string
		for _, n := range nodes {
			names = append(names, n.Name)
		}
		places = append(places, names)
	}
	self, err := authority.Identity("caller", 0)
	if err != nil {
		return nil, nil, err
	}
	client, err := remote.NewClient(remote.ClientConfig{
		Self: self,
		Dial: func(ctx context.Context, node string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addresses[node])
		},
	})
	return client, places, err
}

// Search answers for every partition on every replica, and notes how long it took.
func (r *rig) Search(ctx context.Context, q remote.Query) (remote.Found, error) {
	start := time.Now()
	g := r.partitions[q.Index]
	found, err := g.Candidates(ctx, q.Query)
	r.mu.Lock()
	slowest := r.asked[q.Version]
	r.mu.Unlock()
	if took := int64(time.Since(start)); slowest != nil {
		for old := slowest.Load(); took > old && !slowest.CompareAndSwap(old, took); old = slowest.Load() {
		}
	}
	return remote.Found{Stamp: q.Stamp, Faces: uint64(g.Len()), Candidates: found}, err
}

func (r *rig) measure(
	ctx context.Context, client *remote.Client, places [][]string, processor func() time.Duration,
) (Result, error) {
	defer client.Close()
	var slow, above []time.Duration
	var spent, alone time.Duration
	for i := range r.cfg.Queries {
		q := remote.Query{
			Partition: remote.Partition{Collection: collection, Version: uint64(i)},
			Query: gallery.Query{Probes: []gallery.Code{r.probe(i)}, K: 1 + i%10, Within: within,
				ByOwner: true},
		}
		if i%4 == 0 {
			q.Within = 0 // the nearest, however far: with several candidates of each partition
		}
		slowest := new(atomic.Int64)
		r.mu.Lock()
		r.asked[uint64(i)] = slowest
		r.mu.Unlock()
		before, start := processor(), time.Now()
		got, err := client.Search(ctx, q, places)
		took := time.Since(start)
		spent += processor() - before
		if err != nil {
			return Result{}, fmt.Errorf("search %d: %w", i, err)
		}
		r.mu.Lock()
		delete(r.asked, uint64(i)) // a hedge that lost does not count
		r.mu.Unlock()
		slow = append(slow, time.Duration(slowest.Load()))
		above = append(above, took-time.Duration(slowest.Load()))
		before = processor()
		want, err := r.whole.Candidates(ctx, q.Query)
		alone += processor() - before
		if err != nil {
			return Result{}, err
		}
		if !slices.EqualFunc(got.Candidates, want, slices.Equal) || got.Faces != uint64(r.cfg.Faces) {
			return Result{}, fmt.Errorf("search %d: the partitions found %v, one gallery %v", i, got.Candidates, want)
		}
	}
	slices.Sort(slow)
	slices.Sort(above)
	return Result{
		Queries: r.cfg.Queries, Slowest: slow[len(slow)/2], P50: above[len(above)/2], P99: above[len(above)*99/100],
		Processor: spent / time.Duration(r.cfg.Queries), Alone: alone / time.Duration(r.cfg.Queries),
		Stats: client.Stats(),
	}, nil
}

// probe returns a vector that is near to a face.
func (r *rig) probe(i int) gallery.Code {
	near := slices.Clone(r.codes[i*7919%len(r.codes)])
	noise := rand.NewPCG(uint64(i), 3)
	for at := 0; at < len(near); at += 2 {
		number := int(int16(binary.LittleEndian.Uint16(near[at:]))) + int(noise.Uint64()%8192) - 4096
		binary.LittleEndian.PutUint16(near[at:], uint16(int16(max(min(number, gallery.CodeMost), -gallery.CodeMost))))
	}
	return near
}
