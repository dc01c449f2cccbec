package remote

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/visage-face/visage/cluster/peer"
	"github.com/visage-face/visage/gallery"
)

// ClientConfig is what a Client needs.
type ClientConfig struct {
	Self *peer.Identity // required
	// Local answers for the partitions that this replica has itself. Nil: it has none.
	Local Searcher
	// Dial connects to a replica. Required.
	Dial func(ctx context.Context, node string) (net.Conn, error)
	// Timeout is how long one replica may take before the next is asked, whatever the hedges do. Default 5 s.
	Timeout time.Duration
}

// Client searches collections that are partitioned over replicas. It is safe for concurrent use.
type Client struct {
	cfg   ClientConfig
	tails *tails
	nodes *nodes
	stats clientStats

	mu     sync.Mutex // guards the fields below
	now    *http.Transport
	since  time.Time       // when now was made
	before *http.Transport // the one that now has replaced; nil: none
}

// clientStats counts what a client did.
type clientStats struct {
	requests, hedges, failures, invalid atomic.Uint64
}

// Stats is what a client did since it was made.
type Stats struct {
	Requests uint64 // to replicas, this one among them
	Hedges   uint64 // of these, because another one was slow
	Failures uint64 // of these, without an answer
	Invalid  uint64 // of these, with an answer that did not match the request
}

// NewClient checks cfg and makes a Client.
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.Self == nil || cfg.Dial == nil {
		return nil, errors.New("a client of partitions needs an identity and a way to dial")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	c := &Client{cfg: cfg, tails: newTails(), nodes: newNodes(), since: time.Now()}
	c.now = cfg.transport()
	return c, nil
}

func (cfg *ClientConfig) transport() *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	return &http.Transport{
		Protocols: &protocols, TLSClientConfig: cfg.Self.ClientTLS(), DisableCompression: true,
		TLSHandshakeTimeout: cfg.Timeout, IdleConnTimeout: 5 * time.Minute,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			node, err := cfg.Self.Instance().Node(host)
			if err != nil {
				return nil, err
			}
			return cfg.Dial(ctx, node)
		},
		// A connection whose other end is gone without a word is found out.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: cfg.Timeout},
	}
}

// transport returns connections whose certificates, at both ends, are valid for longer than a request takes. A
// connection that is always in use would otherwise outlive them: the other side would refuse its requests, and probes
// would be sent to a replica that cannot prove itself any more.
func (c *Client) transport() *http.Transport {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.since) >= c.cfg.Self.Reuse() {
		c.now.CloseIdleConnections() // those in use close when they have been idle for a while
		c.before, c.now, c.since = c.now, c.cfg.transport(), time.Now()
	}
	return c.now
}

// Close closes idle connections. No search may be under way.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.CloseIdleConnections()
	if c.before != nil {
		c.before.CloseIdleConnections()
	}
}

// Stats returns the counts.
func (c *Client) Stats() Stats {
	return Stats{
		Requests: c.stats.requests.Load(), Hedges: c.stats.hedges.Load(), Failures: c.stats.failures.Load(),
		Invalid: c.stats.invalid.Load(),
	}
}

// UnavailableError says that no replica of a partition answered, so that there is no answer at all.
type UnavailableError struct {
	Partition  Partition
	RetryAfter time.Duration
	Causes     []error // one for each replica that was asked
}

// Error says what failed, without the name of the collection.
func (e *UnavailableError) Error() string {
	return fmt.Sprintf("partition %d of %d is not available: %v", e.Partition.Index, e.Partition.Count,
		errors.Join(e.Causes...))
}

// Unwrap returns why each replica gave no answer.
func (e *UnavailableError) Unwrap() []error { return e.Causes }

// Search answers a query over all partitions of a collection; nodes names the replicas of each, as placement.Place
// returns them, and q.Index and q.Count are set by it. The answer has the candidates that one gallery with all faces
// would give, in their order, the number of faces in all partitions, and the fewest changes that a partition has seen.
//
// Errors: an *UnavailableError; one that wraps ErrBehind; the cause of ctx; else q is malformed. It never answers with
// a part. The probes are not used after it has returned.
func (c *Client) Search(ctx context.Context, q Query, nodes [][]string) (Found, error) {
	q.Count = len(nodes)
	q.Index = 0
	probes := q.Probes
	var found Found
	for first := true; first || len(probes) > 0; first = false {
		n := min(len(probes), MostProbes)
		q.Probes = probes[:n]
		if err := q.check(); err != nil {
			return Found{}, err
		}
		part, err := c.together(ctx, q, nodes)
		if err != nil {
			return Found{}, err
		}
		if first {
			found.Stamp, found.Faces = part.Stamp, part.Faces
		}
		found.Changes = min(found.Changes, part.Changes)
		found.Candidates = append(found.Candidates, part.Candidates...)
		probes = probes[n:]
	}
	return found, nil
}

// together asks all partitions at the same time, and merges.
func (c *Client) together(ctx context.Context, q Query, nodes [][]string) (Found, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parts := make([]Found, len(nodes))
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i := range nodes {
		of := q
		of.Index = i
		ask := func() {
			if parts[i], errs[i] = c.partition(ctx, of, nodes[i]); errs[i] != nil {
				cancel() // there is no answer without this part
			}
		}
		if i == len(nodes)-1 {
			ask()
		} else {
			all.Go(ask)
		}
	}
	all.Wait()
	// The error that ended the others, rather than that they were ended.
	var failed error
	for _, err := range errs {
		if err != nil && (failed == nil || errors.Is(failed, context.Canceled)) {
			failed = err
		}
	}
	if failed != nil {
		return Found{}, failed
	}
	found := parts[0]
	lists := make([][]gallery.Candidate, len(parts))
	found.Faces = 0
	for i := range parts {
		found.Faces += parts[i].Faces
		found.Changes = min(found.Changes, parts[i].Changes)
	}
	merged := make([][]gallery.Candidate, len(q.Probes))
	for p := range q.Probes {
		for i := range parts {
			lists[i] = parts[i].Candidates[p]
		}
		merged[p] = gallery.Merge(q.K, q.ByOwner, lists...)
	}
	found.Candidates = merged
	return found, nil
}

// outcome is how an attempt ended.
type outcome struct {
	node  string
	found Found
	err   error
	took  time.Duration
}

// partition asks the replicas of one partition until one answers.
func (c *Client) partition(ctx context.Context, q Query, replicas []string) (Found, error) {
	order := c.nodes.order(replicas)
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	var attempts sync.WaitGroup
	defer attempts.Wait() // they use the probes
	defer cancel()
	outcomes := make(chan outcome, len(order))
	next, running := 0, 0
	launch := func() {
		node := order[next]
		next++
		running++
		attempts.Go(func() {
			start := time.Now()
			found, err := c.attempt(ctx, q, node)
			outcomes <- outcome{node, found, err, time.Since(start)}
		})
	}
	slow := c.tails.of(q.Collection)
	unavailable := &UnavailableError{Partition: q.Partition, RetryAfter: retryAfter * time.Second}
	if len(order) == 0 {
		unavailable.Causes = []error{errors.New("it has no replica")}
		return Found{}, unavailable
	}
	launch()
	wait, known := slow.p95()
	if !known {
		wait = c.cfg.Timeout / lateness
	}
	hedge := time.NewTimer(wait)
	defer hedge.Stop()
	late := false
	for {
		select {
		case <-hedge.C:
			if next == len(order) {
				continue
			}
			if late || c.tails.allow() {
				c.stats.hedges.Add(1)
				launch()
			} else {
				late = true
				hedge.Reset((lateness - 1) * wait)
			}
		case o := <-outcomes:
			running--
			if o.err == nil {
				slow.add(o.took)
				c.tails.earn()
				c.nodes.answered(o.node)
				if o.node != order[0] && running > 0 {
					c.nodes.overtaken(order[0])
				}
				return o.found, nil
			}
			if outer.Err() != nil {
				return Found{}, context.Cause(outer)
			}
			if errors.Is(o.err, ErrBehind) {
				return Found{}, o.err
			}
			c.stats.failures.Add(1)
			c.nodes.failed(o.node)
			unavailable.Causes = append(unavailable.Causes, fmt.Errorf("%s: %w", o.node, o.err))
			switch {
			case next < len(order):
				launch()
			case running == 0:
				return Found{}, unavailable
			}
		}
	}
}

// attempt asks one replica.
func (c *Client) attempt(ctx context.Context, q Query, node string) (Found, error) {
	c.stats.requests.Add(1)
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	if node == c.cfg.Self.Node() {
		if c.cfg.Local == nil {
			return Found{}, ErrNotHere
		}
		found, err := c.cfg.Local.Search(ctx, q)
		if err != nil {
			return Found{}, err
		}
		a := answer{index: q.Index, count: q.Count, version: q.Version, found: found}
		return c.checked(&a, &ask{query: q})
	}
	to := ask{instance: c.cfg.Self.Instance(), patience: c.cfg.Timeout, query: q}
	copy(to.id[:], rand.Text()) // 16 characters, 80 bits
	body := newSecretBody(to.encode())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+to.instance.Host(node)+path, body)
	if err != nil {
		body.Close()
		return Found{}, err
	}
	req.ContentLength = body.size
	// Called before the attempt ends, when a connection turns out to be closed.
	req.GetBody = func() (io.ReadCloser, error) { return newSecretBody(to.encode()), nil }
	connections := c.transport()
	resp, err := connections.RoundTrip(req)
	if err != nil {
		return Found{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Found{}, refused(resp)
	}
	if peer, err := c.cfg.Self.Peer(resp.TLS); err != nil || peer != node {
		connections.CloseIdleConnections() // a connection outlives the certificate it was made with
		return Found{}, fmt.Errorf("answered by %q: %w", peer, errors.Join(err, errInvalidAnswer))
	}
	most := mostAnswerBytes(&q)
	if resp.ContentLength > int64(most) {
		c.stats.invalid.Add(1)
		return Found{}, fmt.Errorf("%w: %d bytes, more than %d", errInvalidAnswer, resp.ContentLength, most)
	}
	raw, err := readAll(resp.Body, int(resp.ContentLength), most)
	if err != nil {
		return Found{}, fmt.Errorf("read an answer: %w", err)
	}
	a, err := decodeAnswer(raw)
	if err != nil {
		c.stats.invalid.Add(1)
		return Found{}, err
	}
	return c.checked(&a, &to)
}

// checked returns what an answer found, unless it is none to the request.
func (c *Client) checked(a *answer, to *ask) (Found, error) {
	if err := a.check(to); err != nil {
		c.stats.invalid.Add(1)
		return Found{}, err
	}
	return a.found, nil
}

// readAll reads a body of size bytes, or of at most most where size is unknown.
func readAll(r io.Reader, size, most int) ([]byte, error) {
	if size < 0 {
		return io.ReadAll(io.LimitReader(r, int64(most)+1)) // one more than any answer: refused by its length
	}
	b := make([]byte, size)
	_, err := io.ReadFull(r, b)
	return b, err
}

// refused is the error of an answer without a result.
func refused(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // for the log; may be cut
	err := fmt.Errorf("status %d: %q", resp.StatusCode, text)
	switch resp.StatusCode {
	case http.StatusConflict:
		return fmt.Errorf("%w: %w", ErrBehind, err)
	case http.StatusServiceUnavailable:
		return fmt.Errorf("%w: %w", ErrNotHere, err)
	}
	return err
}

// secretBody is the body of a request with probes. The transport may read it after its request has ended, and closes it
// when it does not any more; then it is cleared.
type secretBody struct {
	size int64

	mu   sync.Mutex // guards the fields below
	all  []byte
	rest []byte
}

func newSecretBody(b []byte) *secretBody { return &secretBody{size: int64(len(b)), all: b, rest: b} }

func (b *secretBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *secretBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.all)
	b.rest = nil
	return nil
}
