package keyvault

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// DeleteKey deletes a key with all its versions, so that it can be recovered until its vault's retention has run.
// Refusals: Forbidden, KeyNotFound, VaultNotFound.
func (s *Service) DeleteKey(ctx context.Context, who visage.Caller, ref Ref) (deleted Key, err error) {
	ref.Version = ""
	err = s.with(ctx, who, ref, MayDelete, "KeyDelete", func(
		tx sealed.Tx, vault vaultRecord, k keyRecord, v versionRecord,
	) error {
		now := time.Now()
		k.Deleted, k.PurgeAt = now.UnixNano(), now.AddDate(0, 0, vault.RetentionDays).UnixNano()
		deleted = v.key(vault, k)
		return keys.In(vault.ID).Put(tx, strings.ToLower(k.Name), k)
	})
	if err != nil {
		return Key{}, err
	}
	return deleted, nil
}

// withDeleted is with for a deleted key; OnChange is called when it is recovered or purged.
func (s *Service) withDeleted(
	ctx context.Context, who visage.Caller, ref Ref, need Permission, operation string,
	do func(sealed.Tx, vaultRecord, keyRecord, versionRecord) error,
) error {
	ref.Version = ""
	e := event{Operation: operation, Vault: ref.Vault, Who: storable(who), KeyID: s.KeyID(ref)}
	return s.audited(ctx, e, func(*event) error {
		if _, err := s.enter(ctx, who, ref.Vault, need); err != nil {
			return err
		}
		err := s.space.Update(ctx, func(tx sealed.Tx) error {
			vault, err := liveVault(tx, ref.Vault)
			if err != nil {
				return err
			}
			k, err := keys.In(vault.ID).Get(tx, strings.ToLower(ref.Name))
			if errors.Is(err, sealed.ErrNotFound) || err == nil && k.Deleted == 0 {
				return notDeleted(ref)
			}
			if err != nil {
				return err
			}
			v, err := versions.In(vault.ID, k.ID).Get(tx, k.Current)
			if err != nil {
				return err
			}
			ref.Name = k.Name
			return do(tx, vault, k, v)
		})
		if err == nil && (need == MayRecover || need == MayPurge) {
			s.changed(ref)
		}
		return wrap("change deleted key", err)
	})
}

// DeletedKey returns a deleted key. Refusals: Forbidden, KeyNotFound, VaultNotFound.
func (s *Service) DeletedKey(ctx context.Context, who visage.Caller, ref Ref) (found Key, err error) {
	err = s.withDeleted(ctx, who, ref, MayGet, "KeyGetDeleted", func(
		_ sealed.Tx, vault vaultRecord, k keyRecord, v versionRecord,
	) error {
		found = v.key(vault, k)
		return nil
	})
	return found, err
}

// RecoverKey brings a deleted key back with all its versions. Refusals: as DeletedKey.
func (s *Service) RecoverKey(ctx context.Context, who visage.Caller, ref Ref) (recovered Key, err error) {
	err = s.withDeleted(ctx, who, ref, MayRecover, "KeyRecover", func(
		tx sealed.Tx, vault vaultRecord, k keyRecord, v versionRecord,
	) error {
		k.Deleted, k.PurgeAt = 0, 0
		recovered = v.key(vault, k)
		return keys.In(vault.ID).Put(tx, strings.ToLower(k.Name), k)
	})
	if err != nil {
		return Key{}, err
	}
	return recovered, nil
}

// PurgeKey destroys a deleted key for good. Refusals: as DeletedKey; Forbidden while purge protection holds.
func (s *Service) PurgeKey(ctx context.Context, who visage.Caller, ref Ref) error {
	return s.withDeleted(ctx, who, ref, MayPurge, "KeyPurge", func(
		tx sealed.Tx, vault vaultRecord, k keyRecord, _ versionRecord,
	) error {
		if vault.PurgeProtection {
			return forbidden("",
				"Operation \"purge\" is not allowed: vault %s has purge protection, and key %s stays recoverable "+
					"until %s.", vault.Name,
				k.Name, fromNanos(k.PurgeAt).Format(time.RFC3339))
		}
		return purgeKey(tx, vault, k)
	})
}

// purgeKey removes all there is of a key.
func purgeKey(tx sealed.Tx, vault vaultRecord, k keyRecord) error {
	all, err := versionsOf(tx, vault, k)
	if err != nil {
		return err
	}
	for _, v := range all {
		if err := privates.In(vault.ID, k.ID).Delete(tx, v.ID); err != nil {
			return err
		}
		if err := versions.In(vault.ID, k.ID).Delete(tx, v.ID); err != nil {
			return err
		}
	}
	return keys.In(vault.ID).Delete(tx, strings.ToLower(k.Name))
}

// expireKey purges a key whose retention has run, unless it was recovered meanwhile.
func (s *Service) expireKey(ctx context.Context, vault vaultRecord, k keyRecord) error {
	ref := Ref{Vault: vault.Name, Name: k.Name}
	e := event{Operation: "KeyPurge", Vault: vault.Name, KeyID: s.KeyID(ref)}
	return unlessRefused(s.audited(ctx, e, func(*event) error {
		err := s.space.Update(ctx, func(tx sealed.Tx) error {
			now, err := keys.In(vault.ID).Get(tx, strings.ToLower(k.Name))
			if errors.Is(err, sealed.ErrNotFound) || err == nil && (now.ID != k.ID || now.Deleted != k.Deleted) {
				return conflict("ObjectIsBeingRecovered", "Key %s is no longer deleted.", k.Name)
			}
			if err != nil {
				return err
			}
			return purgeKey(tx, vault, now)
		})
		return wrap("purge key "+k.Name, err)
	}))
}

// expireVault purges a vault whose retention has run, unless it was recovered meanwhile.
func (s *Service) expireVault(ctx context.Context, vault vaultRecord) error {
	return unlessRefused(s.audited(ctx, event{Operation: "VaultPurge", Vault: vault.Name}, func(e *event) error {
		err := s.space.Update(ctx, func(tx sealed.Tx) error {
			now, err := vaults.In().Get(tx, strings.ToLower(vault.Name))
			if errors.Is(err, sealed.ErrNotFound) || err == nil &&
				(now.ID != vault.ID || now.Deleted != vault.Deleted) {
				return conflict("ObjectIsBeingRecovered", "Vault %s is no longer deleted.", vault.Name)
			}
			if err != nil {
				return err
			}
			e.Access = accessBetween(now.vault(), Vault{})
			if err := s.enqueue(tx, e); err != nil {
				return err
			}
			return purgeVault(tx, now)
		})
		if err == nil {
			s.cfg.OnEnd(context.WithoutCancel(ctx), vault.vault())
		}
		return wrap("purge vault "+vault.Name, err)
	}))
}

// unlessRefused ignores a refusal: another request has changed the object, and nothing is left to do.
func unlessRefused(err error) error {
	if isRefusal(err) {
		return nil
	}
	return err
}

// HasDeletedKey reports whether a vault has a deleted key called ref.Name that can be recovered. It is no operation of
// a client: no permission is needed, and nothing is recorded. Refusal: VaultNotFound.
func (s *Service) HasDeletedKey(ctx context.Context, ref Ref) (deleted bool, err error) {
	err = s.space.View(ctx, func(r sealed.Reader) error {
		vault, err := liveVault(r, ref.Vault)
		if err != nil {
			return err
		}
		k, err := keys.In(vault.ID).Get(r, strings.ToLower(ref.Name))
		if errors.Is(err, sealed.ErrNotFound) {
			return nil
		}
		deleted = err == nil && k.Deleted != 0
		return err
	})
	return deleted, wrap("look for a deleted key", err)
}
