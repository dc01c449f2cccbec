package sealed

import (
	"context"

	"github.com/visage-face/visage/sealed/internal/engine"
)

// enterLong takes a place with one of the methods of longViews, or gives up when the store is closed.
func (s *Store) enterLong(
	ctx context.Context, take func(longViews, context.Context) (leave func(), err error),
) (leave func(), err error) {
	if s.long == nil {
		return func() {}, nil
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer context.AfterFunc(s.life, func() { end(ErrClosed) })()
	return take(s.long, ctx)
}

// LongView is View for a function that reads for seconds, such as all records of a large table. Where snapshots are
// few, it waits until there are not too many such at a time, so that short ones find a place; backups and verifications
// do not keep it waiting. It waits for 15 seconds, as View does, before it fails with an ErrUnavailable. fn must not
// begin another one that lasts.
func (sp *Space) LongView(ctx context.Context, fn func(Reader) error) error {
	leave, err := sp.store.enterLong(ctx, longViews.LongView)
	if err != nil {
		return err
	}
	defer leave()
	return sp.View(ctx, fn)
}

// maintained is an engine all of whose snapshots are those of maintenance.
type maintained struct {
	engine.Engine
	store *Store
}

// View implements engine.Engine.
func (m maintained) View(ctx context.Context, fn func(engine.Reader) error) error {
	leave, err := m.store.enterLong(ctx, longViews.MaintenanceView)
	if err != nil {
		return err
	}
	defer leave()
	return m.Engine.View(ctx, fn)
}
