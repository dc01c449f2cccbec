package server

import (
	"context"
	"fmt"
	"slices"

	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keyvault"
)

// managedIdentities makes the identities of Face resources, in the tenant of the instance.
type managedIdentities struct{ *layers }

// Ensure implements account.Identities.
func (m managedIdentities) Ensure(ctx context.Context, a account.Account) (account.Managed, error) {
	p, err := m.identities.EnsureManaged(ctx, m.instance.TenantID, m.instance.accountPath(a), identity.SystemAssigned)
	return managed(p), err
}

// Remove implements account.Identities. The identity leaves the access policies of the vaults too: nothing would ever fit
// an entry that nobody has the id of.
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
		_, err := m.vaults.UpdateVault(ctx, keyvault.Caller{}, v.Name, func(v keyvault.Vault) (keyvault.Vault, error) {
			v.Policies = slices.DeleteFunc(v.Policies, its)
			return v, nil
		})
		if err != nil {
			return fmt.Errorf("take identity %s out of the policies of vault %s: %w", p.ID, v.Name, err)
		}
	}
	return nil
}

// User implements account.Identities.
func (m managedIdentities) User(_ context.Context, path string) (account.Managed, bool) {
	p, found := m.identities.Managed(path)
	return managed(p), found && p.Kind == identity.UserAssigned
}

func managed(p identity.Principal) account.Managed {
	return account.Managed{PrincipalID: p.ID, ClientID: p.ClientID, Tenant: p.Tenant}
}
