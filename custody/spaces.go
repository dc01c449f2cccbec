package custody

import (
	"context"

	"github.com/visage-face/visage/sealed"
)

// space returns the space of a resource, and reads it at its first use. Errors: sealed.ErrNoSpace, and those of
// reading.
func (c *Custody) space(ctx context.Context, id sealed.SpaceID) (*space, error) {
	c.mu.Lock()
	sp := c.spaces[id]
	c.mu.Unlock()
	if sp != nil {
		return sp, nil
	}
	sp = &space{id: id, bundle: c.cfg.Store.Bundle(id), wake: make(chan struct{}, 1),
		again: func(refused bool) { c.lookSoon(id, refused) },
		ask:   make(chan struct{}, 1)}
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
	t := c.applyEventLocked(sp, event{kind: started, stored: sp.storedStateLocked()})
	sp.mu.Unlock()
	c.mu.Unlock()
	return sp, c.runFollowUp(ctx, sp, t)
}

// Forget drops a resource whose space was destroyed. It does not wait.
func (c *Custody) Forget(id sealed.SpaceID) {
	c.mu.Lock()
	sp := c.spaces[id]
	c.mu.Unlock()
	if sp != nil {
		c.forget(sp)
	}
}

// forget drops a space and removes it from its watch.
func (c *Custody) forget(sp *space) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spaces[sp.id] == sp {
		delete(c.spaces, sp.id)
	}
	for _, w := range sp.watches {
		w.leave(sp)
	}
	sp.watches = nil
	if sp.failOver != nil {
		sp.failOver.Stop()
	}
	wake(sp.wake)
}
