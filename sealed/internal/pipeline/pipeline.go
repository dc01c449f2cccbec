// Package pipeline works on several items at once and passes them on in the order in which they came, with a bound on
// how many are under way.
package pipeline

import (
	"context"
	"sync"
)

// entry is a thing on its way.
type entry[T any] struct {
	value T
	done  chan struct{} // closed when it was worked on
}

// Run has produce put things in, works on them in so many goroutines, and hands each to next, one at a time and in the
// order they were put in. At most 2*workers+2 are on their way. produce runs in the caller's goroutine; when Run
// returns, every goroutine has ended.
//
// The first error, be it of produce, work, next or ctx's cause, ends all of it and is Run's: put then returns it, and
// neither work nor next is called again.
func Run[T any](
	ctx context.Context, workers int, produce func(put func(T) error) error, work, next func(T) error,
) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	waiting := make(chan *entry[T])
	order := make(chan *entry[T], workers)
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for e := range waiting {
				if ctx.Err() == nil {
					if err := work(e.value); err != nil {
						fail(err)
					}
				}
				close(e.done)
			}
		})
	}
	all.Go(func() {
		for e := range order {
			<-e.done // which a worker closes in any case
			if ctx.Err() == nil {
				if err := next(e.value); err != nil {
					fail(err)
				}
			}
		}
	})
	put := func(v T) error {
		e := &entry[T]{v, make(chan struct{})}
		// To a worker first: what is in order is surely worked on.
		for _, to := range []chan *entry[T]{waiting, order} {
			select {
			case to <- e:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	}
	func() {
		defer all.Wait()
		defer close(order)
		defer close(waiting)
		if err := produce(put); err != nil {
			fail(err)
		}
	}()
	return context.Cause(ctx)
}
