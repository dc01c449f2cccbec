package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// readIndex makes the index of all stored records.
func readIndex(r sealed.Reader) (*index, error) {
	var all everything
	for rec, err := range records.In().All(r) {
		if err != nil {
			return nil, err
		}
		all.accounts = append(all.accounts, rec)
	}
	for req, err := range requests.In().All(r) {
		if err != nil {
			return nil, err
		}
		all.requests = append(all.requests, req)
	}
	var err error
	all.capacity, err = capacities.In().Get(r, theCapacity)
	if err != nil && !errors.Is(err, sealed.ErrNotFound) {
		return nil, err
	}
	return newIndex(all)
}

// stored returns the stored record of the account called name, which is not deleted.
func (a *Accounts) stored(ctx context.Context, name string) (record, error) {
	return storedIn(ctx, a.store, name, ready)
}

// storedIn is stored for an account in one of some states.
func storedIn(ctx context.Context, store *sealed.Store, name string, in ...state) (record, error) {
	var rec record
	err := store.Space(sealed.Operator).View(ctx, func(r sealed.Reader) error {
		var err error
		rec, err = records.In().Get(r, strings.ToLower(name))
		return err
	})
	if errors.Is(err, sealed.ErrNotFound) || err == nil && !slices.Contains(in, rec.State) {
		if in[0] == deleted {
			return record{}, refuseGone(name)
		}
		return record{}, refuseUnknown(name)
	}
	if err != nil {
		return record{}, fmt.Errorf("read account: %w", err)
	}
	return rec, nil
}

func put(tx sealed.Tx, rec record) error { return records.In().Put(tx, strings.ToLower(rec.Name), rec) }

// change changes an account that is not deleted. fn may run more than once.
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
	var rec record
	err := a.repeat(ctx, func(x *index) (err error) {
		if rec, err = storedIn(ctx, a.store, name, in); err != nil {
			return err
		}
		if rec, err = fn(rec); err != nil {
			return err
		}
		rec.Revision++
		rec.Changed, rec.ChangedBy = time.Now().UnixNano(), by.Principal.ObjectID
		if err := a.storeIf(ctx, x, func(tx sealed.Tx) error { return put(tx, rec) }); err != nil {
			return fmt.Errorf("change account: %w", err)
		}
		return nil
	})
	if err != nil {
		return record{}, err
	}
	return rec, nil
}

// drop destroys a space, which may be destroyed already.
func (a *Accounts) drop(ctx context.Context, id sealed.SpaceID) error {
	if err := a.store.Spaces().Drop(ctx, id); !errors.Is(err, sealed.ErrNoSpace) {
		return err
	}
	return nil
}
