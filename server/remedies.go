package server

import (
	"context"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keysource/stores"
)

// needs says which need of a store is behind a precondition that is not met.
var needs = map[account.Precondition]stores.Need{
	custody.IdentityRegistered: stores.NeedLogin,
	custody.MayGet:             stores.NeedRights, custody.MayWrap: stores.NeedRights,
	custody.MayUnwrap: stores.NeedRights, custody.RoundTrip: stores.NeedLogin,
	custody.KeyExists: stores.NeedKey, custody.KeyType: stores.NeedType,
	custody.PurgeProtection: stores.NeedProtection, custody.KeyEnabled: stores.NeedEnabled,
	custody.KeyOperations: stores.NeedOperations,
}

// remedies implements armapi.Remedies.
func (s *Server) remedies(
	_ context.Context, of account.Account, key visage.KeyRef, unmet account.Precondition,
) []string {
	switch unmet {
	case account.TierAllows:
		return nil // the tier of a resource is for good
	case account.AccessApproved:
		return []string{"visage cmk request --contact ADDRESS --reason PURPOSE", "visage cmk approve NAME"}
	case account.IdentityOn:
		return []string{fmt.Sprintf("visage resource identity %s --assign", of.Name)}
	case custody.VaultKnown:
		if s.keyStores.Set().Require(key) == nil {
			return []string{fmt.Sprintf("visage store update %s resources=PATH,...", key.Vault)}
		}
		if s.keyStores.Set().Describes(key) {
			return []string{"visage store list"} // which says what keeps it from being used
		}
		if key.Scheme() != "https" {
			return []string{fmt.Sprintf("visage store add %s FIELD=VALUE...", key.Vault)}
		}
	}
	if _, ours := s.ownVault(s.today(key)); key == (visage.KeyRef{}) || ours {
		return nil
	}
	customer := s.customer(of)
	commands := s.keyStores.Set().Remedy(key, needs[unmet], customer)
	if commands == nil && s.cfg.AzureClient != "" && key.Scheme() == "https" {
		commands = stores.AzureRemedy(key, needs[unmet], s.cfg.AzureClient)
	}
	switch {
	case commands != nil:
		return commands
	case key.Scheme() == "https":
		return nil
	case key.Scheme() == "pkcs11", key.Scheme() == "kmip":
		return []string{"docs/operations/hsm.md has what the operator and the customer do"}
	}
	return []string{"docs/operations/key-stores.md has the commands of the customer's side"}
}

// customer is what commands for the holder of a key of a resource are filled in with.
func (s *Server) customer(of account.Account) stores.Customer {
	tenant := s.operator.TenantID
	customer := stores.Customer{
		Principal: visage.PrincipalID(of.Identity.System.PrincipalID), Issuer: s.issuer(tenant),
		KeysURI: s.Endpoint() + "/" + tenant + "/discovery/v2.0/keys",
	}
	if public := s.cfg.FederationIssuer; public != "" {
		customer.Issuer, customer.KeysURI = public, identity.PublicKeysURL(public)
	}
	return customer
}

// revocation returns the commands by which the holder of a key takes the access of a resource to it away, and those
// that give it back.
func (s *Server) revocation(ctx context.Context, resource, id string) (take, give []string, err error) {
	of, err := s.accounts.Get(ctx, resource)
	if err != nil {
		return nil, nil, err
	}
	key, err := stores.ParseKey(id, "", "")
	if err != nil {
		return nil, nil, fmt.Errorf("read the identifier of the key: %w", err)
	}
	r := s.keyStores.Set().Revocation(key, s.customer(of))
	if r.Take == nil && key.Scheme() == "https" {
		r = stores.AzureRevocation(key)
	}
	return r.Take, r.Give, nil
}
