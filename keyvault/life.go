package keyvault

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/visage-face/visage/sealed"
)

// DeleteKey deletes a key with all its versions, so that it can be recovered until its vault's retention has run.
// Refusals: Forbidden, KeyNotFound, VaultNotFound.
func (s *Service) DeleteKey(ctx context.Context, who Caller, ref Ref) (deleted Key, err error) {
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

// withDeleted is with for a deleted key; OnChange is told of its recovery and its end.
func (s *Service) withDeleted(
	ctx context.Context, who Caller, ref Ref, need Permission, operation string,
	do func(sealed.Tx, vaultRecord, keyRecord, versionRecord) error,
) error {
	ref.Version = ""
	e := Event{Operation: operation, Vault: ref.Vault, Who: who, KeyID: s.KeyID(ref)}
	return s.audited(ctx, e, func(*Event) error {
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
func (s *Service) DeletedKey(ctx context.Context, who Caller, ref Ref) (found Key, err error) {
	err = s.withDeleted(ctx, who, ref, MayGet, "KeyGetDeleted", func(
		_ sealed.Tx, vault vaultRecord, k keyRecord, v versionRecord,
	) error {
		found = v.key(vault, k)
		return nil
	})
	return found, err
}

// RecoverKey brings a deleted key back with all its versions. Refusals: as DeletedKey.
func (s *Service) RecoverKey(ctx context.Context, who Caller, ref Ref) (recovered Key, err error) {
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
func (s *Service) PurgeKey(ctx context.Context, who Caller, ref Ref) error {
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

// longestRest is how long Run sleeps at most: clocks are set, and what is due is found then.
const longestRest = time.Hour

// Run does what time asks for: it purges what was deleted long enough ago, and rotates keys by their policies, each at
// its time. It returns nil when ctx has ended.
func (s *Service) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		next, err := s.attend(ctx)
		err = errors.Join(s.tellRest(ctx), err)
		if err != nil && ctx.Err() == nil {
			// What fails once, a full disk for example, is tried again; the vault goes on serving meanwhile.
			s.log.ErrorContext(ctx, "key vault's due work failed", "err", err)
			next = time.Now().Add(time.Minute)
		}
		rest := time.NewTimer(min(longestRest, max(time.Until(next), time.Second)))
		select {
		case <-ctx.Done():
		case <-rest.C:
		case <-s.wake:
		}
		rest.Stop()
	}
	return nil
}

// attend does all that is due and returns when the next thing is.
func (s *Service) attend(ctx context.Context) (next time.Time, err error) {
	next = time.Now().Add(longestRest)
	due := func(at time.Time) bool {
		if !at.After(time.Now()) {
			return true
		}
		if at.Before(next) {
			next = at
		}
		return false
	}
	var all []vaultRecord
	err = s.space.View(ctx, func(r sealed.Reader) error {
		all = nil // the function may run again
		for rec, err := range vaults.In().All(r) {
			if err != nil {
				return err
			}
			all = append(all, rec)
		}
		return nil
	})
	if err != nil {
		return next, err
	}
	var failures []error
	for _, vault := range all {
		if vault.Deleted == 0 {
			failures = append(failures, s.attendKeys(ctx, vault, due))
		} else if due(fromNanos(vault.PurgeAt)) {
			failures = append(failures, s.expireVault(ctx, vault))
		}
	}
	return next, errors.Join(failures...)
}

func (s *Service) attendKeys(ctx context.Context, vault vaultRecord, due func(time.Time) bool) error {
	type pair struct {
		k keyRecord
		v versionRecord
	}
	var all []pair
	err := s.space.View(ctx, func(r sealed.Reader) error {
		all = nil // the function may run again
		records, err := keysOf(r, vault)
		if err != nil {
			return err
		}
		for _, k := range records {
			if k.Deleted == 0 && k.Policy == nil {
				continue
			}
			v, err := versions.In(vault.ID, k.ID).Get(r, k.Current)
			if err != nil {
				return err
			}
			all = append(all, pair{k, v})
		}
		return nil
	})
	if err != nil {
		return err
	}
	var failures []error
	for _, p := range all {
		if p.k.Deleted != 0 {
			if due(fromNanos(p.k.PurgeAt)) {
				failures = append(failures, s.expireKey(ctx, vault, p.k))
			}
			continue
		}
		failures = append(failures, s.attendPolicy(ctx, vault, p.k, p.v, due))
	}
	return errors.Join(failures...)
}

// expireKey purges a key whose retention has run, unless it was recovered meanwhile.
func (s *Service) expireKey(ctx context.Context, vault vaultRecord, k keyRecord) error {
	ref := Ref{Vault: vault.Name, Name: k.Name}
	e := Event{Operation: "KeyPurge", Vault: vault.Name, KeyID: s.KeyID(ref)}
	return unlessRefused(s.audited(ctx, e, func(*Event) error {
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
	return unlessRefused(s.audited(ctx, Event{Operation: "VaultPurge", Vault: vault.Name}, func(e *Event) error {
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
			if err := s.remember(tx, e); err != nil {
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

// unlessRefused forgets a refusal: somebody was quicker, and there is nothing to do.
func unlessRefused(err error) error {
	if isRefusal(err) {
		return nil
	}
	return err
}
