package commit

import (
	"context"
	"errors"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// Alone runs fn on the engine's transaction itself, which it has for itself. Nothing of it is done when it returns an
// error, save that an error of the disk itself may leave that open.
func (q *Queue) Alone(ctx context.Context, ring *keys.Ring, fence uint64, fn func(*tree.Tx) error) (c tree.Changes,
	err error) {
	prepared := false
	err = q.Raw(ctx, func(w engine.Writer) error {
		prepared = false
		t := tree.NewWriter(q.env, q.id, ring, w)
		defer t.Finish()
		if err := q.check(fence); err != nil { // it may have waited for long
			return err
		}
		if err := q.begin(ring, w); err != nil {
			return err
		}
		if err := t.OpenRoot(); err != nil {
			return err
		}
		if err := fn(t); err != nil {
			return err
		}
		c, err = q.end(ctx, t, fence)
		prepared = err == nil
		return err
	})
	if err != nil {
		if prepared { // it may have been made
			q.note(0, c)
		}
		return tree.Changes{}, err
	}
	q.note(1, c)
	return c, nil
}

// Raw runs fn as a transaction of the engine on rows of the space, while no other transaction writes to them.
func (q *Queue) Raw(ctx context.Context, fn func(engine.Writer) error) error {
	if err := q.take(ctx, claim{alone: true}); err != nil {
		return err
	}
	wait, err := func() (func() error, error) {
		defer q.floor.pass()
		return q.engine.Commit(ctx, format.ID(q.id), fn)
	}()
	if err != nil {
		return err
	}
	return wait()
}

// Shared runs fn as a member of a group. again says that nothing was committed, and that it has to run another time,
// alone.
func (q *Queue) Shared(
	ctx context.Context, ring *keys.Ring, fence uint64, fn func(*Member) error,
) (c tree.Changes, again bool, err error) {
	as := claim{ring: ring, fence: fence}
	if err := q.take(ctx, as); err != nil {
		return tree.Changes{}, false, err
	}
	m := &Member{ctx: ctx, claim: as, q: q}
	err = m.run(fn)
	switch {
	case errors.Is(m.failed, errAlone):
		return tree.Changes{}, true, nil
	case m.apart != nil:
		return m.apart.settle(err)
	case err != nil && !m.stage.borrowed && (m.group == nil || m.group.held == nil):
		return tree.Changes{}, false, err
	} // else what it has read may be what others staged, or what the engine's transaction could not hold on to
	<-m.group.done
	if err == nil {
		c = tree.Changes{Sequence: m.group.changes.Sequence, Pair: m.group.changes.Pair, Gone: m.stage.gone}
		return c, m.group.again, m.group.err
	}
	if m.group.again || m.group.err != nil { // it has read what others staged and did not commit after all
		return tree.Changes{}, true, nil
	}
	return tree.Changes{}, false, err
}
