package commit

import (
	"bytes"
	"context"
	"errors"
	"runtime"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/tree"
	"github.com/visage-face/visage/sealed/internal/volume"
)

// docs/decisions/0012 says why transactions share commits, and how.

// Bounds of a group: those who come later begin another one.
const (
	groupMembers = 64
	groupRecords = 1_024
	groupBytes   = 1 << 20

	// what a group keeps of records that its members have read, since many read the same
	seenRecords = 64
	seenBytes   = 8 << 10 // of one
)

// openGroup returns the group that is open, or opens one that reads from r. The caller has the floor.
func (q *Queue) openGroup(as claim, r engine.Reader) (*group, error) {
	if g := q.open; g != nil {
		g.base.ReadFrom(r)
		return g, nil
	}
	g := &group{claim: as, q: q, done: make(chan struct{})}
	g.base = tree.NewReader(q.env, q.id, as.ring, r)
	// it has no snapshot, and the rows of a space that was dropped go without waiting for it for ever
	g.base.OnlyWhile(func() error { return q.check(as.fence) })
	err := q.begin(as.ring, r)
	if err == nil {
		err = g.base.OpenRoot()
	}
	if err != nil {
		g.base.Finish()
		return nil, err
	}
	q.open = g
	return g, nil
}

// holdGroup is openGroup for an engine that processes share: the group has the engine's transaction from here on.
func (q *Queue) holdGroup(ctx context.Context, as claim) (*group, error) {
	if q.open != nil {
		return q.open, nil
	}
	h, err := hold(ctx, q.engine, format.ID(q.id))
	if err != nil {
		return nil, err
	}
	g, err := q.openGroup(as, h.now)
	if err != nil {
		_, _ = h.end(err) // which is what it is told
		return nil, err
	}
	g.held = h
	return g, nil
}

// remember keeps a record that a member has read, and reports whether it does; the secret is the group's then.
func (g *group) remember(ref tree.Ref, r *tree.Staged, plaintext []byte) bool {
	if len(g.seen) >= seenRecords || len(plaintext) > seenBytes {
		return false
	}
	if g.seen == nil {
		g.seen = map[tree.Ref]*tree.Staged{}
	}
	r.Plaintext = bytes.Clone(plaintext)
	g.seen[ref] = r
	return true
}

// wipe clears what the group holds in the clear.
func (g *group) wipe() {
	g.stage.wipe()
	for _, r := range g.seen {
		r.Wipe()
	}
	g.seen = nil
}

// mayTake reports whether one more transaction may join.
func (g *group) mayTake(as claim) bool {
	return !as.alone && as.ring == g.ring && as.fence == g.fence &&
		g.members < groupMembers && len(g.stage.order) < groupRecords && g.stage.bytes < groupBytes
}

// giveFloor lets the next in line go on with the open group; when there is none that may, it commits the group first.
func (q *Queue) giveFloor() {
	g := q.open
	if g == nil {
		q.floor.pass()
		return
	}
	if q.floor.passIf(g.mayTake) {
		return
	}
	// Those who shared the last commit are about to come back: it is worth to let them run for a moment.
	for range min(q.expected, 8) {
		runtime.Gosched()
		if q.floor.passIf(g.mayTake) {
			return
		}
	}
	q.open, q.expected = nil, max(g.members-1, q.expected/2)
	wait := func() func() error {
		defer q.floor.pass()
		return g.commit()
	}()
	g.settle(wait)
}

// errUnsettled is what members hear when committing itself broke down.
var errUnsettled = errors.New("the commit broke down")

// commit seals what a group has staged and commits it. Where that succeeds, wait waits until it is durable. settle
// comes next, unless this panics: then the members have their result.
func (g *group) commit() (wait func() error) {
	g.err = errUnsettled
	defer func() {
		if g.err == errUnsettled {
			close(g.done)
		}
	}()
	t := g.base
	defer g.wipe()
	defer t.Finish()
	g.changes = t.Changes()
	if len(g.stage.order) == 0 {
		var ended error
		if g.held != nil {
			_, ended = g.held.end(errAbandoned)
		}
		g.again = errors.Is(ended, errAgain)
		if g.err = g.q.check(g.fence); g.err == nil && ended != nil && !errors.Is(ended, errAbandoned) {
			g.err = ended
		}
		return nil
	}
	var failed error
	write := func(w engine.Writer) error {
		t.WriteTo(w)
		if failed = t.Seal(g.stage.order, g.stage.records); failed != nil {
			return failed
		}
		g.changes = t.Changes()
		// Not after: once the batch is applied the disk is at work, and nothing but waiting for it is left to do.
		t.Finish()
		g.wipe()
		err := g.q.check(g.fence)
		g.sealed = err == nil
		return err
	}
	var err error
	if g.held == nil {
		wait, err = g.q.engine.Commit(context.Background(), format.ID(g.q.id), write)
	} else {
		wait, err = g.commitHeld(write)
	}
	if g.err = err; failed != nil && g.members > 1 || errors.Is(err, errAgain) {
		g.again = true
	}
	return wait
}

// commitHeld ends the transaction that the group has held, also when write panics.
func (g *group) commitHeld(write func(engine.Writer) error) (wait func() error, err error) {
	outcome := errAbandoned
	defer func() { wait, err = g.held.end(outcome) }()
	outcome = write(g.held.now)
	return nil, nil
}

// settle waits for the disk and tells the members.
func (g *group) settle(wait func() error) {
	defer close(g.done)
	if g.err == nil && wait != nil {
		g.err = wait()
	}
	if g.again {
		g.err = nil
	}
	switch {
	case g.again || len(g.stage.order) == 0:
	case g.err == nil:
		g.q.note(g.members, g.changes)
	case g.sealed: // it may have been made
		g.q.note(0, g.changes)
	}
}

// growth refuses what is new, and looks at the volume once for all members.
func (g *group) growth() *volume.FullError {
	if !g.looked {
		g.looked, g.full = true, g.q.volumes.Growth()
	}
	return g.full
}

// take waits for the floor, or until ctx ends: then it returns its cause. A group that is open may be joined.
func (q *Queue) take(ctx context.Context, as claim) error {
	has, err := q.floor.take(ctx, as)
	if err != nil && has {
		q.giveFloor()
	}
	return err
}
