package keyvault

import (
	"context"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// DeleteVault deletes a vault with its keys, so that it can be recovered until its retention has run. Refusal:
// VaultNotFound.
func (s *Service) DeleteVault(ctx context.Context, who visage.Caller, name string) (deleted Vault, err error) {
	err = s.audited(ctx, event{Operation: "VaultDelete", Vault: name, Who: storable(who)}, func(*event) error {
		err := s.space.Update(ctx, func(tx sealed.Tx) error {
			rec, err := liveVault(tx, name)
			if err != nil {
				return err
			}
			now := time.Now()
			rec.Deleted, rec.PurgeAt = now.UnixNano(), now.AddDate(0, 0, rec.RetentionDays).UnixNano()
			rec.Revision++
			deleted = rec.vault()
			return vaults.In().Put(tx, strings.ToLower(name), rec)
		})
		if err == nil {
			s.vaultChanged(ctx, deleted)
		}
		return wrap("delete vault", err)
	})
	if err != nil {
		return Vault{}, err
	}
	return deleted, nil
}

// RecoverVault brings a deleted vault back with its keys. Refusal: VaultNotFound.
func (s *Service) RecoverVault(ctx context.Context, who visage.Caller, name string) (recovered Vault, err error) {
	err = s.audited(ctx, event{Operation: "VaultRecover", Vault: name, Who: storable(who)}, func(*event) error {
		err := s.space.Update(ctx, func(tx sealed.Tx) error {
			rec, err := deletedVault(tx, name)
			if err != nil {
				return err
			}
			rec.Deleted, rec.PurgeAt = 0, 0
			rec.Changed, rec.Revision = time.Now().UnixNano(), rec.Revision+1
			recovered = rec.vault()
			return vaults.In().Put(tx, strings.ToLower(name), rec)
		})
		if err == nil {
			s.vaultChanged(ctx, recovered)
		}
		return wrap("recover vault", err)
	})
	if err != nil {
		return Vault{}, err
	}
	return recovered, nil
}

// PurgeVault destroys a deleted vault and its keys for good. Refusals: VaultNotFound, and Denied with MethodNotAllowed
// while purge protection holds.
func (s *Service) PurgeVault(ctx context.Context, who visage.Caller, name string) error {
	return s.audited(ctx, event{Operation: "VaultPurge", Vault: name, Who: storable(who)}, func(e *event) error {
		var gone Vault
		err := s.space.Update(ctx, func(tx sealed.Tx) error {
			rec, err := deletedVault(tx, name)
			if err != nil {
				return err
			}
			gone = rec.vault()
			e.Access = accessBetween(gone, Vault{})
			if rec.PurgeProtection {
				return visage.Refuse(visage.Denied, "MethodNotAllowed",
					"Operation \"DeletedVaultPurge\" is not allowed: vault %s has purge protection until %s.", rec.Name,
					fromNanos(rec.PurgeAt).Format(time.RFC3339))
			}
			if err := s.enqueue(tx, e); err != nil {
				return err
			}
			return purgeVault(tx, rec)
		})
		if err == nil {
			s.cfg.OnEnd(context.WithoutCancel(ctx), gone)
		}
		return wrap("purge vault", err)
	})
}

// purgeVault removes all there is of a vault.
func purgeVault(tx sealed.Tx, rec vaultRecord) error {
	all, err := keysOf(tx, rec)
	if err != nil {
		return err
	}
	for _, k := range all {
		if err := purgeKey(tx, rec, k); err != nil {
			return err
		}
	}
	return vaults.In().Delete(tx, strings.ToLower(rec.Name))
}
