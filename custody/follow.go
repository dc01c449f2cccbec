package custody

import (
	"context"
	"sync"
	"time"

	"github.com/visage-face/visage/keysource"
)

// beginFollow searches for a newer version in the background, if it is time or asked for. Moving to it takes many
// calls, and the resources that are still under the present version need its polls meanwhile. A resource leaves its
// watch to move, and returns if the move fails: that has the key asked, but no version searched for, or a version that
// cannot be used would be tried again and again.
func (c *Custody) beginFollow(ctx context.Context, w *watch, all []*space) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.following || !w.search && time.Since(w.lastLook) < followInterval {
		return
	}
	w.following, w.search, w.lastLook = true, false, time.Now()
	src := w.src
	c.background.Go(func() {
		again := c.follow(ctx, w, src, all)
		c.mu.Lock()
		defer c.mu.Unlock()
		w.following = false
		if again > 0 {
			w.lastLook = time.Now().Add(again - followInterval) // search again when it may follow
		}
		if now := c.watches[w.key]; w.search && now != nil { // the key may have changed since it was described
			now.searchNow()
		}
	})
}

// follow moves resources whose reference has no version to the newest version, if that is suitable. If some have
// followed too recently, it returns after what time they may follow; else 0.
func (c *Custody) follow(ctx context.Context, w *watch, src keysource.Source, all []*space) (again time.Duration) {
	newest, err := src.Describe(ctx, keysource.Ref{})
	if err != nil || newest.Ref.Version == w.key.version || checkDescription(w.ref, newest) != nil {
		return 0
	}
	var work sync.WaitGroup
	defer work.Wait()
	tried := false // one resource moves first, so that a bad version harms no others
	for _, sp := range all {
		if soon := followGuard - time.Since(sp.noteNow().Followed); soon > 0 {
			again = soon
			continue
		}
		if !tried {
			if !c.followOne(ctx, w, sp, newest.Ref.Version) {
				return again
			}
			tried = true
			continue
		}
		work.Go(func() { c.followOne(ctx, w, sp, newest.Ref.Version) })
	}
	return again
}

// followOne moves one resource to a version, and reports whether the others may follow.
func (c *Custody) followOne(ctx context.Context, w *watch, sp *space, version string) bool {
	if !c.dependsOn(w, sp) || !c.claim(ctx, sp) {
		return true
	}
	defer wake(c.wake) // Run finishes or undoes a change that is left
	defer sp.release()
	at, depends := c.storeOf(w, sp)
	stores, now := sp.stores(), sp.stateNow()
	if !depends || at >= len(stores) || now.DataLocked {
		return true
	}
	f := c.versionChange(Following, stores, at, storeKey{stores[at].binding, version})
	f.Opens = now.Serving
	_, err := c.beginChange(ctx, sp, f)
	if err != nil {
		c.log.WarnContext(ctx, "newer version of a key not followed", "resource", sp.id.String(), "err", err)
	}
	return err == nil
}
