package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keyvault"
)

// managedIdentities makes the identities of Face resources, in the tenant of the instance.
type managedIdentities struct {
	*layers
	server *Server
}

// Ensure implements account.Identities.
func (m managedIdentities) Ensure(ctx context.Context, a account.Account) (account.Managed, error) {
	p, err := m.identities.EnsureManaged(ctx, m.instance.TenantID, m.instance.accountPath(a), identity.SystemAssigned)
	return managed(p), err
}

// Remove implements account.Identities. The identity is removed from the access policies of the vaults too, where it
// could never match again.
func (m managedIdentities) Remove(ctx context.Context, a account.Account) error {
	p, found := m.identities.Managed(m.instance.accountPath(a))
	if !found {
		return nil
	}
	if err := m.identities.Delete(ctx, p.ID); err != nil {
		return err
	}
	all, err := m.vaults.Vaults(ctx)
	if err != nil {
		return err
	}
	its := func(policy keyvault.AccessPolicy) bool { return policy.ObjectID == p.ID }
	for _, v := range all {
		if !slices.ContainsFunc(v.Policies, its) {
			continue
		}
		_, err := m.vaults.UpdateVault(ctx, visage.Caller{}, v.Name, func(v keyvault.Vault) (keyvault.Vault, error) {
			v.Policies = slices.DeleteFunc(v.Policies, its)
			return v, nil
		})
		if err != nil {
			return fmt.Errorf("remove identity %s from the policies of vault %s: %w", p.ID, v.Name, err)
		}
	}
	return nil
}

// Forget implements account.Identities.
func (m managedIdentities) Forget(ctx context.Context, a account.Account) error {
	return m.identities.Forget(ctx, m.instance.accountPath(a), a.ID.String())
}

// vaultEnded removes the role assignments on a purged vault. Those that it cannot remove have no effect, since no other
// vault gets the same id, and are removed at the next start.
func (l *layers) vaultEnded(ctx context.Context, v keyvault.Vault) {
	if err := l.identities.Forget(ctx, l.instance.vaultPath(v), v.ID); err != nil {
		l.log.ErrorContext(ctx, "role assignments on a purged vault not removed; the next start tries again",
			"vault", v.Name, "err", err)
	}
}

// Grant implements account.Identities: by an entry in the vault's access policies or, where roles decide, by a role.
func (m managedIdentities) Grant(ctx context.Context, by visage.Caller, a account.Account, key visage.KeyRef) error {
	name, ours := m.server.ownVault(key)
	if !ours {
		return nil
	}
	v, err := m.vaults.Vault(ctx, name)
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.NotFound {
		return nil // the check of the key gives a better message
	}
	if err != nil {
		return err
	}
	if !m.mayGrant(by, v) {
		return nil
	}
	path := m.instance.vaultPath(v)
	id := a.Identity.System.PrincipalID
	if v.RBAC {
		if m.identities.Has(id, identity.VaultServiceEncryption, path) {
			return nil
		}
		_, err := m.identities.Assign(ctx, "", id, identity.VaultServiceEncryption, path)
		if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.Conflict {
			return nil // it has the role
		}
		return err
	}
	_, err = m.vaults.UpdateVault(ctx, by, name, func(v keyvault.Vault) (keyvault.Vault, error) {
		i := slices.IndexFunc(v.Policies,
			func(p keyvault.AccessPolicy) bool { return p.ObjectID == id && p.AppID == "" })
		if i < 0 {
			i = len(v.Policies)
			v.Policies = append(v.Policies, keyvault.AccessPolicy{ObjectID: id})
		}
		for _, p := range keyUse {
			if !slices.Contains(v.Policies[i].Keys, p) {
				v.Policies[i].Keys = append(v.Policies[i].Keys, p)
			}
		}
		return v, nil
	})
	return err
}

// keyUse are the permissions that a resource's identity needs to use a key.
var keyUse = []keyvault.Permission{keyvault.MayGet, keyvault.MayWrap, keyvault.MayUnwrap}

// mayGrant reports whether a caller may grant access to the keys of a vault.
func (l *layers) mayGrant(by visage.Caller, v keyvault.Vault) bool {
	if v.RBAC {
		return l.identities.May(by.Principal, giveRoles, l.instance.vaultPath(v))
	}
	return l.identities.May(by.Principal, givePolicies, l.instance.vaultPath(v))
}

// givePolicies is the action that allows changing the access policies of a vault.
const givePolicies = "Microsoft.KeyVault/vaults/accessPolicies/write"

// User implements account.Identities.
func (m managedIdentities) User(_ context.Context, path string) (account.Managed, bool) {
	p, found := m.identities.Managed(path)
	return managed(p), found && p.Kind == identity.UserAssigned
}

func managed(p identity.Principal) account.Managed {
	return account.Managed{PrincipalID: p.ID, ClientID: p.ClientID, Tenant: p.Tenant}
}
