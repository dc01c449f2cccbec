package remote_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/cluster/peer"
	"github.com/visage-face/visage/cluster/placement"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/gallery/remote"
)

const dim = 64

// stamp is the state that the queries of these tests have seen, and the nodes too.
var stamp = remote.Stamp{Bundle: 7, Changes: 40}

// crowd is faces of persons: three each, some of them equally near to everything.
func crowd(n int, seed uint64) []gallery.Entry {
	rnd := rand.New(rand.NewPCG(seed, 1))
	faces := make([]gallery.Entry, n)
	for i := range faces {
		e := &faces[i]
		binary.BigEndian.PutUint64(e.ID[:], rnd.Uint64())
		binary.BigEndian.PutUint64(e.Owner[:], uint64(i/3))
		e.Order = uint64(i)
		if i > 0 && i%5 == 0 {
			e.Code = faces[rnd.IntN(i)].Code // ties
			continue
		}
		e.Code = code(rnd)
	}
	return faces
}

func code(rnd *rand.Rand) gallery.Code {
	c := make(gallery.Code, 2*dim)
	for i := range dim {
		n := int16(max(min(rnd.NormFloat64()*gallery.CodeMost/3, gallery.CodeMost), -gallery.CodeMost))
		binary.LittleEndian.PutUint16(c[2*i:], uint16(n))
	}
	return c
}

func fill(t testing.TB, faces []gallery.Entry) *gallery.Gallery {
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

// searcher is a function that is a Searcher.
type searcher func(context.Context, remote.Query) (remote.Found, error)

func (s searcher) Search(ctx context.Context, q remote.Query) (remote.Found, error) { return s(ctx, q) }

// cluster is replicas that listen on this machine, and galleries of partitions that are placed on them.
type cluster struct {
	authority  *peer.Authority
	partitions []*gallery.Gallery
	places     [][]string
	nodes      map[string]*node
}

type node struct {
	server  *remote.Server
	http    *http.Server
	address string
	// instead of an answer, when set; it may call truth
	search atomic.Pointer[searcher]
	truth  searcher
	wire   atomic.Pointer[func([]byte) []byte] // changes the bytes of answers, when set
}

func (n *node) answer(s searcher) { n.search.Store(&s) }

func newCluster(t testing.TB, faces []gallery.Entry, nodes, partitions, copies int) *cluster {
	t.Helper()
	authority, err := peer.NewAuthority(peer.Instance{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{authority: authority, nodes: map[string]*node{}}
	parts := make([][]gallery.Entry, partitions)
	for _, e := range faces {
		p := placement.Partition(e.ID, partitions)
		parts[p] = append(parts[p], e)
	}
	for _, part := range parts {
		c.partitions = append(c.partitions, fill(t, part))
	}
	var members []placement.Node
	for i := range nodes {
		members = append(members, placement.Node{Name: "node-" + strconv.Itoa(i), Budget: 1 << 30})
	}
	m, err := placement.New(members)
	if err != nil {
		t.Fatal(err)
	}
	serves := map[string]map[int]bool{}
	for p, place := range m.Place("c", partitions, copies) {
		var names []string
		for _, n := range place {
			names = append(names, n.Name)
			if serves[n.Name] == nil {
				serves[n.Name] = map[int]bool{}
			}
			serves[n.Name][p] = true
		}
		c.places = append(c.places, names)
	}
	for _, member := range members {
		c.nodes[member.Name] = c.start(t, member.Name, serves[member.Name], remote.ServerConfig{})
	}
	return c
}

func (c *cluster) identity(t testing.TB, name string) *peer.Identity {
	t.Helper()
	i, err := c.authority.Identity(name, 0)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// start starts a replica that serves some partitions.
func (c *cluster) start(t testing.TB, name string, serves map[int]bool, cfg remote.ServerConfig) *node {
	t.Helper()
	n := &node{}
	n.truth = func(ctx context.Context, q remote.Query) (remote.Found, error) {
		if !serves[q.Index] {
			return remote.Found{}, remote.ErrNotHere
		}
		g := c.partitions[q.Index]
		found, err := g.Candidates(ctx, q.Query)
		return remote.Found{Stamp: stamp, Faces: uint64(g.Len()), Candidates: found}, err
	}
	cfg.Self = c.identity(t, name)
	cfg.Searcher = searcher(func(ctx context.Context, q remote.Query) (remote.Found, error) {
		if s := n.search.Load(); s != nil {
			return (*s)(ctx, q)
		}
		return n.truth(ctx, q)
	})
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	var err error
	if n.server, err = remote.NewServer(cfg); err != nil {
		t.Fatal(err)
	}
	n.http = n.server.HTTP()
	n.http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		change := n.wire.Load()
		if change == nil {
			n.server.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		n.server.ServeHTTP(rec, r)
		body := (*change)(rec.Body.Bytes())
		w.WriteHeader(rec.Code)
		w.Write(body)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.address = listener.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() { n.http.ServeTLS(listener, "", "") })
	t.Cleanup(func() { n.http.Close(); serving.Wait() })
	return n
}

func (c *cluster) client(t testing.TB, name string, change func(*remote.ClientConfig)) *remote.Client {
	t.Helper()
	cfg := remote.ClientConfig{
		Self: c.identity(t, name),
		Dial: func(ctx context.Context, name string) (net.Conn, error) {
			n := c.nodes[name]
			if n == nil {
				return nil, errors.New("no such node")
			}
			return new(net.Dialer).DialContext(ctx, "tcp", n.address)
		},
		Timeout: time.Hour, // nothing here is decided by time
	}
	if change != nil {
		change(&cfg)
	}
	client, err := remote.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// query makes a query with that many probes.
func query(probes ...gallery.Code) remote.Query {
	return remote.Query{
		Partition: remote.Partition{Collection: "c", Version: 3}, Stamp: stamp,
		Query: gallery.Query{Probes: probes, K: 5},
	}
}

// randomQuery asks as the services do.
func randomQuery(rnd *rand.Rand, faces []gallery.Entry) remote.Query {
	probes := make([]gallery.Code, 1+rnd.IntN(3))
	for i := range probes {
		probes[i] = code(rnd)
		if rnd.IntN(2) == 0 {
			probes[i] = faces[rnd.IntN(len(faces))].Code
		}
	}
	q := query(probes...)
	q.K = 1 + rnd.IntN(20)
	q.ByOwner = rnd.IntN(2) == 0
	q.Within = []float32{0, 0.4, 0.9, 2}[rnd.IntN(4)]
	return q
}

func same(a, b [][]gallery.Candidate) bool { return slices.EqualFunc(a, b, slices.Equal) }

// TestSameAnswer: four nodes with sixteen partitions answer as one gallery does, in the same order. The caller is one
// of them. The benchmark asks 10,000 times.
func TestSameAnswer(t *testing.T) {
	faces := crowd(6000, 1)
	whole, c := fill(t, faces), newCluster(t, faces, 4, 16, 2)
	client := c.client(t, "node-1", func(cfg *remote.ClientConfig) { cfg.Local = c.nodes["node-1"].truth })
	rnd := rand.New(rand.NewPCG(5, 6))
	for i := range 300 {
		q := randomQuery(rnd, faces)
		want, err := whole.Candidates(t.Context(), q.Query)
		if err != nil {
			t.Fatal(err)
		}
		got, err := client.Search(t.Context(), q, c.places)
		if err != nil {
			t.Fatal(err)
		}
		if !same(got.Candidates, want) || got.Faces != uint64(len(faces)) || got.Stamp != stamp {
			t.Fatalf("query %d of %d, by owner %t, within %g: got %v of %d faces, want %v", i, q.K, q.ByOwner, q.Within,
				got.Candidates, got.Faces, want)
		}
	}
	// More probes than a request may have.
	q := query()
	for i := range 3 * remote.MostProbes / 2 {
		q.Probes = append(q.Probes, faces[i].Code)
	}
	want, err := whole.Candidates(t.Context(), q.Query)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := client.Search(t.Context(), q, c.places); err != nil || !same(got.Candidates, want) {
		t.Errorf("%d probes: %v", len(q.Probes), err)
	}
}

// TestNoFailedRequest: while searches run, a node of four is killed, one is slow without end, or one drains. With two
// copies, every search is answered, and right.
func TestNoFailedRequest(t *testing.T) {
	faces := crowd(3000, 2)
	whole := fill(t, faces)
	for name, harm := range map[string]func(*node){
		"killed":   func(n *node) { n.http.Close() },
		"draining": func(n *node) { n.server.Drain() },
		"slow": func(n *node) {
			n.answer(func(ctx context.Context, _ remote.Query) (remote.Found, error) {
				<-ctx.Done()
				return remote.Found{}, context.Cause(ctx)
			})
		},
		"failing": func(n *node) {
			n.answer(func(context.Context, remote.Query) (remote.Found, error) {
				return remote.Found{}, errors.New("broken")
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, faces, 4, 8, 2)
			client := c.client(t, "caller", nil)
			const before, all, clients = 60, 240, 4
			var asked atomic.Int64
			var harmed sync.Once
			var wg sync.WaitGroup
			for i := range clients {
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(i), 7))
					for {
						n := asked.Add(1)
						if n > all {
							return
						}
						if n > before {
							harmed.Do(func() { harm(c.nodes["node-2"]) })
						}
						q := randomQuery(rnd, faces)
						want, err := whole.Candidates(t.Context(), q.Query)
						if err != nil {
							t.Error(err)
							return
						}
						got, err := client.Search(t.Context(), q, c.places)
						if err != nil || !same(got.Candidates, want) {
							t.Errorf("search %d: %v", n, err)
							return
						}
					}
				})
			}
			wg.Wait()
			t.Logf("%+v", client.Stats())
		})
	}
}

// TestHedge: a replica that does not answer is overtaken by the other one, long before its time is over.
func TestHedge(t *testing.T) {
	faces := crowd(300, 3)
	c := newCluster(t, faces, 2, 1, 2)
	client := c.client(t, "caller", nil)
	for range 64 { // so that it knows how long answers take
		if _, err := client.Search(t.Context(), query(faces[0].Code), c.places); err != nil {
			t.Fatal(err)
		}
	}
	c.nodes["node-0"].answer(func(ctx context.Context, _ remote.Query) (remote.Found, error) {
		<-ctx.Done() // when the other one has answered
		return remote.Found{}, context.Cause(ctx)
	})
	before := client.Stats()
	for range 4 { // replicas take turns: node-0 is first in some
		if _, err := client.Search(t.Context(), query(faces[0].Code), c.places); err != nil {
			t.Fatal(err)
		}
	}
	if after := client.Stats(); after.Hedges == before.Hedges || after.Failures != before.Failures {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// TestNoPart: without an answer of one partition there is none, and it says when to try again.
func TestNoPart(t *testing.T) {
	faces := crowd(300, 4)
	c := newCluster(t, faces, 4, 4, 1)
	client := c.client(t, "caller", nil)
	c.nodes[c.places[2][0]].server.Drain()
	_, err := client.Search(t.Context(), query(faces[0].Code), c.places)
	var unavailable *remote.UnavailableError
	if !errors.As(err, &unavailable) || unavailable.RetryAfter <= 0 || !errors.Is(err, remote.ErrNotHere) {
		t.Errorf("a partition drains: %v", err)
	}
	_, err = client.Search(t.Context(), query(faces[0].Code), [][]string{c.places[0], {}})
	if !errors.As(err, &unavailable) || unavailable.Partition.Index != 1 {
		t.Errorf("a partition is nowhere: %v", err)
	}
	_, err = client.Search(t.Context(), query(faces[0].Code), [][]string{{"unknown"}})
	if !errors.As(err, &unavailable) {
		t.Errorf("a replica is unknown: %v", err)
	}
}

// TestBehind: a caller with an old bundle is told so, by the first replica that knows.
func TestBehind(t *testing.T) {
	faces := crowd(300, 4)
	c := newCluster(t, faces, 4, 4, 2)
	for _, n := range c.nodes {
		n.answer(func(ctx context.Context, q remote.Query) (remote.Found, error) {
			return remote.Found{}, remote.ErrBehind
		})
	}
	_, err := c.client(t, "caller", nil).Search(t.Context(), query(faces[0].Code), c.places)
	var unavailable *remote.UnavailableError
	if !errors.Is(err, remote.ErrBehind) || errors.As(err, &unavailable) {
		t.Errorf("got %v", err)
	}
}

// TestInvalidAnswers: an answer that does not match the request counts as none: with another replica the search has its
// answer, and without one it has none.
func TestInvalidAnswers(t *testing.T) {
	faces := crowd(3000, 5)
	whole := fill(t, faces)
	rnd := rand.New(rand.NewPCG(8, 9))
	q := query(faces[3].Code, code(rnd))
	q.ByOwner, q.Within = true, 1.5
	want, err := whole.Candidates(t.Context(), q.Query)
	if err != nil {
		t.Fatal(err)
	}
	found := func(change func(*remote.Found)) func(*node) {
		return func(n *node) {
			n.answer(func(ctx context.Context, q remote.Query) (remote.Found, error) {
				f, err := n.truth(ctx, q)
				if err == nil {
					change(&f)
				}
				return f, err
			})
		}
	}
	first := func(change func(list []gallery.Candidate) []gallery.Candidate) func(*node) {
		return found(func(f *remote.Found) { f.Candidates[0] = change(f.Candidates[0]) })
	}
	wire := func(change func([]byte) []byte) func(*node) { return func(n *node) { n.wire.Store(&change) } }
	at := func(offset int) func(*node) {
		return wire(func(b []byte) []byte { b[offset]++; return b })
	}
	for name, lie := range map[string]func(*node){
		"other ids": first(func(l []gallery.Candidate) []gallery.Candidate {
			for placement.Partition(l[0].ID, 4) == placement.Partition(l[1].ID, 4) {
				l[0].ID[15]++
			}
			return l
		}),
		"too many": first(func(l []gallery.Candidate) []gallery.Candidate {
			return append(slices.Clone(l), l...)
		}),
		"more than its faces": found(func(f *remote.Found) { f.Faces = 1 }),
		"unsorted": first(func(l []gallery.Candidate) []gallery.Candidate {
			slices.Reverse(l)
			return l
		}),
		"a face twice": first(func(l []gallery.Candidate) []gallery.Candidate {
			l[1] = l[0]
			return l
		}),
		"an owner twice": first(func(l []gallery.Candidate) []gallery.Candidate {
			l[1].Owner = l[0].Owner
			return l
		}),
		"too far": first(func(l []gallery.Candidate) []gallery.Candidate {
			l[len(l)-1].Score = -0.9
			return l
		}),
		"no score": first(func(l []gallery.Candidate) []gallery.Candidate {
			l[0].Score = float32(math.NaN())
			return l
		}),
		"a score above one": first(func(l []gallery.Candidate) []gallery.Candidate {
			l[0].Score = 1.5
			return l
		}),
		"one probe":            found(func(f *remote.Found) { f.Candidates = f.Candidates[:1] }),
		"an old bundle":        found(func(f *remote.Found) { f.Bundle-- }),
		"a new bundle":         found(func(f *remote.Found) { f.Bundle++ }),
		"an old counter":       found(func(f *remote.Found) { f.Changes-- }),
		"another version":      at(4),
		"another instance":     at(5),
		"another request":      at(5 + 16),
		"another state":        at(5 + 16 + 16 + 8 + 8 + 7),
		"another partition":    at(5 + 16 + 16 + 8 + 8 + 8 + 3),
		"of another number":    at(5 + 16 + 16 + 8 + 8 + 8 + 4 + 3),
		"a huge list":          at(5 + 16 + 16 + 8 + 8 + 8 + 4 + 4 + 8 + 2),
		"nothing":              wire(func([]byte) []byte { return nil }),
		"cut":                  wire(func(b []byte) []byte { return b[:len(b)-1] }),
		"one byte more":        wire(func(b []byte) []byte { return append(b, 0) }),
		"a megabyte more":      wire(func(b []byte) []byte { return append(b, make([]byte, 1<<20)...) }),
		"a page for browsers":  wire(func([]byte) []byte { return []byte("<html>") }),
		"many megabytes of it": wire(func([]byte) []byte { return bytes.Repeat([]byte("<html>"), 1<<20) }),
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, faces, 2, 4, 2)
			client := c.client(t, "caller", nil)
			lie(c.nodes["node-0"])
			for range 4 {
				got, err := client.Search(t.Context(), q, c.places)
				if err != nil || !same(got.Candidates, want) {
					t.Errorf("with an honest replica: %v", err)
				}
			}
			if client.Stats().Invalid == 0 {
				t.Error("no lie was noticed")
			}
			alone := [][]string{{"node-0"}, {"node-0"}, {"node-0"}, {"node-0"}}
			var unavailable *remote.UnavailableError
			if _, err := client.Search(t.Context(), q, alone); !errors.As(err, &unavailable) {
				t.Errorf("without one: %v", err)
			}
		})
	}
	t.Run("a later counter is none", func(t *testing.T) {
		c := newCluster(t, faces, 2, 4, 2)
		for _, n := range c.nodes {
			found(func(f *remote.Found) { f.Changes += 2 })(n)
		}
		got, err := c.client(t, "caller", nil).Search(t.Context(), q, c.places)
		if err != nil || got.Changes != stamp.Changes+2 {
			t.Errorf("%d changes, %v", got.Changes, err)
		}
	})
}

// TestImpostor: a process that listens where a replica should, and is another one, gets no probe.
func TestImpostor(t *testing.T) {
	faces := crowd(300, 6)
	c, other := newCluster(t, faces, 2, 1, 1), newCluster(t, faces, 2, 1, 1)
	client := c.client(t, "caller", nil)
	name := c.places[0][0]
	asked := false
	other.nodes[name].answer(func(context.Context, remote.Query) (remote.Found, error) {
		asked = true
		return remote.Found{}, nil
	})
	c.nodes[name].address = other.nodes[name].address
	if _, err := client.Search(t.Context(), query(faces[0].Code), c.places); err == nil || asked {
		t.Errorf("a replica of another authority was asked (%t): %v", asked, err)
	}
}

// TestAnswersOfThisProcessAreChecked: what it has in memory itself may be too old as well.
func TestAnswersOfThisProcessAreChecked(t *testing.T) {
	authority, err := peer.NewAuthority(peer.Instance{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{authority: authority}
	for what, changed := range map[string]func(*remote.Found){
		"older changes":   func(f *remote.Found) { f.Changes-- },
		"another bundle":  func(f *remote.Found) { f.Bundle++ },
		"no list a probe": func(f *remote.Found) { f.Candidates = nil },
	} {
		client := c.client(t, "here", func(cfg *remote.ClientConfig) {
			cfg.Local = searcher(func(_ context.Context, q remote.Query) (remote.Found, error) {
				f := remote.Found{Stamp: q.Stamp, Candidates: make([][]gallery.Candidate, len(q.Probes))}
				changed(&f)
				return f, nil
			})
		})
		_, err := client.Search(t.Context(), query(code(rand.New(rand.NewPCG(1, 2)))), [][]string{{"here"}})
		if _, ok := errors.AsType[*remote.UnavailableError](err); !ok || client.Stats().Invalid != 1 {
			t.Errorf("%s: %v, %+v; want no answer", what, err, client.Stats())
		}
	}
}

// pipes is a listener whose connections are in memory, for clocks that tests control.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, open := <-p
	if !open {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p pipes) Close() error {
	close(p)
	return nil
}

func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// TestBusyConnectionsOutliveNoCertificate: a client whose connection is never idle, longer than certificates are valid,
// gets every answer.
func TestBusyConnectionsOutliveNoCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority, err := peer.NewAuthority(peer.Instance{1, 2})
		if err != nil {
			t.Fatal(err)
		}
		c := &cluster{authority: authority}
		server, err := remote.NewServer(remote.ServerConfig{Self: c.identity(t, "one"),
			Searcher: searcher(func(_ context.Context, q remote.Query) (remote.Found, error) {
				return remote.Found{Stamp: q.Stamp, Candidates: make([][]gallery.Candidate, len(q.Probes))}, nil
			})})
		if err != nil {
			t.Fatal(err)
		}
		listener := make(pipes)
		var dials atomic.Int64
		serves := server.HTTP()
		var serving sync.WaitGroup
		serving.Go(func() { serves.ServeTLS(listener, "", "") })
		client := c.client(t, "two", func(cfg *remote.ClientConfig) {
			cfg.Timeout = 5 * time.Second
			cfg.Dial = func(context.Context, string) (net.Conn, error) {
				here, there := net.Pipe()
				dials.Add(1)
				listener <- there
				return here, nil
			}
		})
		defer func() {
			client.Close()
			serves.Close()
			serving.Wait()
		}()
		probe := code(rand.New(rand.NewPCG(1, 2)))
		for began := time.Now(); time.Since(began) < 2*peer.Life; time.Sleep(2 * time.Minute) {
			if _, err := client.Search(t.Context(), query(probe), [][]string{{"one"}}); err != nil {
				t.Fatalf("after %v: %v", time.Since(began), err)
			}
		}
		if s, n := client.Stats(), dials.Load(); s.Failures != 0 || n < 2 || n > 10 {
			t.Errorf("%+v, %d connections; want no failure, and a connection for hours", s, n)
		}
	})
}

// TestServerRefuses what is no request of this version, in the words of HTTP.
func TestServerRefuses(t *testing.T) {
	faces := crowd(300, 7)
	c := newCluster(t, faces, 1, 1, 1)
	n := c.nodes["node-0"]
	var wanted []byte // a request as it is sent
	n.http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wanted, _ = io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(wanted))
		n.server.ServeHTTP(w, r)
	})
	if _, err := c.client(t, "caller", nil).Search(t.Context(), query(faces[0].Code), c.places); err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	transport := &http.Transport{
		TLSClientConfig: c.identity(t, "caller").ClientTLS(), Protocols: &protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", n.address)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	n.http.Handler = n.server
	post := func(method, path string, body []byte) *http.Response {
		t.Helper()
		url := "https://" + c.authority.Instance().Host("node-0") + path
		req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	changed := func(offset int) []byte {
		b := bytes.Clone(wanted)
		b[offset]++
		return b
	}
	for name, c := range map[string]struct {
		method, path string
		body         []byte
		want         int
	}{
		"the same again":   {"POST", "/partition", wanted, http.StatusOK},
		"another version":  {"POST", "/partition", changed(4), http.StatusBadRequest},
		"another instance": {"POST", "/partition", changed(5), http.StatusForbidden},
		"cut":              {"POST", "/partition", wanted[:len(wanted)-1], http.StatusBadRequest},
		"empty":            {"POST", "/partition", nil, http.StatusBadRequest},
		"too long":         {"POST", "/partition", make([]byte, 1<<20), http.StatusBadRequest},
		"another path":     {"POST", "/", wanted, http.StatusNotFound},
		"another method":   {"PUT", "/partition", wanted, http.StatusNotFound},
	} {
		if resp := post(c.method, c.path, c.body); resp.StatusCode != c.want {
			t.Errorf("%s: %s, want %d", name, resp.Status, c.want)
		}
	}
	n.server.Drain()
	if resp := post("POST", "/partition", wanted); resp.StatusCode != http.StatusServiceUnavailable ||
		resp.Header.Get("Retry-After") == "" {
		t.Errorf("draining: %s, retry after %q", resp.Status, resp.Header.Get("Retry-After"))
	}
	rec := httptest.NewRecorder()
	n.server.ServeHTTP(rec, httptest.NewRequest("POST", "/partition", bytes.NewReader(wanted)))
	if rec.Code != http.StatusForbidden {
		t.Errorf("without TLS: %d", rec.Code)
	}
}

// TestConcurrent: more searches than a server may run are refused at once.
func TestConcurrent(t *testing.T) {
	faces := crowd(300, 8)
	c := newCluster(t, faces, 1, 1, 1)
	n := c.start(t, "small", map[int]bool{0: true}, remote.ServerConfig{Concurrent: 1})
	c.nodes["small"] = n
	entered, leave := make(chan struct{}), make(chan struct{})
	n.answer(func(ctx context.Context, q remote.Query) (remote.Found, error) {
		close(entered)
		<-leave
		return n.truth(ctx, q)
	})
	client, places := c.client(t, "caller", nil), [][]string{{"small"}}
	answered := make(chan error, 1)
	go func() {
		_, err := client.Search(t.Context(), query(faces[0].Code), places)
		answered <- err
	}()
	<-entered
	if _, err := client.Search(t.Context(), query(faces[0].Code), places); !errors.Is(err, remote.ErrNotHere) {
		t.Errorf("the second search: %v", err)
	}
	close(leave)
	if err := <-answered; err != nil {
		t.Errorf("the first search: %v", err)
	}
}

// TestCancelled: a search that nobody waits for ends, at the replicas too.
func TestCancelled(t *testing.T) {
	faces := crowd(300, 9)
	c := newCluster(t, faces, 1, 1, 1)
	entered, left := make(chan struct{}), make(chan struct{})
	c.nodes["node-0"].answer(func(ctx context.Context, _ remote.Query) (remote.Found, error) {
		close(entered)
		<-ctx.Done()
		close(left)
		return remote.Found{}, context.Cause(ctx)
	})
	cause := errors.New("the caller has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-entered
		cancel(cause)
	}()
	if _, err := c.client(t, "caller", nil).Search(ctx, query(faces[0].Code), c.places); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	<-left
}

// TestProbesAreCleared: the buffer of a request is cleared when the transport closes it, wherever it is then.
func TestProbesAreCleared(t *testing.T) {
	b := []byte("a template and another one")
	body := remote.Body(b)
	if _, err := body.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	body.Close()
	if strings.Trim(string(b), "\x00") != "" {
		t.Errorf("%q is left", b)
	}
	if n, err := body.Read(make([]byte, 3)); n != 0 || err != io.EOF {
		t.Errorf("a closed body has %d bytes, %v", n, err)
	}
}

// TestQueriesAreChecked before anything is sent.
func TestQueriesAreChecked(t *testing.T) {
	faces := crowd(30, 9)
	c := newCluster(t, faces, 1, 1, 1)
	client := c.client(t, "caller", nil)
	for name, change := range map[string]func(*remote.Query){
		"no probe":        func(q *remote.Query) { q.Probes = nil },
		"an empty probe":  func(q *remote.Query) { q.Probes = []gallery.Code{{}} },
		"unequal probes":  func(q *remote.Query) { q.Probes = append(q.Probes, q.Probes[0][:dim]) },
		"no candidates":   func(q *remote.Query) { q.K = 0 },
		"too many":        func(q *remote.Query) { q.K = remote.MostK + 1 },
		"no distance":     func(q *remote.Query) { q.Within = float32(math.NaN()) },
		"no collection":   func(q *remote.Query) { q.Collection = "" },
		"a long one":      func(q *remote.Query) { q.Collection = strings.Repeat("c", 256) },
		"three as a half": func(q *remote.Query) { q.Within = 3 },
	} {
		q := query(faces[0].Code)
		change(&q)
		if _, err := client.Search(t.Context(), q, c.places); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if n := client.Stats().Requests; n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// samples returns a request and an answer as they are sent.
func samples(t testing.TB) (ask, answer []byte) {
	faces := crowd(100, 10)
	c := newCluster(t, faces, 1, 1, 1)
	n := c.nodes["node-0"]
	n.http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ask, _ = io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(bytes.Clone(ask)))
		rec := httptest.NewRecorder()
		n.server.ServeHTTP(rec, r)
		answer = bytes.Clone(rec.Body.Bytes())
		w.Write(answer)
	})
	q := query(faces[0].Code, faces[1].Code)
	if _, err := c.client(t, "caller", nil).Search(context.Background(), q, c.places); err != nil {
		t.Fatal(err)
	}
	return ask, answer
}

// FuzzDecode: what can be read is written again as the same bytes, and nothing else can be read.
func FuzzDecode(f *testing.F) {
	ask, answer := samples(f)
	for _, seed := range [][]byte{ask, answer} {
		f.Add(seed)
		f.Add(seed[:len(seed)/2])
	}
	for name, sample := range map[string][]byte{"request": ask, "answer": answer} {
		again := remote.ReencodeAsk
		if name == "answer" {
			again = remote.ReencodeAnswer
		}
		if b, err := again(sample); err != nil || !bytes.Equal(b, sample) {
			f.Fatalf("the %s of the corpus is not read: %v", name, err)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, again := range map[string]func([]byte) ([]byte, error){
			"request": remote.ReencodeAsk, "answer": remote.ReencodeAnswer,
		} {
			if got, err := again(b); err == nil && !bytes.Equal(got, b) {
				t.Errorf("a %s of %x is written as %x", name, b, got)
			}
		}
	})
}
