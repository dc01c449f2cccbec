package custody

import (
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// watchKey identifies a watch. Keys are asked separately for each principal, because a vault may refuse one principal
// and not another.
type watchKey struct {
	uri, version string
	as           visage.PrincipalID
	follow       bool
}

// watch polls one version of a key as one principal, for all resources that depend on its answer.
//
// Between two polls it is a timer and no goroutine, because there may be very many watches.
type watch struct {
	key watchKey
	ref visage.KeyRef

	// guarded by Custody.mu
	spaces   map[sealed.SpaceID]*space
	timer    *time.Timer // has Run poll the key when it fires; nil: Run has not started it yet
	asking   bool        // a poll is under way
	asked    bool        // the key is to be asked at once
	lastLook time.Time   // for a newer version

	following bool      // resources move to a newer version
	ends      time.Time // as expires, for readers

	// Used by the goroutine of the poll only.
	src          keysource.Source
	privatePolls int // polls left over the private connection of src; then a shared one is used
	failures     int
	okPolls      int       // polls that the key has answered with yes
	expires      time.Time // the last known expiry date; zero: none
	expired      bool
}

// askNow has the key asked by a poll that begins after now. Custody.mu is held.
func (w *watch) askNow() {
	w.asked = true
	if w.timer != nil && !w.asking {
		w.timer.Reset(0)
	}
}

// assignWatch assigns a resource to the watch of its present key. During a change and while it is deleted, a resource
// has none.
func (c *Custody) assignWatch(sp *space) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sp.mu.Lock() // within c.mu, so that the later one of two calls sees the newer state
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
		old.askNow() // a watch without resources ends
		sp.watch = nil
		sp.mu.Lock()
		c.applyEventLocked(sp, event{kind: answersDiscarded})
		sp.mu.Unlock()
	}
	if key == (watchKey{}) {
		return
	}
	w := c.watches[key]
	if w == nil {
		w = &watch{key: key, ref: n.Key.at(slot.Version), spaces: map[sealed.SpaceID]*space{}, asked: true,
			lastLook: time.Now()}
		c.watches[key] = w
		wake(c.wake)
	}
	w.spaces[sp.id] = sp
	sp.watch = w
}

// Recheck has all versions of a key asked at once, because the key may have changed. It does not wait for the answers.
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

// askNow has a resource's key asked by a poll, or by the attempt of a change, that begins after now.
func (c *Custody) askNow(sp *space) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if sp.watch != nil {
		sp.watch.askNow()
	}
	wake(sp.wake)
}

// dependents returns the resources that depend on a watch. A watch without any is removed.
func (c *Custody) dependents(w *watch) []*space {
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

// dependsOn reports whether a resource depends on a watch now.
func (c *Custody) dependsOn(w *watch, sp *space) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return sp.watch == w
}

// wake wakes the goroutine that waits for ch. It does not block.
func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // already signalled
	}
}
