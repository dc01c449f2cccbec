package account

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// everything holds all stored records of the room.
type everything struct {
	accounts []record
	requests []request
	capacity capacityRecord
}

// read returns all stored records, with accounts in every state.
func (a *Accounts) read(ctx context.Context) (everything, error) {
	var all everything
	err := a.store.Space(sealed.Operator).View(ctx, func(r sealed.Reader) error {
		all = everything{} // the function may run more than once
		for rec, err := range records.In().All(r) {
			if err != nil {
				return err
			}
			all.accounts = append(all.accounts, rec)
		}
		for req, err := range requests.In().All(r) {
			if err != nil {
				return err
			}
			all.requests = append(all.requests, req)
		}
		c, err := capacities.In().Get(r, theCapacity)
		if !errors.Is(err, sealed.ErrNotFound) {
			all.capacity = c
			return err
		}
		return nil
	})
	if err != nil {
		return everything{}, fmt.Errorf("read accounts: %w", err)
	}
	return all, nil
}

// stored returns the stored record of the account called name, which is not deleted.
func (a *Accounts) stored(ctx context.Context, name string) (record, error) {
	return storedIn(ctx, a.store, name, ready)
}

// storedIn is stored for an account in a state.
func storedIn(ctx context.Context, store *sealed.Store, name string, in state) (record, error) {
	var rec record
	err := store.Space(sealed.Operator).View(ctx, func(r sealed.Reader) error {
		var err error
		rec, err = records.In().Get(r, strings.ToLower(name))
		return err
	})
	if errors.Is(err, sealed.ErrNotFound) || err == nil && rec.State != in {
		if in == deleted {
			return record{}, refuseGone(name)
		}
		return record{}, refuseUnknown(name)
	}
	if err != nil {
		return record{}, fmt.Errorf("read account: %w", err)
	}
	return rec, nil
}

func (a *Accounts) put(ctx context.Context, rec record) error {
	return a.store.Space(sealed.Operator).Update(ctx, func(tx sealed.Tx) error {
		return records.In().Put(tx, strings.ToLower(rec.Name), rec)
	})
}

// change changes an account that is not deleted, and replaces the index.
func (a *Accounts) change(
	ctx context.Context, by visage.Caller, name string, fn func(record) (record, error),
) (record, error) {
	return a.changeStored(ctx, by, name, ready, fn)
}

// changeStored is change for an account in a state.
func (a *Accounts) changeStored(
	ctx context.Context, by visage.Caller, name string, in state, fn func(record) (record, error),
) (record, error) {
	a.changes.Lock()
	defer a.changes.Unlock()
	rec, err := storedIn(ctx, a.store, name, in)
	if err != nil {
		return record{}, err
	}
	if rec, err = fn(rec); err != nil {
		return record{}, err
	}
	rec.Revision++
	rec.Changed, rec.ChangedBy = time.Now().UnixNano(), by.Principal.ObjectID
	if err := a.put(ctx, rec); err != nil {
		return record{}, fmt.Errorf("change account: %w", err)
	}
	return rec, a.reindex(ctx)
}

// drop destroys a space, which may be destroyed already.
func (a *Accounts) drop(ctx context.Context, id sealed.SpaceID) error {
	if err := a.store.Spaces().Drop(ctx, id); !errors.Is(err, sealed.ErrNoSpace) {
		return err
	}
	return nil
}

// reindex makes a new index of all stored records. It ignores the end of ctx, because a stored change must become
// visible.
func (a *Accounts) reindex(ctx context.Context) error {
	all, err := a.read(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	x, err := newIndex(all)
	if err != nil {
		return err
	}
	a.index.Store(x)
	return nil
}
