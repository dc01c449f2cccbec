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
	exempt  bool                     // it takes what is new while the volume is full, too
	check   func(fence uint64) error // see Config.Open
	begin   func(*keys.Ring, engine.Reader) error
	note    func(transactions int, c tree.Changes)

	floor floor // whose turn it is to write

	// for the member that has the floor
	open     *group // that the next may join
	expected int    // how many may come soon, by the size of the last groups
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
	// Begin is called in each transaction before it reads anything: it returns why the keys that it was given are not
	// those which open what it would read.
	Begin func(*keys.Ring, engine.Reader) error
	// Note hears what a commit of so many transactions did, after it is durable; of none, when its outcome is unknown.
	Note func(transactions int, c tree.Changes)
}

// NewQueue returns the queue of a space. Nothing else in this process may write to the rows of the space but through
// it, save while no transaction can begin. Other processes may if the engine is shared.
func NewQueue(c Config) *Queue {
	return &Queue{env: c.Env, id: c.Space, engine: c.Engine, volumes: c.Volumes, exempt: c.Exempt, check: c.Open,
		begin: c.Begin, note: c.Note}
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
	return c, q.check(fence)
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

// group is transactions that share one commit. Their functions run one after the other, each on its caller's
// goroutine, on what those before have staged; the last of them seals all of it and commits. Until done is closed, only
// the member that has the floor may use it.
type group struct {
	claim
	q       *Queue
	base    *tree.Tx // the trees
	held    *held    // the engine's transaction; nil: it begins with the commit, as nobody shares the engine
	stage   stage
	members int  // transactions that take part
	sealed  bool // an error of the engine leaves open from here on whether the commit was made
	looked  bool
	full    *volume.FullError         // when looked: what refuses new records
	seen    map[tree.Ref]*tree.Staged // as the engine has them

	done    chan struct{} // closed when all below is settled
	err     error         // of all members
	again   bool          // nothing was committed, for what may be the fault of one member: each tries again by itself
	changes tree.Changes  // of all members
}
