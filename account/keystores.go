package account

import (
	"context"
	"fmt"

	"github.com/visage-face/visage"
)

// AddStore has a key in a further store protect the data of an account too; see custody.AddStore. p names the key; with
// Register, the account's identity is granted access to it first, if the caller may do so. Refusals: ResourceNotFound,
// those of custody.
func (a *Accounts) AddStore(ctx context.Context, by visage.Caller, name string, p Protection) error {
	return a.recorded(ctx, a.action("add key store", by, name), func() error {
		rec, err := a.stored(ctx, name)
		if err != nil {
			return err
		}
		key, err := a.keyOf(p)
		if err != nil {
			return err
		}
		if err := a.requireVault(ctx, rec, key); err != nil {
			return err
		}
		as := visage.PrincipalID(rec.Identity.System.PrincipalID)
		now, err := a.cfg.Custody.Status(ctx, rec.space())
		if err != nil {
			return fmt.Errorf("read the state of the key of resource %s: %w", rec.ID, err)
		}
		if p.Register && as != "" && now.Stores != nil { // else custody refuses, and nothing is to be granted
			if err := a.identities().Grant(ctx, by, rec.account(), key); err != nil {
				return fmt.Errorf("give resource %s access to its key: %w", rec.ID, err)
			}
		}
		_, err = a.cfg.Custody.AddStore(ctx, rec.space(), key, as)
		return err
	})
}

// RemoveStore has the key that p names protect the data of an account no more; see custody.RemoveStore. Refusals:
// ResourceNotFound, those of custody.
func (a *Accounts) RemoveStore(ctx context.Context, by visage.Caller, name string, p Protection) error {
	return a.recorded(ctx, a.action("remove key store", by, name), func() error {
		rec, err := a.stored(ctx, name)
		if err != nil {
			return err
		}
		key, err := a.keyOf(p)
		if err != nil {
			return err
		}
		_, err = a.cfg.Custody.RemoveStore(ctx, rec.space(), key)
		return err
	})
}

// PromoteStore has the key that keeps the data of an account open take the place of its first key, which is lost; see
// custody.PromoteStore. Refusals: ResourceNotFound, those of custody.
func (a *Accounts) PromoteStore(ctx context.Context, by visage.Caller, name string) error {
	return a.recorded(ctx, a.action("promote key store", by, name), func() error {
		rec, err := a.stored(ctx, name)
		if err != nil {
			return err
		}
		_, err = a.cfg.Custody.PromoteStore(ctx, rec.space())
		return err
	})
}
