package server

import (
	"context"
	"errors"
	"math/big"
	"slices"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/internal/weakkey"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/keyvault"
	"github.com/visage-face/visage/sealed"
)

// accountVaults implements account.Vaults with the vaults of this instance.
type accountVaults struct {
	*layers
	server *Server
}

// Check implements account.Vaults (management contract §5.2: unknown, without purge protection, in another region or
// tenant). Every vault of this instance has soft delete.
func (v accountVaults) Check(
	ctx context.Context, of account.Account, key visage.KeyRef,
) ([]account.VaultCheck, error) {
	unknown := func(err error) []account.VaultCheck {
		return []account.VaultCheck{{Precondition: custody.VaultKnown, Err: err}}
	}
	name, err := v.Locate(key)
	if err != nil {
		return unknown(err), nil
	}
	if name == "" {
		if err := v.admit(ctx, of, key); err != nil {
			return unknown(err), nil
		}
		return nil, nil
	}
	vault, err := v.vaults.Vault(ctx, name)
	if isMissing(err) {
		return unknown(visage.Refuse(visage.Invalid, "KeyVaultNotFound", "The vault %q does not exist or is deleted.",
			name)), nil
	}
	if err != nil {
		return nil, err
	}
	return v.check(of.Location, vault), nil
}

// admit refuses a key outside this instance that an account may not use: one that protects the root key, or that is in
// a store whose description, or in Azure where the settings, leave the account out.
func (v accountVaults) admit(ctx context.Context, of account.Account, key visage.KeyRef) error {
	if err := v.server.requireNotRoot(ctx, v.store, key); err != nil {
		return err
	}
	asker := stores.Asker{Path: v.instance.accountPath(of), Holds: func() bool {
		return v.custody.DependsOn(sealed.SpaceID(of.ID), key)
	}}
	if !v.server.keyStores.Set().Describes(key) {
		return v.server.permitAzure(key, asker)
	}
	return v.server.keyStores.Set().Permit(key, asker)
}

// Locate implements account.Vaults.
func (v accountVaults) Locate(key visage.KeyRef) (vault string, err error) {
	name, ours := v.server.ownVault(key)
	switch {
	case ours:
		return name, nil
	case v.server.isEarlier(key): // account names the keys in use by their present addresses, so this is another key
		return "", v.server.refuseForeign(key)
	}
	return "", v.server.requireStore(key)
}

// check checks a vault of this instance.
func (v accountVaults) check(location string, vault keyvault.Vault) []account.VaultCheck {
	refuse := func(unless bool, code, format string, args ...any) error {
		if unless {
			return nil
		}
		return visage.Refuse(visage.Invalid, code, format, args...)
	}
	sameRegion := visage.SameLocation(location, vault.Location)
	return []account.VaultCheck{
		{Precondition: custody.VaultKnown}, {Precondition: custody.SoftDelete},
		{Precondition: custody.PurgeProtection, Err: refuse(vault.PurgeProtection, "KeyVaultPurgeProtectionRequired",
			"The vault %s has no purge protection: enable it.", vault.Name)},
		{Precondition: account.SameRegion, Err: refuse(sameRegion, "KeyVaultRegionMismatch",
			"The vault %s is in the region %s, but the resource is in %s: use a vault in the resource's region.",
			vault.Name, vault.Location, location)},
		{Precondition: account.SameTenant, Err: refuse(vault.Tenant == v.instance.TenantID, "KeyVaultTenantMismatch",
			"The vault %s belongs to another tenant than the resource.", vault.Name)},
	}
}

// isMissing reports whether an error says that something does not exist.
func isMissing(err error) bool {
	refusal, ok := errors.AsType[*visage.Refusal](err)
	return ok && refusal.Kind == visage.NotFound
}

// ofKey returns the vault of this instance that a key is in. found is false for other vaults and deleted ones.
func (v accountVaults) ofKey(ctx context.Context, key visage.KeyRef) (vault keyvault.Vault, found bool, err error) {
	name, ours := v.server.ownVault(key)
	if !ours {
		return vault, false, nil
	}
	vault, err = v.vaults.Vault(ctx, name)
	if isMissing(err) {
		return vault, false, nil
	}
	return vault, err == nil, err
}

// Access implements account.Vaults. An account without an identity is treated like one whose identity no vault names.
func (v accountVaults) Access(ctx context.Context, of account.Account, key visage.KeyRef) (*custody.Access, error) {
	vault, found, err := v.ofKey(ctx, key)
	if err != nil || !found {
		return nil, err
	}
	who := visage.Caller{Service: true, Principal: visage.Principal{
		ObjectID: of.Identity.System.PrincipalID, AppID: of.Identity.System.ClientID, Tenant: v.instance.TenantID,
	}}
	if who.ObjectID == "" {
		who.ObjectID = nobody
	}
	access := &custody.Access{}
	for permission, into := range map[keyvault.Permission]*bool{
		keyvault.MayGet: &access.Get, keyvault.MayWrap: &access.Wrap, keyvault.MayUnwrap: &access.Unwrap,
	} {
		err := v.vaults.Permits(ctx, who, vault.Name, permission)
		if err != nil && !isRefusal(err) {
			return nil, err
		}
		*into = err == nil
		refusal, _ := errors.AsType[*visage.Refusal](err)
		access.Admitted = refusal == nil || refusal.InnerCode != "ForbiddenByFirewall" &&
			refusal.InnerCode != "ForbiddenByConnection"
	}
	return access, nil
}

// nobody is an object id that no principal has (RFC 9562 §5.9).
const nobody = "00000000-0000-0000-0000-000000000000"

func isRefusal(err error) bool {
	_, ok := errors.AsType[*visage.Refusal](err)
	return ok
}

// readKeys is the action of the management plane that allows reading the keys of a vault.
const readKeys = "Microsoft.KeyVault/vaults/keys/read"

// reader returns the caller as one that reads the keys of a vault: with the roles of the management plane, as armapi
// does, or else with what the vault itself permits.
func (v accountVaults) reader(by visage.Caller, vault keyvault.Vault) visage.Caller {
	by.Manager = v.identities.May(by.Principal, readKeys, v.instance.vaultPath(vault))
	return by
}

// Properties implements account.Vaults.
func (v accountVaults) Properties(
	ctx context.Context, by visage.Caller, key visage.KeyRef,
) (*custody.Properties, bool, error) {
	vault, found, err := v.ofKey(ctx, key)
	if err != nil || !found {
		return nil, false, err
	}
	got, err := v.vaults.Key(ctx, v.reader(by, vault), keyvault.Ref{Vault: vault.Name, Name: key.Name,
		Version: key.Version})
	switch refusal, _ := errors.AsType[*visage.Refusal](err); {
	case refusal == nil && err != nil:
		return nil, false, err
	case isMissing(err):
		return nil, true, nil
	case refusal != nil && refusal.InnerCode == "KeyDisabled":
		return &custody.Properties{}, true, nil
	case err != nil:
		return nil, false, nil
	}
	return properties(got), true, nil
}

// properties returns the properties of a key of this instance as a key source would describe it.
func properties(k keyvault.Key) *custody.Properties {
	p := &custody.Properties{
		Enabled: k.Enabled, NotBefore: k.NotBefore, Expires: k.Expires, KeyType: k.Public.Type, Bits: k.Public.Bits(),
		Recovery: k.Vault.RecoveryLevel(),
	}
	for _, op := range k.Operations {
		p.Operations = append(p.Operations, string(op))
	}
	if p.Bits > 0 {
		n, e := new(big.Int).SetBytes(k.Public.N), new(big.Int).SetBytes(k.Public.E)
		if err := weakkey.Public(n, e); err != nil {
			p.Weak = err.Error()
		}
	}
	return p
}

// List implements account.Vaults.
func (v accountVaults) List(
	ctx context.Context, by visage.Caller, location, after string, limit int,
) (page []account.ListedVault, next string, err error) {
	all, err := v.vaults.Vaults(ctx)
	if err != nil {
		return nil, "", err
	}
	for _, vault := range all {
		path := v.instance.vaultPath(vault)
		if strings.ToLower(vault.Name) <= strings.ToLower(after) || !v.identities.May(by.Principal, readVault, path) {
			continue
		}
		if len(page) == limit {
			return page, page[limit-1].Name, nil
		}
		err := v.vaults.Permits(ctx, v.reader(by, vault), vault.Name, keyvault.MayList)
		if err != nil && !isRefusal(err) {
			return nil, "", err
		}
		page = append(page, account.ListedVault{
			Name: vault.Name, Address: v.server.vaultAddress(vault.Name), Location: vault.Location,
			Checks: v.check(location, vault), KeysSeen: err == nil,
		})
	}
	return page, "", nil
}

// readVault is the action of the management plane that allows reading a vault.
const readVault = "Microsoft.KeyVault/vaults/read"

// Keys implements account.Vaults.
func (v accountVaults) Keys(
	ctx context.Context, by visage.Caller, name, after string, limit int,
) (page []account.ListedKey, next string, err error) {
	vault, err := v.vaults.Vault(ctx, name)
	if err != nil {
		return nil, "", err
	}
	found, err := v.vaults.Keys(ctx, v.reader(by, vault), name, strings.ToLower(after), limit)
	if err != nil {
		return nil, "", err
	}
	return v.listed(found.Keys), found.Next, nil
}

// listed returns keys of this instance as account lists them.
func (v accountVaults) listed(keys []keyvault.Key) (all []account.ListedKey) {
	for _, k := range keys {
		ref := visage.KeyRef{Vault: strings.TrimSuffix(v.server.vaultAddress(k.Ref.Vault), "/"), Name: k.Name,
			Version: k.Version}
		all = append(all, account.ListedKey{Key: ref, Properties: *properties(k)})
	}
	return all
}

// Newer implements account.Vaults.
func (v accountVaults) Newer(
	ctx context.Context, of account.Account, key visage.KeyRef,
) ([]account.ListedKey, bool, error) {
	access, err := v.Access(ctx, of, key)
	if err != nil || access == nil || !access.Get {
		return nil, false, err
	}
	name, _ := v.server.ownVault(key)
	newer, err := v.vaults.NewerVersions(ctx, keyvault.Ref{Vault: name, Name: key.Name, Version: key.Version})
	if isMissing(err) {
		return nil, true, nil
	}
	return v.listed(newer), err == nil, err
}

// Remedies implements account.Vaults.
func (v accountVaults) Remedies(
	ctx context.Context, by visage.Caller, of account.Account, unmet account.Precondition, key visage.KeyRef,
) ([]account.Remedy, error) {
	vault, found, err := v.ofKey(ctx, key)
	if err != nil {
		return nil, err
	}
	if !found {
		return v.recoverVault(ctx, by, of, unmet, key)
	}
	r := account.Remedy{Resource: of.Name, Vault: vault.Name, Key: key.Name, Version: key.Version}
	may := func(action string) bool { return v.identities.May(by.Principal, action, v.instance.vaultPath(vault)) }
	switch unmet {
	case custody.PurgeProtection:
		return remedy(may(changeVaults), r, account.SwitchPurgeProtectionOn), nil
	case custody.FirewallAdmits:
		return remedy(may(changeVaults), r, account.AllowTrustedServices), nil
	case custody.MayGet, custody.MayWrap, custody.MayUnwrap:
		r.Principal = visage.PrincipalID(of.Identity.System.PrincipalID)
		if vault.RBAC {
			r.Role = identity.VaultServiceEncryption
		} else {
			for _, p := range keyUse {
				r.Permissions = append(r.Permissions, string(p))
			}
		}
		return remedy(v.mayGrant(by, vault), r, account.GrantAccess), nil
	case custody.KeyExists:
		return v.provideKey(ctx, by, r)
	case custody.KeyEnabled, custody.KeyValid, custody.KeyOperations:
		return v.changeKey(ctx, by, r, unmet)
	}
	return nil, nil
}

// changeVaults is the action that allows changing and recovering vaults.
const changeVaults = "Microsoft.KeyVault/vaults/write"

// remedy returns r as a remedy of a kind, if the caller may do it.
func remedy(may bool, r account.Remedy, kind account.RemedyKind) []account.Remedy {
	if !may {
		return nil
	}
	r.Kind = kind
	return []account.Remedy{r}
}

// recoverVault returns the remedy for a deleted vault.
func (v accountVaults) recoverVault(
	ctx context.Context, by visage.Caller, of account.Account, unmet account.Precondition, key visage.KeyRef,
) ([]account.Remedy, error) {
	name, ours := v.server.ownVault(key)
	if unmet != custody.VaultKnown || !ours {
		return nil, nil
	}
	vault, err := v.vaults.DeletedVault(ctx, name)
	if isMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	may := v.identities.May(by.Principal, changeVaults, v.instance.vaultPath(vault))
	return remedy(may, account.Remedy{Resource: of.Name, Vault: vault.Name}, account.RecoverVault), nil
}

// provideKey returns the remedies for a missing key: to recover it, or to create it. A missing version of a key can be
// provided by nobody.
func (v accountVaults) provideKey(ctx context.Context, by visage.Caller, r account.Remedy) ([]account.Remedy, error) {
	kind, need := account.CreateKey, keyvault.MayCreate
	deleted, err := v.vaults.HasDeletedKey(ctx, keyvault.Ref{Vault: r.Vault, Name: r.Key})
	if err != nil {
		return nil, err
	}
	if deleted {
		kind, need = account.RecoverKey, keyvault.MayRecover
	}
	if !deleted && r.Version != "" {
		return nil, nil
	}
	err = v.vaults.Permits(ctx, by, r.Vault, need)
	if err != nil && !isRefusal(err) {
		return nil, err
	}
	return remedy(err == nil, r, kind), nil
}

// changeKey returns the remedies for a key whose attributes or operations prevent its use.
func (v accountVaults) changeKey(
	ctx context.Context, by visage.Caller, r account.Remedy, unmet account.Precondition,
) ([]account.Remedy, error) {
	err := v.vaults.Permits(ctx, by, r.Vault, keyvault.MayUpdate)
	if err != nil {
		if isRefusal(err) {
			return nil, nil
		}
		return nil, err
	}
	switch unmet {
	case custody.KeyEnabled:
		return remedy(true, r, account.EnableKey), nil
	case custody.KeyValid:
		return remedy(true, r, account.ChangeKeyDates), nil
	}
	vault, err := v.vaults.Vault(ctx, r.Vault)
	if err != nil {
		return nil, err
	}
	k, err := v.vaults.Key(ctx, v.reader(by, vault), keyvault.Ref{Vault: r.Vault, Name: r.Key, Version: r.Version})
	if err != nil {
		if isRefusal(err) { // the caller cannot see which operations the key has, and would take them away
			return nil, nil
		}
		return nil, err
	}
	for _, op := range k.Operations {
		r.Operations = append(r.Operations, string(op))
	}
	for _, op := range []keyvault.Operation{keyvault.Wrap, keyvault.Unwrap} {
		if !slices.Contains(k.Operations, op) {
			r.Operations = append(r.Operations, string(op))
		}
	}
	return remedy(true, r, account.AllowKeyOperations), nil
}
