package commit

import (
	"context"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// run runs fn with the floor, which it gives to the next whatever becomes of fn, be it a panic or the end of the
// goroutine.
func (m *Member) run(fn func(*Member) error) (err error) {
	joined := false
	defer func() {
		if !joined {
			m.stage.wipe()
		}
		m.finished = true
		if m.apart != nil {
			m.apart.end()
			return
		}
		m.q.giveFloor()
	}()
	if err = m.q.check(m.fence); err != nil { // it may have waited for long
		return err
	}
	if m.q.engine.Shared() {
		if m.group, err = m.q.holdGroup(m.ctx, m.claim); err == nil {
			err = m.join(fn)
		}
	} else {
		err = m.q.engine.Read(m.ctx, func(r engine.Reader) (err error) {
			if m.group, err = m.q.openGroup(m.claim, r); err != nil {
				return err
			}
			return m.join(fn)
		})
	}
	if err == nil && m.apart == nil {
		joined = true
		m.group.members++
		m.group.stage.merge(&m.stage)
	}
	return err
}

// join runs fn as a member of the group.
func (m *Member) join(fn func(*Member) error) error {
	m.stage.before = &m.group.stage
	if err := fn(m); err != nil {
		return err
	}
	if m.ctx.Err() != nil {
		return context.Cause(m.ctx)
	}
	if m.apart != nil {
		return m.apart.prepare()
	}
	if m.failed != nil {
		return m.failed
	}
	return m.q.refuseGrowth(m.ctx, m.stage.puts > 0, len(m.stage.gone) > 0, m.group.growth)
}

// Use panics when the transaction is used after its function has returned.
func (m *Member) Use() {
	if m.finished {
		panic("sealed: a Reader or Tx was used after its function had returned")
	}
}

// now returns the tree's transaction that holds what was not staged; once it has left its group, all that it does is
// done there.
func (m *Member) now() (t *tree.Tx, staging bool, err error) {
	if m.apart == nil {
		return m.group.base, true, m.failed
	}
	return m.apart.t, false, m.failed
}

// Keyring returns the keys of the space.
func (m *Member) Keyring() *keys.Ring { return m.ring }

// Corrupt reports and returns what was found at a place.
func (m *Member) Corrupt(what string, container, id format.ID, err error) error {
	t, _, failed := m.now()
	if failed != nil {
		return failed
	}
	return t.Corrupt(what, container, id, err)
}

// Below calls fn with the rows that the transaction reads, as the engine has them.
func (m *Member) Below(fn func(engine.Reader) error) error {
	t, _, failed := m.now()
	if failed != nil {
		return failed
	}
	return t.Below(fn)
}

// Get opens a record: see tree.Tx.
func (m *Member) Get(dst []byte, container, id format.ID) (plaintext []byte, schema byte, err error) {
	t, staging, err := m.now()
	if err != nil {
		return nil, 0, err
	}
	if !staging {
		return t.Get(dst, container, id)
	}
	ref := tree.Ref{Container: container, ID: id}
	r := m.stage.find(ref)
	if r == nil {
		r = m.group.seen[ref]
	}
	if r != nil {
		return r.Read(dst)
	}
	plaintext, r, err = t.StageRead(dst, ref)
	if err != nil {
		return nil, 0, err
	}
	if schema = r.Schema; !m.group.remember(ref, r, plaintext[len(dst):]) {
		r.Wipe()
	}
	return plaintext, schema, nil
}

// Has looks for a record: see tree.Tx.
func (m *Member) Has(container, id format.ID) (bool, error) {
	t, staging, err := m.now()
	if err != nil {
		return false, err
	}
	if staging {
		if r := m.stage.find(tree.Ref{Container: container, ID: id}); r != nil {
			return r.There, nil
		}
	}
	return t.Has(container, id)
}

// staging prepares a container to be written to. It reports false when that cannot be staged: the transaction has left
// its group then.
func (m *Member) staging(container format.ID) (bool, error) {
	dropped, err := m.group.base.Dropped(container)
	if err == nil && dropped {
		return false, m.depart()
	}
	return err == nil, err
}

// Put seals a record: see tree.Tx. What the engine has of it is read here, so that what is damaged is told to whoever
// puts.
func (m *Member) Put(container, id format.ID, schema byte, plaintext []byte) error {
	m.Use()
	t, staging, err := m.now()
	if err != nil {
		return err
	}
	if !staging {
		return t.Put(container, id, schema, plaintext)
	}
	ref := tree.Ref{Container: container, ID: id}
	r := m.stage.own(ref)
	if r == nil {
		if seen := m.group.seen[ref]; seen != nil {
			r = seen.Facts()
			m.stage.set(ref, r)
		}
	}
	if r == nil {
		staging, err := m.staging(container)
		if err != nil {
			return err
		}
		if !staging {
			return m.apart.t.Put(container, id, schema, plaintext)
		}
		if r, err = t.Stage(ref); err != nil {
			return err
		}
		m.stage.set(ref, r)
	}
	m.stage.write(r, schema, plaintext)
	return nil
}

// Add seals a record that is new: see tree.Tx.
func (m *Member) Add(container, id format.ID, schema byte, plaintext []byte) error {
	m.Use()
	t, staging, err := m.now()
	if err != nil {
		return err
	}
	if !staging {
		return t.Add(container, id, schema, plaintext)
	}
	if staging, err = m.staging(container); err != nil {
		return err
	}
	if !staging {
		return m.apart.t.Add(container, id, schema, plaintext)
	}
	ref := tree.Ref{Container: container, ID: id}
	r := m.stage.own(ref)
	if r == nil {
		r = &tree.Staged{}
		m.stage.set(ref, r)
	}
	m.stage.write(r, schema, plaintext)
	return nil
}

// Delete removes a record: see tree.Tx.
func (m *Member) Delete(container, id format.ID) error {
	m.Use()
	t, staging, err := m.now()
	if err != nil {
		return err
	}
	if !staging {
		return t.Delete(container, id)
	}
	ref := tree.Ref{Container: container, ID: id}
	r := m.stage.find(ref)
	if r != nil && !r.There {
		return tree.ErrNotFound
	}
	if r == nil {
		r, inTree, err := t.StageDelete(ref)
		if err != nil {
			return err
		}
		if !inTree {
			if err := m.depart(); err != nil {
				return err
			}
			return m.apart.t.Delete(container, id)
		}
		m.stage.set(ref, r)
	}
	r = m.stage.own(ref)
	m.stage.bytes -= len(r.Plaintext)
	r.Wipe()
	r.There, r.Erased = false, true
	m.stage.gone = append(m.stage.gone, tree.Ref{Container: container, ID: id})
	return nil
}

// Whole prepares a container to be read as a whole, and returns what to read it with. It is read in step with whoever
// reads, who may write to other containers meanwhile.
func (m *Member) Whole(container format.ID) (all *tree.Tx, aside bool, err error) {
	t, staging, err := m.now()
	if err != nil {
		return nil, false, err
	}
	if staging && m.staged(container) { // the scan reads what the engine has
		if err := m.depart(); err != nil {
			return nil, false, err
		}
		t, staging = m.apart.t, false
	}
	if !staging {
		return t.Whole(container)
	}
	return t, false, nil
}

// staged reports whether the transaction, or one before it, has staged something of a container.
func (m *Member) staged(container format.ID) bool {
	for _, s := range []*stage{&m.stage, &m.group.stage} {
		for _, ref := range s.order {
			if ref.Container == container {
				return true
			}
		}
	}
	return false
}
