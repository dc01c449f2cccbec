package commit

import (
	"context"
	"slices"
	"sync"

	"github.com/visage-face/visage/sealed/internal/keys"
)

// floor says whose turn it is to write to a space: one at a time, in the order in which they came. Whoever has it
// hands it to the next.
type floor struct {
	// for whoever has the floor
	open     *group // that the next may join
	expected int    // how many may come soon, by the size of the last groups

	mu      sync.Mutex // guards all below
	taken   bool
	waiting []*waiter
}

// claim is what somebody wants the floor for: to write to the engine alone, or as a member of a group that has the
// same keys.
type claim struct {
	alone bool
	ring  *keys.Ring
	fence uint64
}

type waiter struct {
	claim
	granted chan struct{}
}

// take waits for the floor, or until ctx ends: then it returns its cause. A group that is open may be joined.
func (q *Queue) take(ctx context.Context, as claim) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f := &q.floor
	f.mu.Lock()
	if !f.taken {
		f.taken = true
		f.mu.Unlock()
		return nil
	}
	w := &waiter{as, make(chan struct{})}
	f.waiting = append(f.waiting, w)
	f.mu.Unlock()
	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
	}
	f.mu.Lock()
	i := slices.Index(f.waiting, w)
	if i >= 0 {
		f.waiting = slices.Delete(f.waiting, i, i+1)
	}
	f.mu.Unlock()
	if i < 0 { // it was granted meanwhile
		q.giveFloor()
	}
	return context.Cause(ctx)
}

// pass lets the next in line have the floor. There is no group open.
func (f *floor) pass() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiting) == 0 {
		f.taken = false
		return
	}
	f.passLocked()
}

func (f *floor) passLocked() {
	next := f.waiting[0]
	f.waiting = slices.Delete(f.waiting, 0, 1)
	close(next.granted)
}

// passWithin lets the next in line have the floor with a group that is open, and reports whether there is one that may
// join it.
func (f *floor) passWithin(g *group) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiting) == 0 || !g.mayTake(f.waiting[0].claim) {
		return false
	}
	f.passLocked()
	return true
}
