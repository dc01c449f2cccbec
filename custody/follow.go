package custody

import (
	"context"
	"sync"
	"time"

	"github.com/visage-face/visage/keysource"
)

// beginFollow looks for a newer version if it is time, or asked for, beside the polls: going over to it takes many
// calls, and the resources that are still under the present version depend on its answers meanwhile.
func (c *Custody) beginFollow(ctx context.Context, w *watch, all []*space, asked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case w.following && asked:
		w.lastLook = time.Time{} // the next poll looks again
		return
	case w.following, !asked && time.Since(w.lastLook) < followInterval:
		return
	}
	w.following, w.lastLook = true, time.Now()
	src := w.src
	c.background.Go(func() {
		again := c.follow(ctx, w, src, all)
		c.mu.Lock()
		defer c.mu.Unlock()
		w.following = false
		if again > 0 && !w.lastLook.IsZero() {
			w.lastLook = time.Now().Add(again - followInterval) // look again when it may
		}
	})
}

// follow takes resources whose reference has no version along to the newest one, if that is good. It returns after what
// time those may follow that have followed only just now; 0: there are none.
func (c *Custody) follow(ctx context.Context, w *watch, src keysource.Source, all []*space) (again time.Duration) {
	var newest keysource.Description
	err := c.calls.do(ctx, func(ctx context.Context) (err error) {
		newest, err = src.Describe(ctx, keysource.Ref{})
		return err
	})
	if err != nil || newest.Ref.Version == w.key.version || checkDescription(w.ref, newest) != nil {
		return 0
	}
	var work sync.WaitGroup
	defer work.Wait()
	tried := false // one first: should the new version be no good after all, the others are not tried with it
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

// followOne takes one resource along, and reports whether nothing speaks against the others.
func (c *Custody) followOne(ctx context.Context, w *watch, sp *space, version string) bool {
	if !c.dependsOn(w, sp) || !sp.claim() {
		return true
	}
	defer wake(c.wake) // the change may have to be finished, or undone, by Run
	defer sp.release()
	sp.mu.Lock()
	key, closed := sp.note.Key, sp.state.Locked
	sp.mu.Unlock()
	if key == nil || closed {
		return true
	}
	_, err := c.beginChange(ctx, sp, Following, key, version)
	if err != nil {
		c.log.WarnContext(ctx, "newer version of a key not followed", "resource", sp.id.String(), "err", err)
	}
	return err == nil
}
