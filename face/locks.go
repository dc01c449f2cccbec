package face

import (
	"context"
	"sync"
	"time"

	"github.com/visage-face/visage"
)

// longestQueue is how long a change waits for earlier changes of the same object. Each takes one durable write, so a
// longer wait means that very many callers change the object at once.
const longestQueue = 10 * time.Second

// locks runs changes of one object one after another; changes of different objects run at the same time.
type locks struct {
	mu   sync.Mutex
	held map[string]*lock
}

type lock struct {
	turn  chan struct{} // holds one value while the lock is free
	users int
}

// acquire waits for the lock of an object and returns the function that releases it. It fails when ctx ends, and after
// longestQueue with the contract's refusal.
func (l *locks) acquire(ctx context.Context, object string) (release func(), err error) {
	l.mu.Lock()
	k := l.held[object]
	if k == nil {
		if l.held == nil {
			l.held = make(map[string]*lock)
		}
		k = &lock{turn: make(chan struct{}, 1)}
		k.turn <- struct{}{}
		l.held[object] = k
	}
	k.users++
	l.mu.Unlock()

	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.held, object)
		}
	}
	timer := time.NewTimer(longestQueue)
	defer timer.Stop()
	select {
	case <-k.turn:
		return func() {
			k.turn <- struct{}{}
			leave()
		}, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	case <-timer.C:
		leave()
		return nil, visage.Refuse(visage.Conflict, "ConcurrentOperationConflict",
			"Other changes of the same object are in progress. Try again later.")
	}
}
