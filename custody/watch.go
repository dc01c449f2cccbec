package custody

import (
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// watchKey tells apart what has to be asked for separately: a vault may refuse one principal and not another.
type watchKey struct {
	uri, version string
	as           visage.PrincipalID
	follow       bool
}

// watch is one key in one version as one principal sees it, and the resources that stand and fall with it.
//
// Between two polls it is a timer and no goroutine: there may be very many.
type watch struct {
	key watchKey
	ref visage.KeyRef

	// guarded by Custody.mu
	spaces   map[sealed.SpaceID]*space
	timer    *time.Timer // has Run attend to it when it goes off; nil: Run does not know it yet
	asking   bool        // a goroutine attends to it
	asked    bool        // it is to be asked at once
	lastLook time.Time   // for a newer version

	following bool // resources go over to a newer version

	// Of the goroutine that attends to it.
	src          keysource.Source
	privatePolls int // questions left until src, which has a connection of its own, makes room for one that shares
	failures     int
	okPolls      int       // polls with a good answer since the dates were looked at
	expires      time.Time // of the key, when it was looked at last; zero: never
	expired      bool
}

// askNow has a key asked after now. Custody.mu is held.
func (w *watch) askNow() {
	w.asked = true
	if w.timer != nil && !w.asking {
		w.timer.Reset(0)
	}
}

// place puts a resource under the watch that its key now has, or under none.
func (c *Custody) assignWatch(sp *space) {
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
		c.transitionLocked(sp, event{kind: questionsVoid})
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

func (c *Custody) dependsOn(w *watch, sp *space) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return sp.watch == w
}

// wake wakes the goroutine that waits for ch, if it sleeps.
func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // it is awake already
	}
}
