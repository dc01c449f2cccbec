package custody

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/sealed/follow"
)

// New reads the stored state of all resources. Resources under a customer's key stay locked until the key has answered.
// New starts nothing; see Run.
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
		return nil, errors.New("custody: Store, Open and Audit are required")
	}
	if err := cfg.Policy.valid(); err != nil {
		return nil, fmt.Errorf("custody: %w", err)
	}
	calls := make(vaultCalls, maxCalls)
	cfg.Open, cfg.Watch = calls.bound(cfg.Open), calls.bound(cfg.Watch)
	c := &Custody{
		cfg: cfg, log: cfg.Logger, wake: make(chan struct{}, 1), due: make(chan *watch), polls: newPolls(),
		spaces: map[sealed.SpaceID]*space{}, watches: map[watchKey]*watch{}, shared: cfg.Store.Shared(),
		pending: map[sealed.SpaceID]bool{},
	}
	c.changes = follow.New(follow.Config[map[sealed.SpaceID]uint64]{Store: cfg.Store, Name: "custody",
		Read: readChanges, Swapped: c.noticeChanges, Logger: cfg.Logger})
	if err := c.changes.Load(ctx); err != nil {
		return nil, fmt.Errorf("custody: %w", err)
	}
	ids, err := cfg.Store.Spaces().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("custody: %w", err)
	}
	if err := c.forgetChanges(ctx, ids); err != nil {
		c.log.WarnContext(ctx, "what was stored of former resources not removed", "err", err)
	}
	for _, id := range ids {
		if id == sealed.Operator {
			continue
		}
		if _, err := c.space(ctx, id); err != nil { // a damaged bundle stops no other resource
			c.log.ErrorContext(ctx, "keys of a resource not read", "resource", id.String(), "err", err)
		}
	}
	return c, nil
}

// Run polls the keys, follows their newer versions and what other processes store, and finishes changes that a crash or
// an outage interrupted, until ctx ends. It returns when everything it started has ended.
func (c *Custody) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer c.background.Wait()
	defer work.Wait()
	defer c.stopTimers()
	work.Go(func() { follow.Run(ctx, c.log, c.changes) })
	c.startWork(ctx, &work)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
			c.startWork(ctx, &work)
		case w := <-c.due:
			c.startPoll(ctx, &work, w)
		}
	}
}

// startWork starts the first poll of every new watch and resumes changes that no goroutine works on.
func (c *Custody) startWork(ctx context.Context, work *sync.WaitGroup) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.watches {
		if w.timer == nil {
			w.timer = time.AfterFunc(0, func() { c.queueWatch(ctx, w) })
		}
	}
	for id, refused := range c.takePending() {
		work.Go(func() { c.look(ctx, id, refused) })
	}
	for _, sp := range c.spaces {
		if sp.claimFlow() {
			work.Go(func() {
				defer c.askBeside(ctx, sp)()
				for c.claimedFlow(ctx, sp) {
					if c.resumeChange(ctx, sp); !sp.claimFlow() {
						return
					}
				}
			})
		}
	}
}

// stopTimers stops the timers of all watches and resources.
func (c *Custody) stopTimers() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.watches {
		if w.timer != nil {
			w.timer.Stop()
		}
	}
	for _, sp := range c.spaces {
		if sp.failOver != nil {
			sp.failOver.Stop()
		}
	}
}

// Current makes sure that the changes of customers' keys known here are not older than a second: see follow.Value.
func (c *Custody) Current(ctx context.Context) error { return follow.Current(ctx, c.changes) }
