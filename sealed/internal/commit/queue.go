// Package commit is who may write to a space, and when: one transaction after the other, in the order in which they
// came, and those that wait for each other share one commit. docs/decisions/0012 says why, and how.
package commit

import (
	"context"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/tree"
	"github.com/visage-face/visage/sealed/internal/volume"
)

// Queue is the transactions that write to a space.
type Queue struct {
	env     *tree.Env
	id      format.SpaceID
	engine  engine.Engine
	volumes *volume.Volumes
	exempt  bool // it takes what is new while the volume is full, too
	open    func(fence uint64) error
	note    func(transactions int, c tree.Changes)

	floor floor // whose turn it is to write
}

// Config says what a Queue needs of its space.
type Config struct {
	Env     *tree.Env
	Space   format.SpaceID
	Engine  engine.Engine
	Volumes *volume.Volumes
	Exempt  bool // the space takes what is new while the volume is full, too
	// Open returns why transactions that began with a fence must not commit any more; nil when they may.
	Open func(fence uint64) error
	// Note hears what a commit of so many transactions did, after it is durable.
	Note func(transactions int, c tree.Changes)
}

// NewQueue returns the queue of a space. Nothing else may write to the rows of the space but through it, save while no
// transaction can begin.
func NewQueue(c Config) *Queue {
	return &Queue{env: c.Env, id: c.Space, engine: c.Engine, volumes: c.Volumes, exempt: c.Exempt, open: c.Open,
		note: c.Note}
}

// Alone runs fn on the engine's transaction itself, which it has for itself. Nothing of it is done when it returns an
// error, save that an error of the disk itself may leave that open.
func (q *Queue) Alone(ctx context.Context, ring *keys.Ring, fence uint64, fn func(*tree.Tx) error) (c tree.Changes,
	err error) {
	err = q.Raw(ctx, func(w engine.Writer) error {
		t := tree.NewWriter(q.env, q.id, ring, w)
		defer t.Finish()
		if err := q.open(fence); err != nil { // it may have waited for long
			return err
		}
		if err := t.OpenRoot(); err != nil {
			return err
		}
		if err := fn(t); err != nil {
			return err
		}
		c, err = q.end(ctx, t, fence)
		return err
	})
	if err != nil {
		return tree.Changes{}, err
	}
	q.note(1, c)
	return c, nil
}

// end is what comes after the function of a transaction that is alone.
func (q *Queue) end(ctx context.Context, t *tree.Tx, fence uint64) (tree.Changes, error) {
	if err := t.End(); err != nil {
		return tree.Changes{}, err
	}
	c := t.Changes()
	if err := q.refuseGrowth(ctx, len(c.Rows) > 0, len(c.Gone) > 0, q.volumes.Growth); err != nil {
		return tree.Changes{}, err
	}
	return c, q.open(fence)
}

// refuseGrowth refuses a transaction that adds or changes records while the volume is full, unless it deletes some as
// well, or may use the reserve; and one that deletes when too little is left for that.
func (q *Queue) refuseGrowth(ctx context.Context, adds, deletes bool, growth func() *volume.FullError) error {
	var full *volume.FullError
	switch {
	case q.exempt || volume.MayUseReserve(ctx):
	case deletes:
		full = q.volumes.Exhaustion()
	case adds:
		full = growth()
	}
	if full != nil {
		return full
	}
	return nil
}

// Raw runs fn as a transaction of the engine on rows of the space, while nobody else writes to them.
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
	case m.apart != nil:
		return m.apart.settle(err)
	case err != nil && !m.stage.borrowed:
		return tree.Changes{}, false, err
	}
	<-m.group.done
	if err == nil {
		return tree.Changes{Sequence: m.group.changes.Sequence, Gone: m.stage.gone}, m.group.again, m.group.err
	}
	if m.group.again || m.group.err != nil { // it was told of what others have not committed after all
		return tree.Changes{}, true, nil
	}
	return tree.Changes{}, false, err
}
