package engine

import (
	"context"
	"slices"
	"sync"

	"github.com/visage-face/visage/sealed/internal/format"
)

// Locks lets one transaction of a scope in at a time, or one of all scopes, in the order in which they came. The zero
// Locks is free.
type Locks struct {
	mu      sync.Mutex
	held    []claim
	waiting []*claim
}

// claim is of one scope, or of all.
type claim struct {
	scope   format.ID
	all     bool
	granted chan struct{}
}

func (c claim) excludes(d claim) bool { return c.all || d.all || c.scope == d.scope }

// Lock waits until the scope is free, or until ctx ends: then it returns its cause.
func (l *Locks) Lock(ctx context.Context, scope format.ID) error {
	return l.lock(ctx, claim{scope: scope})
}

// LockAll waits until all scopes are free.
func (l *Locks) LockAll(ctx context.Context) error { return l.lock(ctx, claim{all: true}) }

// Unlock gives up what Lock got.
func (l *Locks) Unlock(scope format.ID) { l.unlock(claim{scope: scope}) }

// UnlockAll gives up what LockAll got.
func (l *Locks) UnlockAll() { l.unlock(claim{all: true}) }

func (l *Locks) lock(ctx context.Context, c claim) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	l.mu.Lock()
	if l.freeLocked(c, l.waiting) {
		l.held = append(l.held, c)
		l.mu.Unlock()
		return nil
	}
	c.granted = make(chan struct{})
	l.waiting = append(l.waiting, &c)
	l.mu.Unlock()
	select {
	case <-c.granted:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	i := slices.Index(l.waiting, &c)
	if i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
		l.grantLocked()
	}
	l.mu.Unlock()
	if i < 0 { // it was granted meanwhile
		l.unlock(c)
	}
	return context.Cause(ctx)
}

// freeLocked reports whether a claim excludes none that is held, and none that came before it.
func (l *Locks) freeLocked(c claim, before []*claim) bool {
	waits := func(w *claim) bool { return c.excludes(*w) }
	return !slices.ContainsFunc(l.held, c.excludes) && !slices.ContainsFunc(before, waits)
}

func (l *Locks) unlock(c claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.held, func(h claim) bool { return h.all == c.all && h.scope == c.scope })
	l.held = slices.Delete(l.held, i, i+1)
	l.grantLocked()
}

func (l *Locks) grantLocked() {
	for i := 0; i < len(l.waiting); {
		c := l.waiting[i]
		if !l.freeLocked(*c, l.waiting[:i]) {
			i++
			continue
		}
		l.waiting = slices.Delete(l.waiting, i, i+1)
		l.held = append(l.held, *c)
		close(c.granted)
	}
}
