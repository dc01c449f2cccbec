package sealed

import (
	"context"

	"github.com/visage-face/visage/sealed/internal/engine"
)

// longViewsOf returns as many places as the engine has for snapshots that last for seconds; nil: it has no bound. One
// over a database has few snapshots at a time, for each needs a connection, and whoever finds none free waits; so most
// of them are kept for those that are short.
func longViewsOf(eng engine.Engine) chan struct{} {
	if bounded, ok := eng.(interface{ LongViews() int }); ok {
		return make(chan struct{}, bounded.LongViews())
	}
	return nil
}

// enterLongView waits for a place, for as long as ctx lasts and the store is open: those before may take minutes.
func (s *Store) enterLongView(ctx context.Context) (leave func(), err error) {
	if s.long == nil {
		return func() {}, nil
	}
	select {
	case s.long <- struct{}{}:
		return func() { <-s.long }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-s.life.Done():
		return nil, ErrClosed
	}
}

// LongView is View for a function that reads for seconds, such as all records of a large table. Where snapshots are
// few, it waits until fewer than a third of them last, so that short ones find a place; fn must not begin another one
// that lasts.
func (sp *Space) LongView(ctx context.Context, fn func(Reader) error) error {
	leave, err := sp.store.enterLongView(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return sp.View(ctx, fn)
}

// lasting is an engine all of whose snapshots last.
type lasting struct {
	engine.Engine
	store *Store
}

// View implements engine.Engine.
func (l lasting) View(ctx context.Context, fn func(engine.Reader) error) error {
	leave, err := l.store.enterLongView(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return l.Engine.View(ctx, fn)
}
