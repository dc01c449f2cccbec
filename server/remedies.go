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
	custody.KeyExists: stores.NeedKey, custody.KeyType: stores.NeedKey,
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
		if key.Scheme() != "https" {
			return []string{fmt.Sprintf("visage store add %s FIELD=VALUE...", key.Vault)}
		}
	}
	if key == (visage.KeyRef{}) || key.Scheme() == "https" {
		return nil
	}
	tenant := s.operator.TenantID
	customer := stores.Customer{
		Principal: visage.PrincipalID(of.Identity.System.PrincipalID), Issuer: s.issuer(tenant),
		KeysURI: s.Endpoint() + "/" + tenant + "/discovery/v2.0/keys",
	}
	if public := s.cfg.FederationIssuer; public != "" {
		customer.Issuer, customer.KeysURI = public, identity.PublicKeysURL(public)
	}
	commands := s.keyStores.Set().Remedy(key, needs[unmet], customer)
	if commands == nil {
		return []string{"docs/operations/key-stores.md has the commands of the customer's side"}
	}
	return commands
}
