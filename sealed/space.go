package sealed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/commit"
	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/rowkey"
	"github.com/visage-face/visage/sealed/internal/tree"
)

// drainTime is how long Lock waits for transactions that are inside. Those that take longer fail at their commit, and
// the keys are wiped when the last of them has left.
const drainTime = 2 * time.Second

func newSpace(s *Store, id SpaceID) *Space {
	sp := &Space{store: s, id: id, keying: make(keyLock, 1), dirty: map[format.ID]bool{}}
	sp.writing = commit.NewQueue(commit.Config{
		Env: s.env, Space: id, Engine: s.engine, Volumes: s.volumes,
		// it holds accounts, keys and rights, whose changes must go on; what adds to it asks MayGrow
		Exempt: id == Operator,
		Open:   sp.stillOpen, Begin: sp.compare, Note: sp.note,
	})
	sp.lease, sp.end = context.WithCancelCause(s.life)
	return sp
}

// Lease returns a context that ends when the space is locked or dropped, or the store closed; its cause says which.
// Nothing that was derived from the space's data may outlive it. A space that is loaded again has a new lease.
func (sp *Space) Lease() context.Context {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.lease
}

// Sequence returns the sequence of the key bundle that the open keys were last held against, which happens in each
// transaction of a store that can be shared. Like a lease it says under which keys something was read, but another
// process can tell from it whether it knows these keys. ok is false while the space is not open.
func (sp *Space) Sequence() (sequence uint64, ok bool) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.ring == nil || sp.closedLocked() != nil {
		return 0, false
	}
	return sp.ring.Sequence(), true
}

// maxOlder is how often in a row a transaction may meet keys that are older than those which are open: a snapshot can
// be, a database cannot.
const maxOlder = 20

// within runs fn with the space's keys. A snapshot may be older than the keys when these were turned in between, and
// the keys older than a snapshot when another process has turned them: then fn, which has found that out before all
// else and has done nothing yet, runs again.
func (sp *Space) within(ctx context.Context, fn func(ring *keys.Ring, fence uint64) error) error {
	for older := 0; ; {
		ring, fence, err := sp.enter(ctx)
		if err != nil {
			return err
		}
		again := false
		err = func() error {
			defer sp.leave(ring) // after a panic of fn as well
			turns := ring.Turns()
			err := fn(ring.Ring, fence)
			switch {
			case err == nil:
			case errors.Is(err, keys.ErrTurned):
				err = sp.follow(ctx, ring)
				again = err == nil
			case errors.Is(err, keys.ErrOlder):
				older++
				again = older < maxOlder
			case errors.Is(err, tree.ErrStale):
				again = ring.Turns() != turns || sp.stillOpen(fence) != nil
			}
			return err
		}()
		if again && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !again {
			return sp.notOpen(err)
		}
	}
}

// notOpen makes of what a transaction has found about the keys what its caller is told, who may be in a transaction of
// another space. Where another process has closed the space, it is closed here too.
func (sp *Space) notOpen(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, keys.ErrFenced), errors.Is(err, keys.ErrForeign):
		sp.lock(ErrLockedElsewhere)
		return fmt.Errorf("%w: %w: %v", ErrLocked, ErrLockedElsewhere, err)
	case errors.Is(err, keys.ErrGone):
		sp.store.forget(sp)
		return ErrNoSpace
	case errors.Is(err, keys.ErrOlder):
		return sp.store.report.Corrupt(&CorruptError{Space: sp.id, What: "bundle", Err: fmt.Errorf("%w: %v",
			ErrRollback, err)})
	case errors.Is(err, tree.ErrStale):
		return sp.store.report.Corrupt(&CorruptError{Space: sp.id, Container: rowkey.Root.String(), What: "head",
			Err: err})
	}
	return err
}

// follow brings the keys to what another process has made of them. The ring is in use.
func (sp *Space) follow(ctx context.Context, ring *openKeys) error {
	defer sp.store.root.Hold()()
	return sp.store.bundles.Follow(ctx, sp.id, ring.Ring)
}

// compare is called in each transaction, before it reads anything else: see keys.Bundles.Compare.
func (sp *Space) compare(ring *keys.Ring, r engine.Reader) error {
	if !sp.store.sharedEngine() {
		return nil
	}
	return sp.store.bundles.Compare(r, sp.id, ring)
}

// enter counts the caller in and returns the keys, opening them if the service's key suffices.
func (sp *Space) enter(ctx context.Context) (*openKeys, uint64, error) {
	for {
		sp.mu.Lock()
		err := sp.closedLocked()
		if err == nil && sp.ring != nil {
			ring, fence := sp.ring, sp.fence
			ring.users++
			sp.mu.Unlock()
			return ring, fence, nil
		}
		sp.mu.Unlock()
		if err != nil {
			return nil, 0, err
		}
		if err := sp.loadUnlessOpen(ctx); err != nil {
			return nil, 0, err
		}
	}
}

// enterIfOpen is enter for who has nothing to do in a space that is not open: there is no ring then.
func (sp *Space) enterIfOpen() (*openKeys, uint64) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.ring == nil || sp.closedLocked() != nil {
		return nil, 0
	}
	sp.ring.users++
	return sp.ring, sp.fence
}

// closedLocked returns why the space cannot be entered; nil when it can.
func (sp *Space) closedLocked() error {
	if sp.locked != nil {
		if errors.Is(sp.locked, ErrClosed) || errors.Is(sp.locked, ErrNoSpace) {
			return sp.locked
		}
		return fmt.Errorf("%w: %w", ErrLocked, sp.locked)
	}
	if !sp.until.IsZero() && !time.Now().Before(sp.until) {
		return ErrGrace
	}
	return nil
}

// stillOpen is the check at the end of a transaction: the space that was entered must be the one that is open.
func (sp *Space) stillOpen(fence uint64) error {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if err := sp.closedLocked(); err != nil {
		return err
	}
	if sp.fence != fence {
		return fmt.Errorf("%w: %w", ErrLocked, ErrReopened)
	}
	return nil
}

func (sp *Space) leave(ring *openKeys) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	ring.users--
	sp.freeIfLeftLocked(ring)
}

// retireLocked takes a ring out of use: it is freed when its last user has left.
func (sp *Space) retireLocked(ring *openKeys) {
	ring.retired = true
	sp.going = append(sp.going, ring)
	sp.freeIfLeftLocked(ring)
}

// left waits for the last user of a ring that is no longer the space's.
func (sp *Space) left(ctx context.Context) error {
	sp.mu.Lock()
	going := slices.Clone(sp.going)
	sp.mu.Unlock()
	for _, ring := range going {
		select {
		case <-ring.left:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (sp *Space) freeIfLeftLocked(ring *openKeys) {
	if !ring.retired || ring.users > 0 {
		return
	}
	ring.Free()
	close(ring.left)
	sp.going = slices.DeleteFunc(sp.going, func(r *openKeys) bool { return r == ring })
	if sp.locked != nil && len(sp.going) == 0 {
		sp.store.report(Event{Kind: SpaceWiped, Space: sp.id})
	}
}

// lock moves the fence and ends the lease. See drain for the rest.
func (sp *Space) lock(cause error) {
	if cause == nil {
		cause = ErrLocked
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.fence++
	fresh := sp.locked == nil
	if fresh || errors.Is(cause, ErrClosed) || !errors.Is(sp.locked, ErrClosed) && !errors.Is(sp.locked, ErrNoSpace) {
		sp.locked = cause // a later cause says why it is locked now: no answer may become a refusal
	}
	sp.end(cause)
	if sp.ring != nil {
		ring := sp.ring
		sp.ring = nil
		sp.retireLocked(ring)
	}
	if fresh {
		sp.store.report(Event{Kind: SpaceLocked, Space: sp.id, Err: cause})
	}
}

// drain waits until those who were inside have left and the keys are wiped, or for drainTime.
func (sp *Space) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	_ = sp.left(ctx) // who takes longer fails at the commit, and the keys are wiped then
}

func (sp *Space) renew(until time.Time) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.until = until
}

func (sp *Space) loadUnlessOpen(ctx context.Context) error {
	sp.loading.Lock()
	defer sp.loading.Unlock()
	sp.mu.Lock()
	open, fence := sp.ring != nil || sp.locked != nil, sp.fence
	sp.mu.Unlock()
	if open {
		return nil
	}
	return sp.openRing(ctx, nil, fence)
}

func (sp *Space) load(ctx context.Context, src keysource.Source) error {
	sp.loading.Lock()
	defer sp.loading.Unlock()
	sp.mu.Lock()
	err := sp.locked
	open, fence := sp.ring != nil && err == nil, sp.fence
	sp.mu.Unlock()
	if errors.Is(err, ErrClosed) {
		return ErrClosed
	}
	if open {
		return nil
	}
	if err := sp.left(ctx); err != nil { // somebody may still be inside with the keys from before the lock
		return err
	}
	return sp.openRing(ctx, src, fence)
}

func (sp *Space) isOpen() bool {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.ring != nil && sp.closedLocked() == nil
}

// openRing opens the keys and publishes them, unless the space was locked since fence was read. loading is held.
func (sp *Space) openRing(ctx context.Context, src keysource.Source, fence uint64) error {
	ring, erased, err := sp.store.openKeys(ctx, sp.id, src)
	if src == nil && errors.Is(err, ErrLocked) && sp.store.sharedEngine() {
		// Another process has put a key source in the service key's place, before anybody used the space here.
		return sp.notOpen(keys.ErrForeign)
	}
	if err != nil {
		return err
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.fence != fence {
		ring.Free()
		if err := sp.closedLocked(); err != nil {
			return err
		}
		return fmt.Errorf("%w: %w", ErrLocked, ErrReopened)
	}
	if sp.locked != nil {
		sp.locked = nil
		sp.lease, sp.end = context.WithCancelCause(sp.store.life)
	}
	sp.ring = &openKeys{Ring: ring, left: make(chan struct{})}
	sp.until, sp.surveyed = time.Time{}, false
	if erased.Erased { // deleted, and then a crash came
		sp.erasedAt, sp.erasedUnder = max(sp.erasedAt, erased.Sequence), erased.Pair
		sp.store.erasures.add(sp.id)
	}
	sp.store.report(Event{Kind: SpaceOpened, Space: sp.id})
	return nil
}

// Space returns the data verbs of a space. Whether it exists shows when it is used.
func (s *Store) Space(id SpaceID) *Space {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp, ok := s.spaces[id]
	if !ok {
		sp = newSpace(s, id)
		if s.closed {
			sp.lock(ErrClosed)
		}
		s.spaces[id] = sp
	}
	return sp
}

// note keeps what a commit of so many transactions leaves to be done: nursery rows to be folded, containers whose state
// the root container, or the anchor, does not know yet, and erasures that wait for a turn. A commit of which it is not
// known whether it was made is noted too: an erasure that did not happen costs a turn that nobody needed.
func (sp *Space) note(transactions int, c tree.Changes) {
	sp.store.folds.note(sp.id, c.Rows, c.Nursery)
	sp.mu.Lock()
	for _, id := range c.Touched {
		sp.dirty[id] = true
	}
	if len(c.Gone) > 0 && c.Sequence > sp.erasedAt {
		sp.erasedAt, sp.erasedUnder = c.Sequence, c.Pair
	}
	waiting := sp.erasedAt > sp.turnedAt
	sp.mu.Unlock()
	if waiting {
		sp.store.erasures.add(sp.id)
	}
	if len(c.Touched) > 0 {
		sp.store.anchors.Committed(transactions)
	}
}

// forget drops what is known of a space that another process has dropped.
func (s *Store) forget(sp *Space) {
	sp.lock(ErrNoSpace)
	s.mu.Lock()
	if s.spaces[sp.id] == sp {
		delete(s.spaces, sp.id)
	}
	s.mu.Unlock()
	s.folds.forget(sp.id)
	s.anchors.Forget(s.life, sp.id)
}

// known returns a space that has been used since the start; nil if it has not, or was dropped.
func (s *Store) known(id SpaceID) *Space {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spaces[id]
}
