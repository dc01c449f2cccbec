package commit

import (
	"context"
	"slices"
	"sync"

	"github.com/visage-face/visage/sealed/internal/keys"
)

// floor says whose turn it is to write to a space: one at a time, in the order in which they came. The holder
// passes it to the next.
type floor struct {
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

// take waits for the floor, or until ctx ends: then it returns its cause, and whether the caller has the floor all the
// same, as it was granted meanwhile.
func (f *floor) take(ctx context.Context, as claim) (has bool, err error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	f.mu.Lock()
	if !f.taken {
		f.taken = true
		f.mu.Unlock()
		return true, nil
	}
	w := &waiter{as, make(chan struct{})}
	f.waiting = append(f.waiting, w)
	f.mu.Unlock()
	select {
	case <-w.granted:
		return true, nil
	case <-ctx.Done():
	}
	f.mu.Lock()
	i := slices.Index(f.waiting, w)
	if i >= 0 {
		f.waiting = slices.Delete(f.waiting, i, i+1)
	}
	f.mu.Unlock()
	return i < 0, context.Cause(ctx)
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

// passIf lets the next in line have the floor if it may, and reports whether it does.
func (f *floor) passIf(may func(claim) bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiting) == 0 || !may(f.waiting[0].claim) {
		return false
	}
	f.passLocked()
	return true
}
