package commit

import (
	"context"
	"errors"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// Member is a transaction in a group: it reads what those before it have staged, and stages what it writes. What cannot
// be staged makes it leave the group, and write to the engine alone from there on. It is for one goroutine.
type Member struct {
	claim
	ctx      context.Context
	q        *Queue
	group    *group // nil: it has not begun
	stage    stage
	finished bool

	apart  *departure // it has left the group
	failed error      // it could not, or what it had staged could not be written: all it does from there on fails
}

// departure: a member leaves its group because it reads a whole container with staged writes, or writes to a dropped
// one. The group commits first; then the member writes alone. Its function is already running, so a separate goroutine
// holds the engine's transaction.
type departure struct {
	member  *Member
	t       *tree.Tx // nil: the engine's transaction has not begun
	again   bool     // it has read what others staged and did not commit after all
	writer  chan engine.Writer
	outcome chan error // of the function
	ended   bool       // outcome was given
	result  chan transactionResult
	changes tree.Changes
}

// errAlone says that a transaction has to run again, alone.
var errAlone = errors.New("the transaction runs again by itself")

// depart takes a member out of its group. An error is one of its transaction, whether its function passes it on or not.
//
// Where processes share the engine, another one may write between the two transactions. So the member's function runs
// again instead, and what it has done so far is forgotten.
func (m *Member) depart() error {
	if m.group.held != nil {
		m.failed = errAlone
		return m.failed
	}
	d := &departure{
		member: m,
		writer: make(chan engine.Writer), outcome: make(chan error, 1), result: make(chan transactionResult, 1),
	}
	g := m.group
	m.q.open = nil
	wait := g.commit()
	m.apart = d
	d.again = m.stage.borrowed && (g.again || g.err != nil)
	if wait == nil {
		g.settle(nil)
	} else {
		go g.settle(wait) // its members wait for it, and so does this one where it has to
	}
	go func() {
		wait, err := m.q.engine.Commit(m.ctx, format.ID(m.q.id), func(w engine.Writer) error {
			d.writer <- w
			return <-d.outcome
		})
		d.result <- transactionResult{wait, err}
	}()
	select {
	case w := <-d.writer:
		d.t = tree.NewWriter(m.q.env, m.q.id, m.ring, w)
		d.t.OnlyWhile(func() error { return m.q.check(m.fence) })
		m.failed = d.takeOver(&m.stage)
	case r := <-d.result:
		m.failed = r.err
		d.ended = true
		d.result <- r
	}
	return m.failed
}

// takeOver writes to the engine what the transaction had staged. What the engine has of these records was looked at
// before those of the group were committed, so it is looked at again.
func (d *departure) takeOver(s *stage) error {
	defer s.wipe()
	t := d.t
	if err := t.OpenRoot(); err != nil {
		return err
	}
	for _, ref := range s.order {
		r := s.records[ref]
		if r.Erased {
			if err := t.Delete(ref.Container, ref.ID); err != nil && !errors.Is(err, tree.ErrNotFound) {
				return err
			}
		}
		if r.There {
			if err := t.Put(ref.Container, ref.ID, r.Schema, r.Plaintext); err != nil {
				return err
			}
		}
	}
	return nil
}

// prepare ends the function's work well.
func (d *departure) prepare() (err error) {
	m := d.member
	if m.failed != nil {
		return m.failed
	}
	if d.changes, err = m.q.end(m.ctx, d.t, m.fence); err != nil {
		return err
	}
	if !d.again {
		d.ended = true
		d.outcome <- nil
	}
	return nil
}

// end makes the engine's transaction end, and gives the floor to the next.
func (d *departure) end() {
	if !d.ended {
		d.outcome <- errAbandoned
	}
	r := <-d.result
	d.result <- r
	d.member.q.floor.pass()
	if d.t != nil {
		d.t.Finish()
	}
}

// settle returns what became of the transaction, whose function has returned err.
func (d *departure) settle(err error) (c tree.Changes, again bool, _ error) {
	r := <-d.result
	prepared := err == nil && !d.again
	if err == nil {
		err = r.err
	}
	if err == nil && !d.again {
		err = r.wait()
	}
	if prepared && err != nil { // it may have been made
		d.member.q.note(0, d.changes)
	}
	switch {
	case d.again:
		return tree.Changes{}, true, nil
	case err == nil: // and with it all that came before
		d.member.q.note(1, d.changes)
		return d.changes, false, nil
	case d.member.stage.borrowed: // what it failed for may be what others have written
		if <-d.member.group.done; d.member.group.err != nil {
			return tree.Changes{}, true, nil
		}
	}
	return tree.Changes{}, false, err
}
