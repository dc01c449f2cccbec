package account

import (
	"context"
	"errors"
	"maps"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// notice notes which accounts were deleted, recovered or purged, so that Run has custody of this process do what the
// process does that has changed them.
func (a *Accounts) notice(x *index) {
	now := make(map[visage.ResourceID]state, len(x.byID))
	for id, rec := range x.byID {
		now[id] = rec.State
	}
	a.stateMu.Lock()
	defer a.stateMu.Unlock()
	if a.states != nil && a.store.Shared() {
		for id, before := range a.states {
			if now[id] != before {
				a.moved[id] = now[id]
			}
		}
	}
	a.states = now
	if len(a.moved) > 0 {
		a.wake()
	}
}

// followKeys has custody suspend, resume and forget the accounts that were deleted, recovered and purged. What this
// process has done itself is done again, which changes nothing.
func (a *Accounts) followKeys(ctx context.Context) {
	a.stateMu.Lock()
	moved := maps.Clone(a.moved)
	clear(a.moved)
	a.stateMu.Unlock()
	for id, now := range moved {
		space := sealed.SpaceID(id)
		var err error
		switch now {
		case deleted:
			err = a.cfg.Custody.Suspend(ctx, space)
			a.store.Bundle(space).LockNow(refuseDeleted())
		case ready:
			if err = a.openRecovered(ctx, space); err == nil {
				err = a.cfg.Custody.Recover(ctx, space)
			}
		default:
			a.cfg.Custody.Forget(space)
		}
		if err != nil && !errors.Is(err, sealed.ErrNoSpace) && ctx.Err() == nil {
			a.log.ErrorContext(ctx, "keys of a deleted or recovered resource not read", "resource", id.String(), "err",
				err)
		}
	}
}

// openRecovered opens the data of a recovered account that the service's key protects. If the account's keys cannot be
// read, it stays locked.
func (a *Accounts) openRecovered(ctx context.Context, space sealed.SpaceID) error {
	keys, err := a.cfg.Custody.Status(context.WithoutCancel(ctx), space)
	if err != nil || !serviceHolds(keys) {
		return nil
	}
	return a.store.Bundle(space).Load(ctx, nil)
}
