package custody

import (
	"slices"
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
	search   bool        // the next poll that the key answers with yes is to search for a newer version
	lastLook time.Time   // for a newer version

	following bool      // a newer version is searched for, or resources move to one
	ends      time.Time // as expires, for readers
	next      time.Time // when the key is asked next; zero: it was not asked yet

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

// searchNow has the key asked as askNow does, and a newer version searched for. Custody.mu is held.
func (w *watch) searchNow() {
	w.search = true
	w.askNow()
}

// leave removes a resource from a watch. Custody.mu is held.
func (w *watch) leave(sp *space) {
	delete(w.spaces, sp.id)
	w.askNow() // a watch without resources ends
}

// assignWatch assigns a resource to the watches of its present keys. During a change and while it is deleted, a
// resource has none.
func (c *Custody) assignWatch(sp *space) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sp.mu.Lock() // within c.mu, so that the later one of two calls sees the newer state
	var stores []storeKey
	if sp.note.Flow == nil && !sp.state.Deleted {
		stores = sp.storesLocked()
	}
	failed := sp.failedMoveLocked()
	sp.mu.Unlock()
	keys := make([]watchKey, len(stores))
	for i, k := range stores {
		keys[i] = watchKey{k.uri(), k.Version, k.As, k.Key.Version == ""}
	}
	same := slices.EqualFunc(sp.watches, keys, func(w *watch, key watchKey) bool { return w.key == key })
	if same {
		return
	}
	for _, old := range sp.watches {
		if !slices.Contains(keys, old.key) {
			old.leave(sp)
		}
	}
	if sp.watches != nil {
		sp.mu.Lock()
		c.applyEventLocked(sp, event{kind: answersDiscarded})
		sp.mu.Unlock()
	}
	sp.watches = nil
	for i, key := range keys {
		w := c.watches[key]
		if w == nil {
			// After a move that has failed, this watch replaces the one that has begun it, in every process.
			w = &watch{key: key, ref: stores[i].ref(), spaces: map[sealed.SpaceID]*space{}, asked: true,
				search: failed.IsZero(), lastLook: failed}
			c.watches[key] = w
			wake(c.wake)
		}
		if sp.search {
			w.searchNow()
		}
		w.spaces[sp.id] = sp
		sp.watches = append(sp.watches, w)
	}
	sp.search = sp.search && sp.watches == nil
}

// failedMoveLocked returns when the last change of a resource has failed, if that was a move to a newer version and not
// only a stop of the service; else zero. sp.mu is held.
func (sp *space) failedMoveLocked() time.Time {
	last := sp.note.Last
	if last == nil || last.Kind != Following || last.Progress != Failed || last.Code == errInterrupted.Code {
		return time.Time{}
	}
	return last.Ended
}

// askOthers has the keys beside the first asked at a time.
func (c *Custody) askOthers(sp *space, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if sp.failOver != nil {
		sp.failOver.Reset(time.Until(at))
		return
	}
	sp.failOver = time.AfterFunc(time.Until(at), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(sp.watches) > 1 {
			for _, w := range sp.watches[1:] {
				w.askNow()
			}
		}
	})
}

// Recheck has all versions of a key asked at once, because the key may have changed, and newer ones searched for. It
// does not wait for the answers.
func (c *Custody) Recheck(key visage.KeyRef) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.watches {
		if c.sameKey(w.ref, key) {
			w.searchNow()
		}
	}
	for _, sp := range c.spaces {
		if sp.watches != nil {
			continue
		}
		wake(sp.wake) // a change may be waiting for this key
		wake(sp.ask)
		sp.mu.Lock()
		sp.search = sp.search || slices.ContainsFunc(sp.storesLocked(), func(k storeKey) bool {
			return c.sameKey(k.Key, key)
		})
		sp.mu.Unlock()
	}
}

// askNow has a resource's key asked by a poll, or by the attempt of a change, that begins after now.
func (c *Custody) askNow(sp *space) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range sp.watches {
		w.searchNow()
	}
	wake(sp.wake)
	wake(sp.ask)
}

// dependents returns the resources that depend on a watch. A watch without any is removed.
func (c *Custody) dependents(w *watch) []*space {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*space
	for _, sp := range w.spaces {
		all = append(all, sp)
	}
	if len(all) == 0 && c.watches[w.key] == w {
		delete(c.watches, w.key)
	}
	return all
}

// dependsOn reports whether a resource depends on a watch now.
func (c *Custody) dependsOn(w *watch, sp *space) bool {
	_, depends := c.storeOf(w, sp)
	return depends
}

// storeOf returns which store of a resource a watch asks, 0 the first, and whether it asks one at all now.
func (c *Custody) storeOf(w *watch, sp *space) (store int, depends bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	store = slices.Index(sp.watches, w)
	return store, store >= 0
}

// wake wakes the goroutine that waits for ch. It does not block.
func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // already signalled
	}
}
