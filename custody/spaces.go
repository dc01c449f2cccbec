package custody

import (
	"context"

	"github.com/visage-face/visage/sealed"
)

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
	t := c.transitionLocked(sp, event{kind: started, stored: sp.storedStateLocked()})
	sp.mu.Unlock()
	c.mu.Unlock()
	return sp, c.runFollowUp(ctx, sp, t)
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
