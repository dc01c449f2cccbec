package face

import (
	"context"
	"sync"
	"time"

	"github.com/visage-face/visage"
)

// agenda is a set of resources with work to do. One worker at a time works on a resource; a resource that is added
// meanwhile is worked on again.
type agenda struct {
	mu     sync.Mutex
	due    map[visage.ResourceID]bool
	active map[visage.ResourceID]bool
	later  map[visage.ResourceID]bool // those of addLater
	news   chan struct{}              // holds one value when due may have a resource that no worker has taken
}

func newAgenda() *agenda {
	return &agenda{
		due: make(map[visage.ResourceID]bool), active: make(map[visage.ResourceID]bool),
		later: make(map[visage.ResourceID]bool), news: make(chan struct{}, 1),
	}
}

// add asks for work on a resource.
func (a *agenda) add(id visage.ResourceID) {
	a.mu.Lock()
	a.due[id] = true
	a.mu.Unlock()
	a.signal()
}

// addLater asks for work on a resource after a while, once: a resource that waits already is not added a second time.
// Otherwise each round would begin another series of attempts, for as long as another process has the work.
func (a *agenda) addLater(id visage.ResourceID, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.later[id] {
		return
	}
	a.later[id] = true
	time.AfterFunc(wait, func() {
		a.mu.Lock()
		delete(a.later, id)
		a.mu.Unlock()
		a.add(id)
	})
}

// addUnlessLater asks for work on a resource now, unless addLater has.
func (a *agenda) addUnlessLater(id visage.ResourceID) {
	a.mu.Lock()
	waits := a.later[id]
	a.mu.Unlock()
	if !waits {
		a.add(id)
	}
}

func (a *agenda) signal() {
	select {
	case a.news <- struct{}{}:
	default:
	}
}

// take returns a resource that is due and that no worker works on.
func (a *agenda) take() (visage.ResourceID, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id := range a.due {
		if !a.active[id] {
			delete(a.due, id)
			a.active[id] = true
			return id, true
		}
	}
	return visage.ResourceID{}, false
}

func (a *agenda) done(id visage.ResourceID) {
	a.mu.Lock()
	delete(a.active, id)
	a.mu.Unlock()
	a.signal()
}

// work calls do for every due resource until ctx ends. Several workers may run at the same time.
func (a *agenda) work(ctx context.Context, do func(context.Context, visage.ResourceID)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.news:
		}
		for {
			id, ok := a.take()
			if !ok || ctx.Err() != nil {
				break
			}
			a.signal() // there may be work for another worker
			do(ctx, id)
			a.done(id)
		}
	}
}
