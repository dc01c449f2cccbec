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
)

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
		cfg: cfg, log: cfg.Logger, calls: make(calls, maxCalls), wake: make(chan struct{}, 1), dues: make(chan *watch),
		polls:  newPolls(),
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

// Run asks after the keys, follows their versions and finishes what a crash or an outage interrupted, until ctx ends.
// It returns when all it started has ended.
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
