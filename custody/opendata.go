package custody

import (
	"context"
	"errors"
	"time"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

var errClosedByOwner = errors.New("the resource is locked by its owner, or deleted")

// errLockedMeanwhile says that a resource was locked while its keys were loaded.
var errLockedMeanwhile = errors.New("the resource was locked while its keys were loaded")

// openData loads the keys of a locked space with src and opens its data, unless the space is locked meanwhile.
func (c *Custody) openData(ctx context.Context, sp *space, src keysource.Source, load effect) error {
	if s := sp.stateNow(); s.OwnerLocked || s.Deleted {
		return errClosedByOwner
	}
	asked := time.Now()
	ctx = keysource.WithTrace(ctx)
	err := c.loadKeys(ctx, sp, src, load)
	class := classOf(err)
	c.recordOrLog(ctx, sp, load.store, audit.KeyUnwrap, outcomeOf(class),
		map[audit.Detail]string{audit.DetailClass: string(class)})
	if err != nil {
		return err
	}
	c.applyEvent(ctx, sp, event{kind: opened, lockCount: load.lockCount, asked: asked, expired: load.expired,
		store: load.store, subject: c.keySubject(sp, load.store)})
	if sp.stateNow().LockCount != load.lockCount {
		return errLockedMeanwhile
	}
	return nil
}

// openWithServiceKey opens the data that the service's key alone protects. load is nil if no keys are to be loaded.
func (c *Custody) openWithServiceKey(ctx context.Context, sp *space, load *effect) error {
	if load == nil {
		return nil
	}
	err := c.openData(ctx, sp, c.keySources(sp, &flow{}), *load)
	if err != nil {
		c.log.ErrorContext(ctx, "resource not opened", "resource", sp.id.String(), "err", err)
	}
	return err
}

// loadKeys loads the keys of a space that has been locked as often as load.lockCount says. A lock meanwhile ends the
// loading, and then no keys are loaded.
func (c *Custody) loadKeys(ctx context.Context, sp *space, src keysource.Source, load effect) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	sp.mu.Lock()
	sp.stopLoad = stop
	sp.mu.Unlock()
	guard := loadGuard{Source: src, sp: sp, lockCount: load.lockCount, shared: c.shared}
	if b, _ := sp.keyOf(load.store); b != nil && sp.noteNow().Flow == nil {
		guard.only = b.Key.Unversioned()
	}
	err := sp.bundle.Load(ctx, guard)
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.stopLoad = nil
	if err == nil && sp.state.LockCount != load.lockCount {
		if sp.state.DataLocked { // the service's key was unwrapped without loadGuard
			sp.bundle.LockNow(sp.state.Condition.refusal())
		}
		return errLockedMeanwhile
	}
	return err
}

// loadGuard unwraps nothing for a space that was locked since loading began, and with no other key than the one that is
// to open the data.
type loadGuard struct {
	keysource.Source
	sp        *space
	lockCount uint64
	only      string // the identifier of that key; empty: as Source decides, during a change
	shared    bool   // other processes may lock the space
}

// Unwrap implements keysource.Source.
func (s loadGuard) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) (inner []byte, err error) {
	if s.sp.stateNow().LockCount != s.lockCount {
		return nil, errLockedMeanwhile
	}
	if s.shared {
		// The fence of the space has been read. A lock that is stored from now on moves it, and ends what is loaded.
		n, _, err := s.sp.stored(ctx)
		switch {
		case err != nil:
			return nil, err
		case n.OwnerLocked:
			return nil, errLockedMeanwhile
		}
	}
	if s.only != "" && ref.URI != s.only {
		return nil, sealed.ErrOtherSlot
	}
	return s.Source.Unwrap(ctx, ref, blob)
}
