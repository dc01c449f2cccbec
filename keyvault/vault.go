package keyvault

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Vault is a key vault.
type Vault struct {
	ID              string // random, never used again
	Name            string // as it was given; unique in the instance, whatever the case
	Group           string // the resource group it belongs to
	Location        string
	Tenant          string // whose tokens it takes: a lower-case UUID
	Tags            map[string]string
	Premium         bool // sku premium: RSA-HSM and EC-HSM keys may be made
	RetentionDays   int  // how long deleted keys and the vault can be recovered: 7 to 90
	PurgeProtection bool // no purge before the end of the retention; cannot be turned off
	RBAC            bool // roles decide, and Policies are kept and not looked at
	Policies        []AccessPolicy
	Network         visage.NetworkRules // from where its keys may be used
	Created         time.Time
	Changed         time.Time
	Revision        int64     // rises with every change, from 1
	Deleted         time.Time // zero: it is not
	PurgeAt         time.Time // when a deleted vault goes for good
}

// Bounds of vaults (contract, part B).
const (
	DefaultRetentionDays = 90
	minRetentionDays     = 7
	maxRetentionDays     = 90
	maxPolicies          = 1024
)

// RecoveryLevel says in the contract's words (§A7) what can become of a key of the vault that is deleted.
func (v Vault) RecoveryLevel() string {
	level := "Recoverable"
	if v.RetentionDays < maxRetentionDays {
		level = "CustomizedRecoverable"
	}
	if !v.PurgeProtection {
		level += "+Purgeable"
	}
	return level
}

// vaultRecord is a vault as it is stored, under its name in lower case. Times are nanoseconds since 1970, UTC.
type vaultRecord struct {
	ID              string
	Name            string
	Group           string
	Location        string
	Tenant          string
	Tags            map[string]string
	Premium         bool
	RetentionDays   int
	PurgeProtection bool
	RBAC            bool
	Policies        []AccessPolicy
	Network         visage.NetworkRules
	Created         int64
	Changed         int64
	Revision        int64
	Deleted         int64
	PurgeAt         int64
}

var vaults = sealed.NewTable[vaultRecord]("keyvault/vault", 1)

func (r vaultRecord) vault() Vault {
	policies := make([]AccessPolicy, len(r.Policies))
	for i, p := range r.Policies {
		policies[i] = p
		policies[i].Keys, policies[i].Others = slices.Clone(p.Keys), slices.Clone(p.Others)
	}
	return Vault{
		ID: r.ID, Name: r.Name, Group: r.Group, Location: r.Location, Tenant: r.Tenant, Tags: maps.Clone(r.Tags),
		Premium: r.Premium, RetentionDays: r.RetentionDays, PurgeProtection: r.PurgeProtection, RBAC: r.RBAC,
		Policies: policies, Network: r.Network.Clone(), Created: fromNanos(r.Created), Changed: fromNanos(r.Changed),
		Revision: r.Revision,
		Deleted:  fromNanos(r.Deleted), PurgeAt: fromNanos(r.PurgeAt),
	}
}

// fromNanos is the zero time for 0.
func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func newVersion() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: the runtime ends the process instead
	return hex.EncodeToString(b[:])
}

// CreateVault makes a vault from v, of which Name, Group, Location, Tenant, Tags, Premium, RetentionDays (0: the
// default), PurgeProtection, RBAC, Policies and Network count. Refusals: VaultNameNotValid, BadRequest,
// VaultAlreadyExists.
func (s *Service) CreateVault(ctx context.Context, who visage.Caller, v Vault) (made Vault, err error) {
	err = s.audited(ctx, event{Operation: "VaultPut", Vault: v.Name, Who: storable(who)}, func(e *event) error {
		if v.RetentionDays == 0 {
			v.RetentionDays = DefaultRetentionDays
		}
		if err := checkVault(v); err != nil {
			return err
		}
		if err := visage.CheckTags(v.Tags); err != nil {
			return err
		}
		if err := s.space.MayGrow(); err != nil {
			return err
		}
		now := time.Now().UnixNano()
		rec := vaultRecord{
			ID: newVersion(), Name: v.Name, Group: v.Group, Location: v.Location, Tenant: strings.ToLower(v.Tenant),
			Tags: maps.Clone(v.Tags), Premium: v.Premium, RetentionDays: v.RetentionDays,
			PurgeProtection: v.PurgeProtection,
			RBAC:            v.RBAC, Policies: v.Policies, Network: v.Network.Clone(), Created: now, Changed: now,
			Revision: 1,
		}
		e.Access = accessBetween(Vault{}, rec.vault())
		err := s.space.Update(ctx, func(tx sealed.Tx) error {
			taken, err := vaults.In().Has(tx, strings.ToLower(v.Name))
			if err != nil {
				return err
			}
			if taken {
				return visage.Refuse(visage.Conflict, "VaultAlreadyExists",
					"The vault name %q is already in use. A deleted vault keeps its name: recover it or purge it "+
						"first.", v.Name)
			}
			if err := s.enqueue(tx, e); err != nil {
				return err
			}
			return vaults.In().Put(tx, strings.ToLower(v.Name), rec)
		})
		made = rec.vault()
		return wrap("create vault", err)
	})
	if err != nil {
		return Vault{}, err
	}
	return made, nil
}

var tenantPattern = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)

func checkVault(v Vault) error {
	if err := CheckVaultName(v.Name); err != nil {
		return err
	}
	bad := func(format string, args ...any) error {
		return visage.Refuse(visage.Invalid, "BadRequest", format, args...)
	}
	if v.Location == "" || v.Tenant == "" {
		return bad("The location and the tenantId of a vault are required.")
	}
	if !tenantPattern.MatchString(v.Tenant) {
		return bad("The tenantId of a vault must be a UUID.")
	}
	if v.RetentionDays < minRetentionDays || v.RetentionDays > maxRetentionDays {
		return bad("softDeleteRetentionInDays is %d; it must be from %d to %d.", v.RetentionDays, minRetentionDays,
			maxRetentionDays)
	}
	if len(v.Policies) > maxPolicies {
		return bad("There are %d access policies; at most %d are possible.", len(v.Policies), maxPolicies)
	}
	seen := map[string]bool{}
	for _, p := range v.Policies {
		who := strings.ToLower(p.ObjectID + "/" + p.AppID)
		if p.ObjectID == "" || seen[who] {
			return bad("Every access policy needs an objectId; only one policy may have the same objectId and " +
				"applicationId.")
		}
		seen[who] = true
		for _, k := range p.Keys {
			if !slices.Contains(allPermissions, k) {
				return bad("The key permission %q is not one of %v.", k, allPermissions)
			}
		}
	}
	if err := v.Network.Check(); err != nil {
		return err
	}
	return nil
}

// Vault returns the vault called name, in any case. Refusal: VaultNotFound, also for one that is deleted.
func (s *Service) Vault(ctx context.Context, name string) (Vault, error) {
	var rec vaultRecord
	err := s.space.View(ctx, func(r sealed.Reader) error {
		var err error
		rec, err = liveVault(r, name)
		return err
	})
	if err != nil {
		return Vault{}, wrap("read vault", err)
	}
	return rec.vault(), nil
}

// liveVault returns the record of a vault that is not deleted.
func liveVault(r sealed.Reader, name string) (vaultRecord, error) {
	rec, err := vaults.In().Get(r, strings.ToLower(name))
	if errors.Is(err, sealed.ErrNotFound) || err == nil && rec.Deleted != 0 {
		return vaultRecord{}, noVault(name)
	}
	return rec, err
}

// deletedVault returns the record of a vault that is deleted.
func deletedVault(r sealed.Reader, name string) (vaultRecord, error) {
	rec, err := vaults.In().Get(r, strings.ToLower(name))
	if errors.Is(err, sealed.ErrNotFound) || err == nil && rec.Deleted == 0 {
		return vaultRecord{}, visage.Refuse(visage.NotFound, "VaultNotFound", "There is no deleted key vault %q.", name)
	}
	return rec, err
}

// Vaults returns the vaults that are not deleted, sorted by name.
func (s *Service) Vaults(ctx context.Context) ([]Vault, error) { return s.vaults(ctx, false) }

// DeletedVaults returns the vaults that are deleted and not purged, sorted by name.
func (s *Service) DeletedVaults(ctx context.Context) ([]Vault, error) { return s.vaults(ctx, true) }

func (s *Service) vaults(ctx context.Context, deleted bool) ([]Vault, error) {
	var found []Vault
	err := s.space.View(ctx, func(r sealed.Reader) error {
		found = nil // the function may run again
		for rec, err := range vaults.In().All(r) {
			if err != nil {
				return err
			}
			if (rec.Deleted != 0) == deleted {
				found = append(found, rec.vault())
			}
		}
		return nil
	})
	slices.SortFunc(
		found, func(a, b Vault) int { return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) },
	)
	return found, wrap("list vaults", err)
}

// Find returns the vault called name, in any case, also a deleted one that can be recovered. Refusal:
// VaultNotFound.
func (s *Service) Find(ctx context.Context, name string) (Vault, error) {
	var rec vaultRecord
	err := s.space.View(ctx, func(r sealed.Reader) error {
		var err error
		if rec, err = vaults.In().Get(r, strings.ToLower(name)); errors.Is(err, sealed.ErrNotFound) {
			return noVault(name)
		}
		return err
	})
	if err != nil {
		return Vault{}, wrap("find vault", err)
	}
	return rec.vault(), nil
}

// DeletedVault returns the deleted vault called name. Refusal: VaultNotFound.
func (s *Service) DeletedVault(ctx context.Context, name string) (Vault, error) {
	var rec vaultRecord
	err := s.space.View(ctx, func(r sealed.Reader) error {
		var err error
		rec, err = deletedVault(r, name)
		return err
	})
	if err != nil {
		return Vault{}, wrap("read deleted vault", err)
	}
	return rec.vault(), nil
}

// UpdateVault changes a vault: change gets it as it is and returns it as it shall be; of the result Tags, Premium,
// PurgeProtection, RBAC, Policies and Network count. change may run more than once. Refusals: VaultNotFound, BadRequest
// (purge protection cannot be turned off, the retention cannot be changed), those of change; AuthorizationFailed for
// another RBAC, and other Policies where roles decide, by a caller that may not give access.
func (s *Service) UpdateVault(
	ctx context.Context, who visage.Caller, name string, change func(Vault) (Vault, error),
) (changed Vault, err error) {
	err = s.audited(ctx, event{Operation: "VaultPatch", Vault: name, Who: storable(who)}, func(e *event) error {
		now, err := s.Vault(ctx, name)
		if err != nil {
			return err
		}
		may, err := s.mayGiveAccess(ctx, who, now)
		if err != nil {
			return err
		}
		err = s.space.Update(ctx, func(tx sealed.Tx) error {
			rec, err := liveVault(tx, name)
			if err != nil {
				return err
			}
			if rec.ID != now.ID { // what was asked about is gone, and another has its name
				return noVault(name)
			}
			to, err := change(rec.vault())
			if err != nil {
				return err
			}
			e.Access = accessBetween(rec.vault(), to)
			if err := guardAccess(may, who, rec.vault(), to); err != nil {
				return err
			}
			if rec.PurgeProtection && !to.PurgeProtection {
				return visage.Refuse(visage.Invalid, "BadRequest",
					"The property \"enablePurgeProtection\" cannot be set to false: once enabled, purge protection "+
						"stays.")
			}
			if to.RetentionDays != rec.RetentionDays {
				return visage.Refuse(visage.Invalid, "BadRequest",
					"The property \"softDeleteRetentionInDays\" has been set already and it can't be modified.")
			}
			if !maps.Equal(to.Tags, rec.Tags) { // those of earlier builds may stay
				if err := visage.CheckTags(to.Tags); err != nil {
					return err
				}
			}
			to.Name, to.Location, to.Tenant = rec.Name, rec.Location, rec.Tenant
			if err := checkVault(to); err != nil {
				return err
			}
			rec.Tags, rec.Premium, rec.PurgeProtection, rec.RBAC = maps.Clone(to.Tags), to.Premium, to.PurgeProtection,
				to.RBAC
			rec.Policies, rec.Network = to.Policies, to.Network.Clone()
			rec.Changed, rec.Revision = time.Now().UnixNano(), rec.Revision+1
			changed = rec.vault()
			if err := s.enqueue(tx, e); err != nil {
				return err
			}
			return vaults.In().Put(tx, strings.ToLower(name), rec)
		})
		if err == nil {
			s.vaultChanged(ctx, changed)
		}
		return wrap("change vault", err)
	})
	if err != nil {
		return Vault{}, err
	}
	return changed, nil
}

// vaultChanged tells OnChange of every key of a vault whose access may have changed.
func (s *Service) vaultChanged(ctx context.Context, v Vault) {
	var names []string
	err := s.space.View(context.WithoutCancel(ctx), func(r sealed.Reader) error {
		names = names[:0]
		all, err := keysOf(r, vaultRecord{ID: v.ID})
		for _, k := range all {
			names = append(names, k.Name)
		}
		return err
	})
	if err != nil { // the change itself is done; custody sees it at its next poll
		s.log.ErrorContext(ctx, "keys of a changed vault not read", "vault", v.Name, "err", err)
	}
	for _, n := range names {
		s.changed(Ref{Vault: v.Name, Name: n})
	}
	s.wake()
}

// changed calls OnChange for a change that is durable, and wakes Run. It comes before the audit entry: custody must
// learn that a key was disabled even if the disk is full by then.
func (s *Service) changed(ref Ref) {
	s.cfg.OnChange(s.KeyID(Ref{Vault: ref.Vault, Name: ref.Name}))
	s.wake()
}

// wrap says what was being done, and leaves refusals and nil as they are.
func wrap(doing string, err error) error {
	if _, ok := errors.AsType[*visage.Refusal](err); ok || err == nil {
		return err
	}
	return fmt.Errorf("%s: %w", doing, err)
}
