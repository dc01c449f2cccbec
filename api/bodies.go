package api

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/visage-face/visage"
)

// bodies shares out the memory for bodies. A resource can have a part of it at a time, so that one whose clients are slow
// or many makes its own requests wait and not everybody's.
type bodies struct {
	all  *semaphore.Weighted
	part int64 // for one resource

	mu         sync.Mutex
	byResource map[visage.ResourceID]*part // of those that have or want memory now
}

type part struct {
	free  *semaphore.Weighted
	users int // guarded by bodies.mu
}

// partsOfAll is how many resources can use their whole part at a time.
const partsOfAll = 4

func newBodies(bytes int64) *bodies {
	return &bodies{
		all: semaphore.NewWeighted(bytes), part: bytes / partsOfAll, byResource: map[visage.ResourceID]*part{},
	}
}

// hold waits until a body of n bytes may be read, and returns what gives the memory back. The zero id stands for requests
// without a resource. It fails only when ctx ends.
func (b *bodies) hold(ctx context.Context, id visage.ResourceID, n int64) (release func(), err error) {
	if n == 0 {
		return func() {}, nil
	}
	p := b.join(id)
	own := min(n, b.part) // a body larger than a part has the whole part
	if err := p.free.Acquire(ctx, own); err != nil {
		b.leave(id, p)
		return nil, fmt.Errorf("wait for the resource's memory for bodies: %w", err)
	}
	if err := b.all.Acquire(ctx, n); err != nil {
		p.free.Release(own)
		b.leave(id, p)
		return nil, fmt.Errorf("wait for memory for bodies: %w", err)
	}
	return func() {
		b.all.Release(n)
		p.free.Release(own)
		b.leave(id, p)
	}, nil
}

func (b *bodies) join(id visage.ResourceID) *part {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.byResource[id]
	if p == nil {
		p = &part{free: semaphore.NewWeighted(b.part)}
		b.byResource[id] = p
	}
	p.users++
	return p
}

func (b *bodies) leave(id visage.ResourceID, p *part) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.users--; p.users == 0 {
		delete(b.byResource, id)
	}
}
