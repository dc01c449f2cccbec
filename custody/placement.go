package custody

import (
	"context"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// place puts a resource under the watch that its key now has, or under none.
func (c *Custody) place(sp *space) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sp.mu.Lock() // within c.mu, so that of two calls the later one sees the newer state
	n, slot, gone := sp.note, sp.slot, sp.state.Deleted
	sp.mu.Unlock()
	var key watchKey
	if n.Key != nil && n.Flow == nil && !gone {
		key = watchKey{n.Key.Key.Unversioned(), slot.Version, n.Key.As, n.Key.Key.Version == ""}
	}
	if old := sp.watch; old != nil {
		if old.key == key {
			return
		}
		delete(old.spaces, sp.id)
		old.askNow() // it ends when it is empty
		sp.watch = nil
		sp.mu.Lock()
		c.transitLocked(sp, event{kind: questionsVoid})
		sp.mu.Unlock()
	}
	if key == (watchKey{}) {
		return
	}
	w := c.watches[key]
	if w == nil {
		w = &watch{key: key, ref: n.Key.at(slot.Version), spaces: map[sealed.SpaceID]*space{}, asked: true,
			looked: time.Now()}
		c.watches[key] = w
		wake(c.wake)
	}
	w.spaces[sp.id] = sp
	sp.watch = w
}

// Recheck has a key asked after now, in all its versions; it only queues. It is for whoever learns that a key changed.
func (c *Custody) Recheck(key visage.KeyRef) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.watches {
		if c.sameKey(w.ref, key) {
			w.askNow()
		}
	}
	for _, sp := range c.spaces {
		if sp.watch == nil {
			wake(sp.wake) // a change may be waiting for this key
		}
	}
}

// askNow has a resource's key asked after now.
func (c *Custody) askNow(sp *space) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if sp.watch != nil {
		sp.watch.askNow()
	}
	wake(sp.wake)
}

// members returns who depends on a watch. One without any is taken out.
func (c *Custody) members(w *watch) []*space {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*space
	for _, sp := range w.spaces {
		all = append(all, sp)
	}
	if len(all) == 0 {
		delete(c.watches, w.key)
	}
	return all
}

func (c *Custody) depends(w *watch, sp *space) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return sp.watch == w
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
