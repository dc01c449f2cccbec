package account

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// read returns all stored accounts, in whatever state.
func (a *Accounts) read(ctx context.Context) ([]record, error) {
	var all []record
	err := a.store.Space(sealed.Operator).View(ctx, func(r sealed.Reader) error {
		all = all[:0] // the function may run again
		for rec, err := range records.In().All(r) {
			if err != nil {
				return err
			}
			all = append(all, rec)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read accounts: %w", err)
	}
	return all, nil
}

// stored returns the account called name as it is stored.
func (a *Accounts) stored(ctx context.Context, name string) (record, error) {
	var rec record
	err := a.store.Space(sealed.Operator).View(ctx, func(r sealed.Reader) error {
		var err error
		rec, err = records.In().Get(r, strings.ToLower(name))
		return err
	})
	if errors.Is(err, sealed.ErrNotFound) || err == nil && rec.State != ready {
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

// change changes a ready account and swaps the index.
func (a *Accounts) change(ctx context.Context, name string, fn func(record) (record, error)) (record, error) {
	a.changes.Lock()
	defer a.changes.Unlock()
	rec, err := a.stored(ctx, name)
	if err != nil {
		return record{}, err
	}
	if rec, err = fn(rec); err != nil {
		return record{}, err
	}
	rec.Revision++
	rec.Changed = time.Now().UnixNano()
	if err := a.put(ctx, rec); err != nil {
		return record{}, fmt.Errorf("change account: %w", err)
	}
	return rec, a.reindex(ctx)
}

// remove destroys an account's space and then forgets it. It may be called again after a crash.
func (a *Accounts) remove(ctx context.Context, rec record) error {
	id, err := visage.ParseResourceID(rec.ID)
	if err != nil {
		return fmt.Errorf("read account: %w", err)
	}
	if err := a.store.Drop(ctx, sealed.SpaceID(id)); err != nil && !errors.Is(err, sealed.ErrNoSpace) {
		return fmt.Errorf("drop the space of resource %s: %w", rec.ID, err)
	}
	err = a.store.Space(sealed.Operator).Update(ctx, func(tx sealed.Tx) error {
		return records.In().Delete(tx, strings.ToLower(rec.Name))
	})
	if err != nil {
		return fmt.Errorf("forget resource %s: %w", rec.ID, err)
	}
	return nil
}

// reindex reads the accounts again and swaps the index. The stored state is what counts, also when ctx has ended
// meanwhile: a change that is stored must show.
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

func (r record) account() Account {
	id, _ := visage.ParseResourceID(r.ID) // checked when the index was made; the zero record has the zero id
	return Account{
		Resource: visage.Resource{ID: id, Name: r.Name, Tier: r.Tier},
		Group:    r.Group, Location: r.Location, Tags: maps.Clone(r.Tags),
		Created: time.Unix(0, r.Created).UTC(), Changed: time.Unix(0, r.Changed).UTC(), Revision: r.Revision,
	}
}

// newKey returns 128 random bits as the contract's older resources have them: 32 hexadecimal digits.
func newKey() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: the runtime ends the process instead
	return hex.EncodeToString(b[:])
}
