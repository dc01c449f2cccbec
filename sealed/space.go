package sealed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed/internal/engine"
)

// drainTime is how long Lock waits for transactions that are inside. Those that take longer fail at their commit, and the keys are wiped
// when the last of them has left.
const drainTime = 2 * time.Second

// Space is the data verbs of a space. It is safe for concurrent use.
type Space struct {
	store *Store
	id    SpaceID

	keying  sync.Mutex // held while keys are changed; taken before loading and mu
	loading sync.Mutex // held while keys are opened; taken before mu

	mu     sync.Mutex // guards all below
	ring   *keyring   // nil: not open
	lease  context.Context
	end    context.CancelCauseFunc
	until  time.Time  // when the lease runs out; zero: never
	locked error      // not nil: locked, and why
	fence  uint64     // moves with every lock
	going  []*keyring // rings that nobody new may use, while somebody still does
}

func newSpace(s *Store, id SpaceID) *Space {
	sp := &Space{store: s, id: id}
	sp.lease, sp.end = context.WithCancelCause(s.life)
	return sp
}

// Lease returns a context that ends when the space is locked or dropped, or the store closed; its cause says which. Nothing that was derived from
// the space's data may outlive it. A space that is loaded again has a new lease.
func (sp *Space) Lease() context.Context {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.lease
}

// View runs fn on a snapshot of the space. The Reader is valid until fn returns, and for one goroutine.
// Errors: ErrNoSpace, ErrLocked, ErrGrace, ErrClosed, what fn returns, the cause of an ended ctx.
func (sp *Space) View(ctx context.Context, fn func(Reader) error) error {
	ring, _, err := sp.enter(ctx)
	if err != nil {
		return err
	}
	defer sp.leave(ring)
	return sp.store.engine.View(ctx, func(r engine.Reader) error {
		t := &txn{sp: sp, ring: ring, r: r}
		defer t.finish()
		return fn(t)
	})
}

// Update runs fn as a transaction: when it returns nil, all that fn wrote is durable; on any other end nothing of it is, save that an error of
// the disk itself may leave that open. fn sees its own writes, and the space alone. It may run twice, so it keeps nothing from an earlier
// run, and it is short: other writers wait. The lease is checked before fn and after it, inside the transaction.
// Errors: as View.
func (sp *Space) Update(ctx context.Context, fn func(Tx) error) error {
	ring, fence, err := sp.enter(ctx)
	if err != nil {
		return err
	}
	defer sp.leave(ring)
	var touched []containerCount
	err = sp.store.engine.Update(ctx, func(w engine.Writer) error {
		t := &txn{sp: sp, ring: ring, r: w, w: w}
		defer t.finish()
		if err := fn(t); err != nil {
			return err
		}
		if err := t.flush(); err != nil {
			return err
		}
		touched = t.touched
		return sp.stillOpen(fence)
	})
	if err == nil {
		sp.store.folds.note(sp.id, touched)
	}
	return err
}

// swap publishes other keys in place of the open ones, and waits until nobody uses the old ones any more. It takes ring over.
func (sp *Space) swap(ctx context.Context, ring *keyring, fence uint64) error {
	sp.mu.Lock()
	if err := sp.closedLocked(); err != nil || sp.fence != fence {
		sp.mu.Unlock()
		ring.free()
		return errors.Join(err, fmt.Errorf("%w: it was locked while its keys were changed", ErrLocked))
	}
	old := sp.ring
	sp.ring = ring
	if old == nil {
		sp.mu.Unlock()
		return nil
	}
	sp.retireLocked(old)
	sp.mu.Unlock()
	select {
	case <-old.left:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// enter counts the caller in and returns the keys, opening them when that needs nobody else.
func (sp *Space) enter(ctx context.Context) (*keyring, uint64, error) {
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

// closedLocked returns why nobody may enter, nil when one may.
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
		return fmt.Errorf("%w: it was locked while this was under way", ErrLocked)
	}
	return nil
}

func (sp *Space) leave(ring *keyring) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	ring.users--
	sp.freeIfLeftLocked(ring)
}

// retireLocked takes a ring out of use: it is freed once nobody uses it any more.
func (sp *Space) retireLocked(ring *keyring) {
	ring.retired = true
	sp.going = append(sp.going, ring)
	sp.freeIfLeftLocked(ring)
}

// left waits until nobody uses a ring that is no longer the space's.
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

func (sp *Space) freeIfLeftLocked(ring *keyring) {
	if !ring.retired || ring.users > 0 {
		return
	}
	ring.free()
	close(ring.left)
	sp.going = slices.DeleteFunc(sp.going, func(r *keyring) bool { return r == ring })
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

// openRing opens the keys and publishes them, unless the space was locked since fence was read. loading is held.
func (sp *Space) openRing(ctx context.Context, src keysource.Source, fence uint64) error {
	ring, err := sp.store.openKeys(ctx, sp.id, src)
	if err != nil {
		return err
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.fence != fence {
		ring.free()
		return fmt.Errorf("%w: it was locked while its keys were opened", ErrLocked)
	}
	if sp.locked != nil {
		sp.locked = nil
		sp.lease, sp.end = context.WithCancelCause(sp.store.life)
	}
	sp.ring = ring
	sp.until = time.Time{}
	sp.store.report(Event{Kind: SpaceOpened, Space: sp.id})
	return nil
}
