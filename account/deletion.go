package account

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/sealed/follow"
)

// Retention is how long a deleted account can be recovered (contract §8).
const Retention = 48 * time.Hour

// Delete takes an account out of service: its keys and its host stop working at once, requests under way stop, and its
// data stays sealed until it is recovered or purged, at the latest after Retention. The keys of its data are wiped from
// memory, and a customer's key is no longer polled. Its name, its subdomain and its place stay taken. Refusals:
// ResourceNotFound; RequestConflict while an Update is changing its customer-managed key.
func (a *Accounts) Delete(ctx context.Context, by visage.Caller, name string) error {
	return a.recorded(ctx, a.eventAt(audit.ResourceDelete, by, name), func() error {
		now := time.Now()
		rec, err := a.change(ctx, by, name, func(rec record) (record, error) {
			if err := a.admitChange(rec.account()); err != nil {
				return record{}, err
			}
			rec.State, rec.Deleted, rec.PurgeAt = deleted, now.UnixNano(), now.Add(Retention).UnixNano()
			return rec, nil
		})
		if err != nil {
			return err
		}
		a.suspend(ctx, rec)
		// the last cause is what is answered
		a.store.Bundle(rec.space()).Lock(refuseDeleted())
		a.wake()
		return nil
	})
}

func refuseDeleted() error {
	return visage.Refuse(visage.Unauthenticated, "401", "The resource is deleted: recover it first.")
}

// suspend makes custody stop using the customer's key of a deleted account, if it has one. If the account's keys cannot
// be read, its data is not open either.
func (a *Accounts) suspend(ctx context.Context, rec record) {
	if err := a.cfg.Custody.Suspend(context.WithoutCancel(ctx), rec.space()); err != nil {
		a.log.ErrorContext(ctx, "keys of a deleted resource not read", "resource", rec.ID, "err", err)
	}
}

// serviceHolds reports whether the data of an account is under the service's key, so that it opens without asking a
// vault. Custody opens and closes the data under customers' keys, as those answer.
func serviceHolds(now custody.Status) bool {
	return now.Key == (visage.KeyRef{}) && now.Operation.Progress != custody.Running
}

// Deleted returns the deleted accounts that can be recovered, sorted by name.
func (a *Accounts) Deleted(context.Context) ([]Account, error) {
	return sorted(a.index.Now().gone), nil
}

// GetDeleted returns the deleted account called name, in any case. Refusal: ResourceNotFound.
func (a *Accounts) GetDeleted(ctx context.Context, name string) (Account, error) {
	rec, found := lookup(ctx, a, func(x *index) (record, bool) {
		rec, found := x.gone[strings.ToLower(name)]
		return rec, found
	})
	if !found {
		return Account{}, refuseGone(name)
	}
	return rec.account(), nil
}

// Recover brings a deleted account back as it was, with its data and its keys. If its data is under a customer's key,
// it opens when that key answers. Refusal: ResourceNotFound.
func (a *Accounts) Recover(ctx context.Context, by visage.Caller, name string) (Account, error) {
	var back Account
	err := a.recorded(ctx, a.eventAt(audit.ResourceRecover, by, name), func() error {
		rec, err := a.changeStored(ctx, by, name, deleted, func(rec record) (record, error) {
			if err := a.openRecovered(ctx, rec.space()); err != nil {
				return record{}, fmt.Errorf("open the data of resource %s: %w", rec.ID, err)
			}
			rec.State, rec.Deleted, rec.PurgeAt = ready, 0, 0
			return rec, nil
		})
		back = rec.account()
		if err != nil {
			return err
		}
		// the account is recovered, whatever its key answers
		if err := a.cfg.Custody.Recover(context.WithoutCancel(ctx), rec.space()); err != nil {
			a.log.ErrorContext(ctx, "keys of a recovered resource not read", "resource", rec.ID, "err", err)
		}
		return nil
	})
	return back, err
}

// Purge destroys a deleted account. When it returns, no copy of the account's data can be opened any more, and its
// name, its subdomain and its place are free. Refusals: ResourceNotFound; ServiceUnavailable while another process has
// the account for longer than an ended one could.
func (a *Accounts) Purge(ctx context.Context, by visage.Caller, name string) error {
	return a.purgeWithin(ctx, by, name, holdFor+5*time.Second)
}

// purgeWithin is Purge with so much patience for another process that has the account.
func (a *Accounts) purgeWithin(ctx context.Context, by visage.Caller, name string, patience time.Duration) error {
	e := a.eventAt(audit.ResourcePurge, by, name)
	return a.record(ctx, e, a.purge(ctx, name, patience))
}

// holdAgain is how long a purge waits before it looks again whether another process still has the account.
const holdAgain = 250 * time.Millisecond

// holdDeleted holds a deleted account for its purge. It waits for another process that has it, which may be purging it
// as well, or has ended: a purge that returns has destroyed the data, or another one has. Error: sealed.ErrClaimed.
func (a *Accounts) holdDeleted(ctx context.Context, rec record, patience time.Duration) (release func(), err error) {
	for until := time.Now().Add(patience); ; {
		release, err := a.hold(ctx, rec)
		if !errors.Is(err, sealed.ErrClaimed) || time.Now().After(until) {
			return release, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(holdAgain):
		}
	}
}

func (a *Accounts) purge(ctx context.Context, name string, patience time.Duration) error {
	found, err := storedIn(ctx, a.store, name, deleted, deleting)
	if err != nil {
		return err
	}
	release, err := a.holdDeleted(ctx, found, patience)
	if errors.Is(err, sealed.ErrClaimed) {
		refusal := visage.Refuse(visage.Unavailable, "ServiceUnavailable",
			"Another server is purging the resource %q, or is about to. Try again later.", name)
		refusal.RetryAfter = purgeAgain
		return refusal
	}
	if err != nil {
		return fmt.Errorf("purge account: %w", err)
	}
	defer release()
	a.changes.Lock()
	var rec record
	// The point of no return: after a crash, Run finishes the purge.
	ctx = context.WithoutCancel(ctx)
	err = a.repeat(ctx, func(x *index) (err error) {
		if rec, err = storedIn(ctx, a.store, name, deleted, deleting); err != nil {
			return err
		}
		if rec.ID != found.ID { // it was purged, and another one had its name since
			return refuseGone(name)
		}
		rec.State = deleting
		return a.storeIf(ctx, x, func(tx sealed.Tx) error { return put(tx, rec) })
	})
	if err == nil {
		err = a.remove(ctx, rec)
	}
	var promoted []request
	if err == nil {
		promoted, err = a.vacate(ctx, rec)
	}
	a.changes.Unlock()
	if _, refused := errors.AsType[*visage.Refusal](err); refused {
		return err
	}
	if err != nil {
		return fmt.Errorf("purge account: %w", err)
	}
	return a.recordPromoted(ctx, promoted)
}

// remove destroys an account's space, its identity and the roles on it, and then forgets it. It may be called again
// after a crash.
func (a *Accounts) remove(ctx context.Context, rec record) error {
	id, err := visage.ParseResourceID(rec.ID)
	if err != nil {
		return fmt.Errorf("read account: %w", err)
	}
	if err := a.drop(ctx, sealed.SpaceID(id)); err != nil {
		return fmt.Errorf("drop the space of resource %s: %w", rec.ID, err)
	}
	a.cfg.Custody.Forget(sealed.SpaceID(id))
	// Also if it has none any more: after a crash the identity may still exist, and the next account of its name would
	// get it.
	if err := a.identities().Remove(ctx, rec.account()); err != nil {
		return fmt.Errorf("delete the identity of resource %s: %w", rec.ID, err)
	}
	if err := a.identities().Forget(ctx, rec.account()); err != nil {
		return fmt.Errorf("remove the role assignments on resource %s: %w", rec.ID, err)
	}
	err = a.index.Update(ctx, func(tx sealed.Tx, _ *index) error {
		return records.In().Delete(tx, strings.ToLower(rec.Name))
	})
	if err != nil {
		return fmt.Errorf("delete the record of resource %s: %w", rec.ID, err)
	}
	return nil
}

// Run purges deleted accounts when their retention ends, finishes what other processes have left undone, and follows
// the changes that others make, until ctx ends.
func (a *Accounts) Run(ctx context.Context) error {
	var following sync.WaitGroup
	defer following.Wait()
	following.Go(func() { follow.Run(ctx, a.log, a.index) })
	for {
		a.followKeys(ctx)
		next := a.purgeDue(ctx)
		if len(a.index.Now().pending) > 0 {
			if err := a.finish(ctx); err != nil && ctx.Err() == nil {
				a.log.ErrorContext(ctx, "an interrupted creation or purge was not finished", "err", err)
			}
			if again := time.Now().Add(purgeAgain); next.IsZero() || again.Before(next) {
				next = again
			}
		}
		var purge <-chan time.Time // nil: never
		if !next.IsZero() {
			purge = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.due:
		case <-purge:
		}
	}
}

// purgeDue purges the deleted accounts whose retention has ended, and returns when the next one's ends; zero: never.
func (a *Accounts) purgeDue(ctx context.Context) (next time.Time) {
	for _, one := range sorted(a.index.Now().gone) {
		if !one.PurgeAt.After(time.Now()) {
			err := a.purgeWithin(ctx, visage.Caller{}, one.Name, 0)
			refusal, refused := errors.AsType[*visage.Refusal](err)
			if err == nil || ctx.Err() != nil || refused && refusal.Kind == visage.NotFound { // another process did it
				continue
			}
			if !refused || refusal.Kind != visage.Unavailable { // else another process does it
				a.log.ErrorContext(ctx, "deleted resource not purged", "resource", one.ID.String(), "err", err)
			}
			one.PurgeAt = time.Now().Add(purgeAgain)
		}
		if next.IsZero() || one.PurgeAt.Before(next) {
			next = one.PurgeAt
		}
	}
	return next
}

// purgeAgain is how long after a failure a purge is retried.
const purgeAgain = time.Minute

// wake makes Run look again for deleted accounts to purge.
func (a *Accounts) wake() {
	select {
	case a.due <- struct{}{}:
	default: // Run will look anyway
	}
}

// Current makes sure that the resources and keys known here are not older than a second: see follow.Value.
func (a *Accounts) Current(ctx context.Context) error { return follow.Current(ctx, a.index) }
