// Package custody decides who holds the key of a resource's data: the service or its customer, and whether the customer
// still lets it be used.
package custody

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// Auditor keeps what happened to keys. *audit.Log is one.
type Auditor interface {
	// Append returns when the event is on disk; what was about to happen does not when it fails.
	Append(ctx context.Context, e audit.Event) error
}

// Vaults knows what a key alone does not tell.
type Vaults interface {
	// Check returns a *visage.Refusal when a resource may not use the vault: unknown, without soft delete or purge
	// protection, in another region or tenant (management contract §5.2). Vaults it does not know of are allowed.
	Check(ctx context.Context, id sealed.SpaceID, key visage.KeyRef) error
}

// Config is what a Custody is made of.
type Config struct {
	Store *sealed.Store // required
	// Open returns a source over a key as one principal sees it. Every call gets a source of its own, with a new
	// connection and a new token: that is how a refusal is confirmed. A *visage.Refusal says that the key can never be
	// opened, such as one in a vault that this instance does not speak to. Required.
	Open func(ctx context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error)
	// Watch opens a source over a key that is asked after for as long as a resource is under it. It has a token of its
	// own, and may use connections that others use. Default: Open.
	Watch func(ctx context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error)
	// Today returns a key as it is addressed now. The vaults of an instance move with its public address, and what is
	// stored of a key names the address of the day: two references that are the same today are the same key. Default: a
	// key's address never changes.
	Today  func(visage.KeyRef) visage.KeyRef
	Audit  Auditor      // required
	Vaults Vaults       // default: nothing is checked but the key
	Policy Policy       // what holds for resources without a policy of their own
	Logger *slog.Logger // default: discard
}

// Policy is what happens to a resource when its key does not simply say yes.
type Policy struct {
	Grace         time.Duration `json:"grace,omitempty"`         // how long a vault may give no answer; 1 min to 24 h; default 60 min
	LockOnExpiry  bool          `json:"lockOnExpiry,omitempty"`  // an expired key locks, though it still unwraps
	ManualRestore bool          `json:"manualRestore,omitempty"` // access that returns opens only by Unlock
}

// The bounds of Policy.Grace, its default, and the value for who wants a revocation to come through an outage soon.
const (
	MinGrace     = time.Minute
	MaxGrace     = 24 * time.Hour
	DefaultGrace = time.Hour
	StrictGrace  = 5 * time.Minute
)

func (p Policy) valid() error {
	if p.Grace < MinGrace || p.Grace > MaxGrace {
		return fmt.Errorf("a grace of %v is not between %v and %v", p.Grace, MinGrace, MaxGrace)
	}
	return nil
}

// maxCalls is how many calls to vaults are under way at once, so that a start with very many keys is no storm. It is so
// large that vaults that take their whole time do not hold up the questions to others: with 5 s an answer, this many
// calls at once ask 5,000 keys within a poll's time.
const maxCalls = 1024

// Custody holds the keys of all resources of a store. It is safe for concurrent use.
type Custody struct {
	cfg   Config
	log   *slog.Logger
	calls chan struct{}            // holds one token a call
	wake  chan struct{}            // Run has something to start
	dues  chan *watch              // whose time has come
	fault func(point string) error // tests fail here; nil otherwise
	polls *prometheus.CounterVec
	opens sync.WaitGroup // openings under way

	mu      sync.Mutex // guards both maps and what watches say it guards; taken before a space's mu
	spaces  map[sealed.SpaceID]*space
	watches map[watchKey]*watch
}

// New reads how the keys of all resources stand, and closes those that are under a customer's key until the key has
// answered once. It starts nothing; see Run.
func New(ctx context.Context, cfg Config) (*Custody, error) {
	if cfg.Policy.Grace == 0 {
		cfg.Policy.Grace = DefaultGrace
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Today == nil {
		cfg.Today = func(key visage.KeyRef) visage.KeyRef { return key }
	}
	if cfg.Watch == nil {
		cfg.Watch = cfg.Open
	}
	if cfg.Store == nil || cfg.Open == nil || cfg.Audit == nil {
		return nil, errors.New("custody: a store, a way to open keys and an auditor are needed")
	}
	if err := cfg.Policy.valid(); err != nil {
		return nil, fmt.Errorf("custody: %w", err)
	}
	c := &Custody{
		cfg: cfg, log: cfg.Logger, calls: make(chan struct{}, maxCalls), wake: make(chan struct{}, 1), dues: make(chan *watch), polls: newPolls(),
		spaces: map[sealed.SpaceID]*space{}, watches: map[watchKey]*watch{},
	}
	ids, err := cfg.Store.Spaces(ctx)
	if err != nil {
		return nil, fmt.Errorf("custody: %w", err)
	}
	for _, id := range ids {
		if id == sealed.Operator {
			continue
		}
		if _, err := c.space(ctx, id); err != nil { // a damaged bundle is one resource's misfortune
			c.log.ErrorContext(ctx, "keys of a resource not read", "resource", id.String(), "err", err)
		}
	}
	return c, nil
}

// Run asks after the keys, follows their versions and finishes what a crash or an outage interrupted, until ctx ends. It
// returns when all it started has ended.
func (c *Custody) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer c.opens.Wait()
	defer work.Wait()
	defer c.rest()
	c.begin(ctx, &work)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
			c.begin(ctx, &work)
		case w := <-c.dues:
			c.attend(ctx, &work, w)
		}
	}
}

// begin starts what is new: the first question after a key, and changes that nobody drives.
func (c *Custody) begin(ctx context.Context, work *sync.WaitGroup) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.watches {
		if w.timer == nil {
			w.timer = time.AfterFunc(0, func() { c.due(ctx, w) })
		}
	}
	for _, sp := range c.spaces {
		if sp.claimFlow() {
			work.Go(func() { c.resume(ctx, sp) })
		}
	}
}

// rest stops all timers.
func (c *Custody) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.watches {
		if w.timer != nil {
			w.timer.Stop()
		}
	}
}

// space returns what is known of a resource, reading it when it is new. Errors: sealed.ErrNoSpace and what else reading
// says.
func (c *Custody) space(ctx context.Context, id sealed.SpaceID) (*space, error) {
	c.mu.Lock()
	sp := c.spaces[id]
	c.mu.Unlock()
	if sp != nil {
		return sp, nil
	}
	sp = &space{id: id, bundle: c.cfg.Store.Bundle(id), wake: make(chan struct{}, 1)}
	if err := sp.read(ctx); err != nil {
		return nil, err
	}
	c.mu.Lock()
	if other := c.spaces[id]; other != nil {
		c.mu.Unlock()
		return other, nil
	}
	c.spaces[id] = sp
	sp.mu.Lock()
	t := c.transitLocked(sp, event{kind: started, stored: sp.storedLocked()})
	sp.mu.Unlock()
	c.mu.Unlock()
	return sp, c.complete(ctx, sp, t)
}

// Forget drops what is known of a resource that was deleted. It is for whoever learns of it, and only takes a lock.
func (c *Custody) Forget(id sealed.SpaceID) {
	c.mu.Lock()
	sp := c.spaces[id]
	c.mu.Unlock()
	if sp != nil {
		c.forget(sp)
	}
}

// forget drops what is known of a resource that is no more.
func (c *Custody) forget(sp *space) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spaces[sp.id] == sp {
		delete(c.spaces, sp.id)
	}
	if w := sp.watch; w != nil {
		delete(w.spaces, sp.id)
		w.askNow() // it ends when it is empty
		sp.watch = nil
	}
	wake(sp.wake)
}

// record writes an event about a resource.
func (c *Custody) record(ctx context.Context, sp *space, kind audit.Kind, outcome audit.Outcome, key *binding, version string,
	details map[audit.Detail]string) error {
	e := audit.Event{Kind: kind, Outcome: outcome, Resource: visage.ResourceID(sp.id), Details: details}
	if key != nil {
		e.KeyID, e.KeyVersion = c.cfg.Today(key.Key).Unversioned(), version
	}
	if err := c.cfg.Audit.Append(ctx, e); err != nil {
		return fmt.Errorf("audit %s: %w", kind, err)
	}
	return nil
}

// tell is record for what has happened already: a failure is the log's.
func (c *Custody) tell(ctx context.Context, sp *space, kind audit.Kind, outcome audit.Outcome, details map[audit.Detail]string) {
	key, version := sp.inUse()
	if err := c.record(context.WithoutCancel(ctx), sp, kind, outcome, key, version, details); err != nil {
		c.log.ErrorContext(ctx, "not audited", "resource", sp.id.String(), "err", err)
	}
}
