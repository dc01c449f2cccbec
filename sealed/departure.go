package sealed

import (
	"errors"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
)

// departure is what becomes of a member of a group that does what cannot be staged: it reads a whole container to
// which something was staged, or writes to one that was dropped. What those before it have staged is committed then,
// and from there on it writes to the engine alone. A goroutine of its own is inside the engine's transaction
// meanwhile, since its function is on the stack already.
type departure struct {
	member  *member
	t       *txn
	again   bool // it was told of what others have not committed after all
	writer  chan engine.Writer
	outcome chan error // of the function
	ended   bool       // outcome was given
	result  chan transactionResult

	committed
}

type transactionResult struct {
	wait func() error
	err  error
}

var errAbandoned = errors.New("the transaction was given up")

// depart takes a member out of its group. An error is one of its transaction, whether its function passes it on or not.
func (t *txn) depart() error {
	m, sp := t.member, t.sp
	d := &departure{
		member: m, t: t,
		writer: make(chan engine.Writer), outcome: make(chan error, 1), result: make(chan transactionResult, 1),
	}
	g := m.group
	sp.writing.open = nil
	wait := g.commit()
	m.apart = d
	d.again = m.stage.borrowed && (g.again || g.err != nil)
	if wait == nil {
		g.settle(nil)
	} else {
		go g.settle(wait) // its members wait for it, and so does this one where it has to
	}
	t.stage, t.root, t.trees = nil, nil, nil
	go func() {
		wait, err := sp.store.engine.Commit(m.ctx, format.ID(sp.id), func(w engine.Writer) error {
			d.writer <- w
			return <-d.outcome
		})
		d.result <- transactionResult{wait, err}
	}()
	select {
	case w := <-d.writer:
		t.r, t.w = w, w
		t.failed = t.takeOver(&m.stage)
	case r := <-d.result:
		t.failed = r.err
		d.ended = true
		d.result <- r
	}
	return t.failed
}

// takeOver writes to the engine what the transaction had staged. What the engine has of these records was looked at
// before those of the group were committed, so it is looked at again.
func (t *txn) takeOver(s *stage) error {
	defer s.wipe()
	if err := t.openRoot(); err != nil {
		return err
	}
	t.before = t.root.head.Sequence
	for _, ref := range s.order {
		r := s.records[ref]
		if r.erased {
			if err := t.delete(ref.container, ref.id); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
		if r.there {
			if err := t.put(ref.container, ref.id, r.schema, r.plaintext); err != nil {
				return err
			}
		}
	}
	return nil
}

// prepare ends the function's work well.
func (d *departure) prepare(t *txn) (err error) {
	if t.failed != nil {
		return t.failed
	}
	if d.committed, err = t.end(d.member.ctx, d.member.fence); err != nil {
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
	d.t.sp.writing.pass()
}

// settle returns what became of the transaction, whose function has returned err.
func (d *departure) settle(err error) (c committed, again bool, _ error) {
	r := <-d.result
	if err == nil {
		err = r.err
	}
	if err == nil && !d.again {
		err = r.wait()
	}
	switch {
	case d.again:
		return committed{}, true, nil
	case err == nil: // and with it all that came before
		d.t.sp.note(1, d.t.rows, d.t.touched, d.committed)
		return d.committed, false, nil
	case d.member.stage.borrowed: // what it failed for may be what others have written
		if <-d.member.group.done; d.member.group.err != nil {
			return committed{}, true, nil
		}
	}
	return committed{}, false, err
}
