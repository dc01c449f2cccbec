package scatter_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/cluster/peer"
	"github.com/visage-face/visage/cluster/placement"
	"github.com/visage-face/visage/cluster/scatter"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/gallery/remote"
)

const dim = 64

// crowd is faces of persons, three each, some of them equally near to everything.
func crowd(n int) []gallery.Entry {
	rnd := rand.New(rand.NewPCG(1, 2))
	faces := make([]gallery.Entry, n)
	for i := range faces {
		e := &faces[i]
		binary.BigEndian.PutUint64(e.ID[:], rnd.Uint64())
		binary.BigEndian.PutUint64(e.Owner[:], uint64(i/3))
		e.Order, e.Code = uint64(i), code(rnd)
		if i%5 == 4 {
			e.Code = faces[rnd.IntN(i)].Code
		}
	}
	return faces
}

func code(rnd *rand.Rand) gallery.Code {
	c := make(gallery.Code, 2*dim)
	for i := range dim {
		n := max(min(rnd.NormFloat64()*gallery.CodeMost/3, gallery.CodeMost), -gallery.CodeMost)
		binary.LittleEndian.PutUint16(c[2*i:], uint16(int16(n)))
	}
	return c
}

func fill(t *testing.T, faces []gallery.Entry) *gallery.Gallery {
	t.Helper()
	g, err := gallery.New(dim)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	for _, e := range faces {
		if err := g.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// searcher is partitions, each in a gallery.
type searcher []*gallery.Gallery

func (s searcher) Search(ctx context.Context, q remote.Query) (remote.Found, error) {
	g := s[q.Index]
	found, err := g.Candidates(ctx, q.Query)
	return remote.Found{Stamp: q.Stamp, Faces: uint64(g.Len()), Candidates: found}, err
}

// replicas listen on this machine. Each has all partitions.
type replicas struct {
	authority *peer.Authority
	parts     searcher
	servers   map[string]*http.Server

	mu  sync.Mutex
	all []scatter.Replica
}

func newReplicas(t *testing.T, faces []gallery.Entry, n, partitions int) *replicas {
	t.Helper()
	c := &replicas{authority: newAuthority(t), servers: map[string]*http.Server{}}
	cut := make([][]gallery.Entry, partitions)
	for _, e := range faces {
		p := placement.Partition(e.ID, partitions)
		cut[p] = append(cut[p], e)
	}
	for _, part := range cut {
		c.parts = append(c.parts, fill(t, part))
	}
	for i := range n {
		name := fmt.Sprint("r", i)
		c.all = append(c.all, scatter.Replica{
			Name: name, Address: c.listen(t, name, c.authority), Budget: 1 << 20,
		})
	}
	return c
}

func newAuthority(t *testing.T) *peer.Authority {
	t.Helper()
	a, err := peer.NewAuthority(peer.Instance{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// listen starts a replica with a certificate of an authority.
func (c *replicas) listen(t *testing.T, name string, by *peer.Authority) (address string) {
	t.Helper()
	self, err := by.Identity(name, 0)
	if err != nil {
		t.Fatal(err)
	}
	server, err := remote.NewServer(remote.ServerConfig{Self: self, Searcher: c.parts})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hs := server.HTTP()
	served := make(chan error, 1)
	go func() { served <- hs.ServeTLS(listener, "", "") }()
	t.Cleanup(func() {
		hs.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve %s: %v", name, err)
		}
	})
	c.servers[name] = hs
	return listener.Addr().String()
}

func (c *replicas) now() []scatter.Replica {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.all)
}

// change changes what is known of a replica.
func (c *replicas) change(i int, how func(*scatter.Replica)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	how(&c.all[i])
}

// scatter makes the Scatter of the first replica.
func (c *replicas) scatter(t *testing.T, copies int, partitionBytes int64) *scatter.Scatter {
	t.Helper()
	self, err := c.authority.Identity("r0", 0)
	if err != nil {
		t.Fatal(err)
	}
	s, err := scatter.New(scatter.Config{
		Self: self, Local: c.parts, Replicas: c.now, PartitionBytes: partitionBytes, Copies: copies,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

const collection = "a collection"

func query(probe gallery.Code, byOwner bool, count int) remote.Query {
	return remote.Query{
		Partition: remote.Partition{Collection: collection, Version: 3, Count: count},
		Stamp:     remote.Stamp{Bundle: 7, Changes: 40},
		Query:     gallery.Query{Probes: []gallery.Code{probe}, K: 20, ByOwner: byOwner},
	}
}

// TestSearchesAnswerAsOneGallery searches over four replicas, one of which then ends without a word.
func TestSearchesAnswerAsOneGallery(t *testing.T) {
	faces := crowd(600)
	whole := fill(t, faces)
	c := newReplicas(t, faces, 4, 4)
	s := c.scatter(t, 2, 1<<10)
	rnd := rand.New(rand.NewPCG(5, 6))
	for i := range 300 {
		if i == 200 {
			c.servers["r2"].Close()
		}
		q := query(code(rnd), i%2 == 0, 4)
		if i%3 == 0 {
			q.Probes[0] = faces[rnd.IntN(len(faces))].Code // of several, equally near
		}
		want, err := whole.Candidates(t.Context(), q.Query)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Search(t.Context(), q)
		if err != nil {
			t.Fatalf("search %d: %v", i, err)
		}
		if !reflect.DeepEqual(got.Candidates, want) || got.Faces != 600 || got.Stamp != q.Stamp {
			t.Fatalf("search %d: %+v, want %v", i, got, want)
		}
	}
}

// TestNoAnswerRatherThanAPart has one replica of each partition, and takes one away: it ends, and then another process
// is at its address, which is of another instance.
func TestNoAnswerRatherThanAPart(t *testing.T) {
	faces := crowd(100)
	c := newReplicas(t, faces, 2, 2)
	s := c.scatter(t, 1, 1<<10)
	places, err := s.Place(collection, 2)
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Concat(places...); !slices.Contains(got, "r1") {
		t.Fatalf("all partitions are on one replica: %v", places)
	}
	search := func() error {
		_, err := s.Search(t.Context(), query(faces[3].Code, false, 2))
		return err
	}
	if err := search(); err != nil {
		t.Fatal(err)
	}
	c.servers["r1"].Close()
	if err := search(); !isUnavailable(err) {
		t.Errorf("without one of two replicas: %v", err)
	}
	foreign := c.listen(t, "r1", newAuthority(t)) // an authority of the same name, with a key of its own
	c.change(1, func(r *scatter.Replica) { r.Address = foreign })
	if err := search(); !isUnavailable(err) {
		t.Errorf("with a replica of another instance: %v", err)
	}
	wrong := c.listen(t, "r9", c.authority)
	c.change(1, func(r *scatter.Replica) { r.Address = wrong })
	if err := search(); !isUnavailable(err) {
		t.Errorf("with another replica of the instance at the address: %v", err)
	}
	again := c.listen(t, "r1", c.authority)
	c.change(1, func(r *scatter.Replica) { r.Address = again })
	if err := search(); err != nil {
		t.Errorf("with the replica at a new address: %v", err)
	}
}

// TestTheNextReplicaStandsIn takes both replicas of some partitions away: the one that is next in their order answers.
func TestTheNextReplicaStandsIn(t *testing.T) {
	faces := crowd(100)
	c := newReplicas(t, faces, 3, 4)
	s := c.scatter(t, 2, 1<<10)
	q := query(faces[3].Code, false, 4)
	want, err := fill(t, faces).Candidates(t.Context(), q.Query)
	if err != nil {
		t.Fatal(err)
	}
	c.servers["r1"].Close()
	c.servers["r2"].Close()
	got, err := s.Search(t.Context(), q)
	if err != nil || !reflect.DeepEqual(got.Candidates, want) {
		t.Errorf("without two of three replicas: %+v, %v; want %v", got, err, want)
	}
}

func isUnavailable(err error) bool {
	_, ok := errors.AsType[*remote.UnavailableError](err)
	return ok
}

func TestReplicasThatLeaveGetNothing(t *testing.T) {
	c := newReplicas(t, crowd(10), 3, 8)
	s := c.scatter(t, 2, 1<<10)
	placed := func() (names []string) {
		t.Helper()
		places, err := s.Place(collection, 8)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range places {
			if len(p) != 2 {
				t.Errorf("%d copies in %v, want 2", len(p), places)
			}
			names = append(names, p...)
		}
		slices.Sort(names)
		return slices.Compact(names)
	}
	if got := placed(); len(got) != 3 {
		t.Errorf("placed on %v, want all three", got)
	}
	c.change(1, func(r *scatter.Replica) { r.Leaving = true })
	if got := placed(); !slices.Equal(got, []string{"r0", "r2"}) {
		t.Errorf("placed on %v, without r1, which leaves", got)
	}
	for i := range 3 {
		c.change(i, func(r *scatter.Replica) { r.Leaving = true })
	}
	if got := placed(); len(got) != 3 {
		t.Errorf("placed on %v, when all leave", got)
	}
}

// TestReplicasAgreeOnTheCutInTheEnd: a collection outgrows a limit and shrinks below it by less than a half. A replica
// that has seen that keeps the cut while the size varies, and has the cut of one that starts now after ten minutes.
func TestReplicasAgreeOnTheCutInTheEnd(t *testing.T) {
	const limit = 1 << 20
	c := newReplicas(t, nil, 1, 2)
	early, late := c.scatter(t, 2, limit), c.scatter(t, 2, limit)
	synctest.Test(t, func(t *testing.T) {
		count := func(s *scatter.Scatter, bytes int64, want int, when string) {
			t.Helper()
			if got := s.Count(collection, bytes); got != want {
				t.Errorf("%d bytes, %s: %d partitions, want %d", bytes, when, got, want)
			}
		}
		count(early, limit, 1, "new")
		for range 60 { // it varies about the limit for two hours
			count(early, limit+1, 2, "above the limit")
			time.Sleep(time.Minute)
			count(early, limit*8/10, 2, "below the limit for less than ten minutes")
			time.Sleep(time.Minute)
		}
		count(early, limit*8/10, 2, "below the limit for a minute")
		count(late, limit*8/10, 1, "at a replica that starts then")
		time.Sleep(9 * time.Minute)
		count(early, limit*8/10, 1, "below the limit for ten minutes")
		count(late, limit*8/10, 1, "at the other replica")
		count(early, limit*8/10, 1, "later")
	})
}

func TestMemoryLimitsCopies(t *testing.T) {
	c := newReplicas(t, crowd(10), 2, 2) // 2 MiB together
	s := c.scatter(t, 2, 1<<18)
	for _, tt := range []struct {
		bytes         int64
		count, copies int
	}{{1 << 18, 1, 2}, {1 << 20, 4, 2}, {1<<20 + 1, 8, 1}, {2 << 20, 8, 1}, {2<<20 + 1, 16, 0}} {
		count := s.Count(collection, tt.bytes)
		if count != tt.count {
			t.Errorf("%d bytes: %d partitions, want %d", tt.bytes, count, tt.count)
		}
		places, err := s.Place(collection, count)
		switch {
		case tt.copies == 0:
			large, ok := errors.AsType[*scatter.TooLargeError](err)
			if !ok || large.Needed != tt.bytes || large.There != 2<<20 ||
				!strings.Contains(err.Error(), "needs 3 MiB") || !strings.Contains(err.Error(), "have 2 MiB") {
				t.Errorf("%d bytes: %v", tt.bytes, err)
			}
		case err != nil || len(places[0]) != tt.copies:
			t.Errorf("%d bytes: %v, %v; want %d copies", tt.bytes, places, err, tt.copies)
		}
	}
	// It shrinks: a cut stays until half of it would do.
	for _, tt := range []struct {
		bytes int64
		count int
	}{{2 << 20, 16}, {1<<20 + 8, 16}, {1 << 20, 8}, {1 << 17, 1}} {
		if got := s.Count(collection, tt.bytes); got != tt.count {
			t.Errorf("shrunk to %d bytes: %d partitions, want %d", tt.bytes, got, tt.count)
		}
	}
}
