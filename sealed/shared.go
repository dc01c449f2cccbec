package sealed

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/rowkey"
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

// group is transactions that share one commit. Their functions run one after the other, each on its caller's
// goroutine, on what those before have staged; the last of them seals all of it and commits. Whoever has the floor may
// use it, until done is closed.
type group struct {
	claim
	base    *txn // the trees
	stage   stage
	members int // transactions that take part
	looked  bool
	full    *FullError                  // when looked: what refuses new records
	seen    map[recordRef]*stagedRecord // as the engine has them

	done     chan struct{} // closed when all below is settled
	err      error         // of all members
	again    bool          // nothing was committed, for what may be the fault of one member: each tries again by itself
	sequence uint64        // of the root container's head
}

// committed is what a transaction did, for whoever goes on from there.
type committed struct {
	sequence uint64 // of the root container's head
	gone     []erasedID
}

func (sp *Space) update(ctx context.Context, fn func(Tx) error) (c committed, err error) {
	alone := false
	for again := true; again && err == nil; {
		again = false
		err = sp.within(ctx, func(ring *keys.Ring, fence uint64) (err error) {
			if alone {
				c, err = sp.writeAlone(ctx, ring, fence, fn)
			} else {
				c, alone, err = sp.writeShared(ctx, claim{ring: ring, fence: fence}, fn)
				again = alone
			}
			return err
		})
	}
	return c, err
}

// updateAlone is update for what changes trees itself, or much at once.
func (sp *Space) updateAlone(ctx context.Context, fn func(*txn) error) error {
	return sp.within(ctx, func(ring *keys.Ring, fence uint64) error {
		_, err := sp.writeAlone(ctx, ring, fence, func(tx Tx) error { return fn(tx.writable()) })
		return err
	})
}

// writeAlone runs fn on the engine's transaction itself, which it has for itself.
func (sp *Space) writeAlone(
	ctx context.Context, ring *keys.Ring, fence uint64, fn func(Tx) error,
) (c committed, err error) {
	var t *txn
	err = sp.commitAlone(ctx, func(w engine.Writer) error {
		t = &txn{sp: sp, ring: ring, r: w, w: w}
		defer t.finish()
		if err := sp.stillOpen(fence); err != nil { // it may have waited for long
			return err
		}
		if err := t.openRoot(); err != nil {
			return err
		}
		t.before = t.root.head.Sequence
		if err := fn(t); err != nil {
			return err
		}
		c, err = t.end(ctx, fence)
		return err
	})
	if err != nil {
		return committed{}, err
	}
	sp.note(1, t.rows, t.touched, c)
	return c, nil
}

// end is what comes after the function of a transaction that is alone.
func (t *txn) end(ctx context.Context, fence uint64) (committed, error) {
	if err := t.flush(); err != nil {
		return committed{}, err
	}
	if err := t.refuseGrowth(ctx, len(t.rows) > 0, len(t.gone) > 0); err != nil {
		return committed{}, err
	}
	if t.root.head.Sequence != t.before {
		t.touched = append(t.touched, rowkey.Root)
	}
	return committed{t.root.head.Sequence, t.gone}, t.sp.stillOpen(fence)
}

// commitAlone runs fn as a transaction of the engine on rows of the space, while nobody else writes to them.
func (sp *Space) commitAlone(ctx context.Context, fn func(engine.Writer) error) error {
	if err := sp.take(ctx, claim{alone: true}); err != nil {
		return err
	}
	wait, err := func() (func() error, error) {
		defer sp.writing.pass()
		return sp.store.engine.Commit(ctx, format.ID(sp.id), fn)
	}()
	if err != nil {
		return err
	}
	return wait()
}

// writeShared runs fn as a member of a group. again says that it has to run another time, alone.
func (sp *Space) writeShared(ctx context.Context, as claim, fn func(Tx) error) (c committed, again bool, err error) {
	if err := sp.take(ctx, as); err != nil {
		return committed{}, false, err
	}
	m := &member{ctx: ctx, claim: as}
	err = m.run(sp, fn)
	switch {
	case m.apart != nil:
		return m.apart.settle(err)
	case err != nil && !m.stage.borrowed:
		return committed{}, false, err
	}
	<-m.group.done
	if err == nil {
		return committed{m.group.sequence, m.stage.gone}, m.group.again, m.group.err
	}
	if m.group.again || m.group.err != nil { // it was told of what others have not committed after all
		return committed{}, true, nil
	}
	return committed{}, false, err
}

// member is a transaction in a group.
type member struct {
	claim
	ctx   context.Context
	group *group // nil: it has not begun
	stage stage
	apart *departure // it has left the group
}

// run runs fn with the floor, which it gives to the next whatever becomes of fn, be it a panic or the end of the
// goroutine.
func (m *member) run(sp *Space, fn func(Tx) error) (err error) {
	var t *txn
	joined := false
	defer func() {
		if !joined {
			m.stage.wipe()
		}
		if m.apart != nil {
			m.apart.end()
			t.finish()
			return
		}
		if t != nil {
			t.finished = true
		}
		sp.giveFloor()
	}()
	err = sp.store.engine.Read(m.ctx, func(r engine.Reader) (err error) {
		if err := sp.stillOpen(m.fence); err != nil { // it may have waited for long
			return err
		}
		if m.group, err = sp.openGroup(m.claim, r); err != nil {
			return err
		}
		m.stage.group = m.group
		t = &txn{sp: sp, ring: m.ring, r: r, root: m.group.base.root, stage: &m.stage, group: m.group, member: m}
		if err := fn(t); err != nil {
			return err
		}
		if m.ctx.Err() != nil {
			return context.Cause(m.ctx)
		}
		if m.apart != nil {
			return m.apart.prepare(t)
		}
		return t.refuseGrowth(m.ctx, m.stage.puts > 0, len(m.stage.gone) > 0)
	})
	if err == nil && m.apart == nil {
		joined = true
		m.group.members++
		m.group.stage.merge(&m.stage)
	}
	return err
}

// openGroup returns the group that is open, or opens one. The caller has the floor.
func (sp *Space) openGroup(as claim, r engine.Reader) (*group, error) {
	if g := sp.writing.open; g != nil {
		g.base.r = r
		return g, nil
	}
	g := &group{claim: as, done: make(chan struct{})}
	g.base = &txn{sp: sp, ring: as.ring, r: r, group: g}
	if err := g.base.openRoot(); err != nil {
		g.base.finish()
		return nil, err
	}
	sp.writing.open = g
	return g, nil
}

// remember keeps a record that a member has read, and reports whether it does; the secret is the group's then.
func (g *group) remember(ref recordRef, r *stagedRecord, plaintext []byte) bool {
	if len(g.seen) >= seenRecords || len(plaintext) > seenBytes {
		return false
	}
	if g.seen == nil {
		g.seen = map[recordRef]*stagedRecord{}
	}
	r.plaintext = bytes.Clone(plaintext)
	g.seen[ref] = r
	return true
}

// wipe clears what the group holds in the clear.
func (g *group) wipe() {
	g.stage.wipe()
	for _, r := range g.seen {
		r.wipe()
	}
	g.seen = nil
}

// mayTake reports whether one more transaction may join.
func (g *group) mayTake(as claim) bool {
	return !as.alone && as.ring == g.ring && as.fence == g.fence &&
		g.members < groupMembers && len(g.stage.order) < groupRecords && g.stage.bytes < groupBytes
}

// giveFloor lets the next in line go on with the open group; when there is none that may, it commits the group first.
func (sp *Space) giveFloor() {
	g := sp.writing.open
	if g == nil {
		sp.writing.pass()
		return
	}
	if sp.writing.passWithin(g) {
		return
	}
	// Those who shared the last commit are about to come back: it is worth to let them run for a moment.
	for range min(sp.writing.expected, 8) {
		runtime.Gosched()
		if sp.writing.passWithin(g) {
			return
		}
	}
	sp.writing.open, sp.writing.expected = nil, max(g.members-1, sp.writing.expected/2)
	wait := func() func() error {
		defer sp.writing.pass()
		return g.commit()
	}()
	g.settle(wait)
}

// errUnsettled is what members hear when committing itself broke down.
var errUnsettled = errors.New("the commit broke down")

// commit seals what a group has staged and commits it. Where that succeeds, wait waits until it is durable. settle
// comes next, unless this panics: then the members have been told.
func (g *group) commit() (wait func() error) {
	g.err = errUnsettled
	defer func() {
		if g.err == errUnsettled {
			close(g.done)
		}
	}()
	t := g.base
	defer g.wipe()
	defer t.finish()
	g.sequence = t.root.head.Sequence
	if len(g.stage.order) == 0 {
		g.err = t.sp.stillOpen(g.fence)
		return nil
	}
	var failed error
	wait, err := t.sp.store.engine.Commit(context.Background(), format.ID(t.sp.id), func(w engine.Writer) error {
		t.r, t.w = w, w
		if failed = t.seal(&g.stage); failed != nil {
			return failed
		}
		g.sequence = t.root.head.Sequence
		// Not after: once the batch is applied the disk is at work, and nothing but waiting for it is left to do.
		t.finish()
		g.wipe()
		return t.sp.stillOpen(g.fence)
	})
	if g.err = err; failed != nil && g.members > 1 {
		g.again = true
	}
	return wait
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
	if t := g.base; g.err == nil && !g.again && len(g.stage.order) > 0 {
		t.sp.note(g.members, t.rows, t.touched, committed{g.sequence, t.gone})
	}
}

// seal seals what was staged, and writes it.
func (t *txn) seal(s *stage) error {
	before := t.root.head.Sequence
	for _, ref := range s.order { // first what ends keys, so that nothing is sealed under one of them
		if s.records[ref].erased {
			if err := t.eraseStaged(ref); err != nil {
				return err
			}
		}
	}
	all := make([]sealing, len(s.order))
	for i, ref := range s.order {
		if err := all[i].begin(t, ref, s.records[ref]); err != nil {
			return err
		}
	}
	onAllProcessors(len(all), func(i int) { all[i].seal(t) })
	for i := range all {
		all[i].end(t)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if t.root.head.Sequence != before {
		t.touched = append(t.touched, rowkey.Root)
	}
	// Last, since what was read before is not searched for in the batch then; and in the order of the keys, in which
	// the engine takes it fastest.
	slices.SortFunc(all, func(a, b sealing) int {
		return cmp.Or(bytes.Compare(a.container[:], b.container[:]), bytes.Compare(a.id[:], b.id[:]))
	})
	for i := range all {
		if err := t.replaceRow(&all[i], rowkey.Nursery, all[i].nursery, all[i].staged.unfolded); err != nil {
			return err
		}
	}
	for i := range all {
		if err := t.replaceRow(&all[i], rowkey.Record, all[i].record, all[i].staged.stored); err != nil {
			return err
		}
	}
	return nil
}

// sealing is a staged record that is being sealed.
type sealing struct {
	recordRef
	staged *stagedRecord
	tree   *tree
	key    []byte // of the page that covers it; nil: that is rewritten, and takes the secret

	record, nursery format.Sealed // zero: there is none
	added, removed  []byte        // terms of the head's sum
}

// begin finds the record's place.
func (s *sealing) begin(t *txn, ref recordRef, r *stagedRecord) error {
	tr, err := t.writableTree(ref.container)
	if err != nil {
		return err
	}
	*s = sealing{recordRef: ref, staged: r, tree: tr}
	if !r.there {
		return nil
	}
	tr.written = true
	leaf, err := tr.leaf(ref.id)
	if err != nil {
		return err
	}
	if r.secret.Key == nil {
		r.secret = format.NewSecret(0)
	}
	r.secret.Version++
	if leaf.dirty {
		leaf.page.Set(ref.id, r.secret)
		tr.take(ref.id)
		return nil
	}
	s.key = leaf.secret.Key
	return nil
}

// onAllProcessors calls work with every number below n. A goroutine more is worth it for some of them only.
func onAllProcessors(n int, work func(i int)) {
	const worth = 4
	var workers sync.WaitGroup
	var next atomic.Int64
	all := func() {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			work(i)
		}
	}
	for range min(runtime.GOMAXPROCS(0), (n+worth-1)/worth) - 1 {
		workers.Go(all)
	}
	defer workers.Wait() // be it a panic that ends the work here
	all()
}

// seal seals the record. It uses nothing of t but the keys, so that many can run at once.
func (s *sealing) seal(t *txn) {
	r, set := s.staged, t.ring.Set()
	if r.salt != nil {
		s.removed = format.Term(set, s.container, s.id, r.salt)
	}
	if !r.there {
		return
	}
	at := t.place(s.container, s.id)
	salt := format.Salt(t.ring.Hedge(), at, r.secret, r.plaintext)
	s.record = format.SealRecord(at, r.schema, r.secret, salt, r.plaintext)
	if s.key != nil {
		s.nursery = format.SealNursery(at, s.key, salt, r.secret)
		s.added = format.Term(set, s.container, s.id, salt)
	}
}

// end brings the head up to date.
func (s *sealing) end(t *txn) {
	if s.removed != nil {
		s.tree.uncountTerm(s.removed)
	}
	if s.added == nil {
		return
	}
	s.tree.countTerm(s.added)
	if t.rows == nil {
		t.rows = map[format.ID]int{}
	}
	t.rows[s.container]++
}

// replaceRow writes a row of a record, or removes the one that is stored.
func (t *txn) replaceRow(s *sealing, kind byte, value format.Sealed, stored bool) error {
	key := rowkey.Of(format.ID(t.sp.id), kind, s.container, s.id)
	switch {
	case len(value.Bytes()) > 0:
		return t.w.Put(key, value)
	case stored:
		return t.w.Delete(key)
	}
	return nil
}

// eraseStaged ends every key that led to the secret of a record.
func (t *txn) eraseStaged(ref recordRef) error {
	tr, err := t.writableTree(ref.container)
	if err != nil {
		return err
	}
	leaf, err := tr.leaf(ref.id)
	if err == nil {
		err = tr.change(leaf)
	}
	if err != nil {
		return err
	}
	leaf.page.Remove(ref.id)
	tr.take(ref.id)
	tr.rekey = true
	tr.erased = append(tr.erased, ref.id)
	return nil
}

func (tr *tree) take(id format.ID) {
	if tr.taken == nil {
		tr.taken = map[format.ID]bool{}
	}
	tr.taken[id] = true
}
