package keyvault

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Page is a part of a list. Next is where the following part begins, to be handed back as After; empty: there is none.
type Page struct {
	Keys []Key
	Next string
}

// Keys lists the newest versions of the keys of a vault that come after the name after, at most limit. Refusals:
// Forbidden, VaultNotFound.
func (s *Service) Keys(ctx context.Context, who visage.Caller, vault, after string, limit int) (Page, error) {
	return s.list(ctx, who, vault, "KeyList", after, limit, func(k keyRecord) bool { return k.Deleted == 0 })
}

// DeletedKeys lists the deleted keys of a vault as Keys lists the others.
func (s *Service) DeletedKeys(ctx context.Context, who visage.Caller, vault, after string, limit int) (Page, error) {
	return s.list(ctx, who, vault, "KeyListDeleted", after, limit, func(k keyRecord) bool { return k.Deleted != 0 })
}

func (s *Service) list(
	ctx context.Context, who visage.Caller, name, operation, after string, limit int, wanted func(keyRecord) bool,
) (page Page, err error) {
	err = s.audited(ctx, event{Operation: operation, Vault: name, Who: storable(who)}, func(*event) error {
		vault, err := s.enter(ctx, who, name, MayList)
		if err != nil {
			return err
		}
		err = s.space.View(ctx, func(r sealed.Reader) error {
			page = Page{} // the function may run again
			all, err := keysOf(r, vault)
			if err != nil {
				return err
			}
			for _, k := range all {
				lower := strings.ToLower(k.Name)
				if lower <= after || !wanted(k) {
					continue
				}
				if len(page.Keys) == limit {
					page.Next = strings.ToLower(page.Keys[limit-1].Name)
					return nil
				}
				v, err := versions.In(vault.ID, k.ID).Get(r, k.Current)
				if err != nil {
					return err
				}
				page.Keys = append(page.Keys, v.key(vault, k))
			}
			return nil
		})
		return wrap("list keys", err)
	})
	if err != nil {
		return Page{}, err
	}
	return page, nil
}

// KeyVersions lists the versions of a key in the order they were made, beginning after the version after, at most
// limit. The list of a key that does not exist is empty. Refusals: Forbidden, VaultNotFound.
func (s *Service) KeyVersions(
	ctx context.Context, who visage.Caller, ref Ref, after string, limit int,
) (page Page, err error) {
	ref.Version = ""
	e := event{Operation: "KeyListVersions", Vault: ref.Vault, Who: storable(who), KeyID: s.KeyID(ref)}
	err = s.audited(ctx, e, func(*event) error {
		vault, err := s.enter(ctx, who, ref.Vault, MayList)
		if err != nil {
			return err
		}
		err = s.space.View(ctx, func(r sealed.Reader) error {
			page = Page{} // the function may run again
			k, err := keys.In(vault.ID).Get(r, strings.ToLower(ref.Name))
			if errors.Is(err, sealed.ErrNotFound) || err == nil && k.Deleted != 0 {
				return nil
			}
			if err != nil {
				return err
			}
			all, err := versionsOf(r, vault, k)
			if err != nil {
				return err
			}
			begin := slices.IndexFunc(all, func(v versionRecord) bool { return v.ID == after }) + 1
			if after != "" && begin == 0 {
				return invalid("The list cannot be continued because its key was replaced: start again without " +
					"$skiptoken.")
			}
			for _, v := range all[begin:] {
				if len(page.Keys) == limit {
					page.Next = page.Keys[limit-1].Version
					return nil
				}
				page.Keys = append(page.Keys, v.key(vault, k))
			}
			return nil
		})
		return wrap("list versions", err)
	})
	if err != nil {
		return Page{}, err
	}
	return page, nil
}

// versionsOf returns the versions of a key, the oldest first.
func versionsOf(r sealed.Reader, vault vaultRecord, k keyRecord) ([]versionRecord, error) {
	var all []versionRecord
	for v, err := range versions.In(vault.ID, k.ID).All(r) {
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b versionRecord) int { return a.Number - b.Number })
	return all, nil
}

// NewerVersions returns the versions of a key that were made after ref.Version, the newest first. It is no operation of
// a client: the caller has checked the permission get, and nothing is recorded. Refusals: KeyNotFound, VaultNotFound.
func (s *Service) NewerVersions(ctx context.Context, ref Ref) (newer []Key, err error) {
	err = s.space.View(ctx, func(r sealed.Reader) error {
		newer = nil // the function may run again
		vault, err := liveVault(r, ref.Vault)
		if err != nil {
			return err
		}
		k, from, err := find(r, vault, ref)
		if err != nil || k.Current == from.ID {
			return err
		}
		all, err := versionsOf(r, vault, k)
		if err != nil {
			return err
		}
		for _, v := range slices.Backward(all) {
			if v.Number > from.Number {
				newer = append(newer, v.key(vault, k))
			}
		}
		return nil
	})
	return newer, wrap("look for newer versions", err)
}
