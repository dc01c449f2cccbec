package keyvault

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/visage-face/visage"
)

// forge bounds the work on keys that takes long: making an RSA key takes up to seconds of a processor. What the service
// does by itself does not wait here, so that requests do not delay a rotation that is due.
type forge struct {
	slots chan struct{}

	mu     sync.Mutex
	orders map[string]int // by identity, those under way included
	all    int
}

// Bounds of orders, those under way included.
const (
	maxOrders   = 32
	maxOrdersOf = 16 // one identity
)

func newForge() *forge {
	return &forge{slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), orders: map[string]int{}}
}

// make runs do, which makes a key of a type or looks at one, when it is who's turn. Keys on curves are made at once.
func (f *forge) make(
	ctx context.Context, who visage.Caller, kty string, do func() (material, error),
) (material, error) {
	if isEC(kty) {
		return do()
	}
	leave, err := f.enter(ctx, who)
	if err != nil {
		return material{}, err
	}
	defer leave()
	return do()
}

// enter waits for a turn, which lasts until leave. It fails when ctx ends; too many orders are a refusal of kind
// TooMany.
func (f *forge) enter(ctx context.Context, who visage.Caller) (leave func(), err error) {
	if !f.order(who.ObjectID) {
		r := visage.Refuse(visage.TooMany, "Throttled", "Too many keys are being created at the same time. Try "+
			"again in 5 s.")
		r.RetryAfter = 5 * time.Second
		return nil, r
	}
	select {
	case f.slots <- struct{}{}:
		return func() {
			<-f.slots
			f.done(who.ObjectID)
		}, nil
	case <-ctx.Done():
		f.done(who.ObjectID)
		return nil, fmt.Errorf("wait for the turn to make a key: %w", context.Cause(ctx))
	}
}

func (f *forge) order(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all >= maxOrders || f.orders[id] >= maxOrdersOf {
		return false
	}
	f.all++
	f.orders[id]++
	return true
}

func (f *forge) done(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all--
	if f.orders[id]--; f.orders[id] == 0 {
		delete(f.orders, id)
	}
}
