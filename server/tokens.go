package server

import (
	"context"
	"slices"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/tokenapi"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keyvault"
)

// Audiences that clients have built in. They are valid whatever the instance's domain.
const (
	faceAudience    = "https://cognitiveservices.azure.com"
	resourceManager = "https://management.azure.com"
	classicManager  = "https://management.core.windows.net"
)

// managementAudiences are the audiences of the management plane; the last is its own address, which some clients use.
func (s *Server) managementAudiences() []string {
	return []string{resourceManager, classicManager, s.Endpoint()}
}

// isAudience reports whether a name is the audience of a plane.
func (s *Server) isAudience(name string) bool {
	return name == faceAudience || name == graphAudience || name == s.vaultsOrigin().String() ||
		slices.Contains(s.managementAudiences(), name)
}

// issuer is the issuer of a tenant's tokens.
func (s *Server) issuer(tenant string) string { return s.Endpoint() + "/" + tenant + "/v2.0" }

func (s *Server) openIdentities(ctx context.Context, l *layers) (*identity.Directory, error) {
	trusted, err := s.cfg.trusted(&s.served)
	if err != nil {
		return nil, err
	}
	return identity.Open(ctx, identity.Config{
		Store: l.store, Tenant: l.instance.TenantID, Issuer: s.issuer, Audience: s.isAudience, Trusted: trusted,
		AssertionIssuer: s.cfg.FederationIssuer, SignIn: s.cfg.signInIssuers(),
		Logger: s.log, NewRSA: s.cfg.NewRSA,
		Place: l.place, Audit: l.audit, Operator: l.instance.ClientID,
	})
}

// tokenPlane makes the token plane.
func (s *Server) tokenPlane(l *layers) (api.Plane, error) {
	return tokenapi.New(tokenapi.Config{Directory: l.identities, Authority: s.origin, Issuer: s.issuer})
}

// tokens authenticates bearer tokens for the planes.
type tokens struct {
	identities *identity.Directory
	instance   instanceRecord
	management []string // audiences
}

// Principal implements api.Tokens for the management plane: the tenant of a token must be that of the subscription.
func (t tokens) Principal(ctx context.Context, bearer string) (visage.Principal, error) {
	return t.ofTenant(ctx, bearer, t.management...)
}

// Token implements vaultapi.Tokens. The plane checks the tenant, since every vault has its own.
func (t tokens) Token(ctx context.Context, bearer, audience string) (visage.Principal, error) {
	return t.identities.Verify(ctx, bearer, audience)
}

func (t tokens) ofTenant(ctx context.Context, bearer string, audiences ...string) (visage.Principal, error) {
	who, err := t.identities.Verify(ctx, bearer, audiences...)
	if err != nil {
		return visage.Principal{}, err
	}
	if who.Tenant != t.instance.TenantID {
		return visage.Principal{}, visage.Refuse(visage.Unauthenticated, "InvalidAuthenticationTokenTenant",
			"The bearer token belongs to another tenant than the subscription.")
	}
	return who, nil
}

// holders implements api.Holders.
type holders struct {
	tokens
	accounts *account.Accounts
	origin   visage.Origin
}

// useFaces is the action that gives access to the data of Face resources.
const useFaces = "Microsoft.CognitiveServices/accounts/Face/action"

// Resource implements api.Holders. A token does not name a resource, so the host must.
func (h holders) Resource(ctx context.Context, bearer, host string) (visage.Resource, visage.Principal, error) {
	refuse := func(code, format string, args ...any) (visage.Resource, visage.Principal, error) {
		return visage.Resource{}, visage.Principal{}, visage.Refuse(visage.Unauthenticated, code, format, args...)
	}
	who, err := h.ofTenant(ctx, bearer, faceAudience)
	if err != nil {
		return visage.Resource{}, visage.Principal{}, err
	}
	label, found := h.origin.BelowHost(host)
	if !found {
		return refuse("401", "A bearer token is accepted only at the resource's own host, "+
			"SUBDOMAIN.%s.", h.origin.Hostname())
	}
	resource, found := h.accounts.LookupHost(label)
	if !found || !h.identities.MayData(who, useFaces, h.instance.accountPath(resource)) {
		return refuse("PermissionDenied",
			"The identity of the bearer token has no role that permits this operation on the resource. Assign it "+
				"a role such as Cognitive Services User.")
	}
	who.Resource = resource.ID
	return resource.Resource, who, nil
}

// accountPath is the management path of a Face resource.
func (r instanceRecord) accountPath(a account.Account) string {
	return "/subscriptions/" + r.SubscriptionID + "/resourceGroups/" + a.Group +
		"/providers/Microsoft.CognitiveServices/accounts/" + a.Name
}

// scopeOf is the management path of a Face resource; of the zero Account, that of the subscription.
func (r instanceRecord) scopeOf(a account.Account) string {
	if a.Name == "" {
		return "/subscriptions/" + r.SubscriptionID
	}
	return r.accountPath(a)
}

// vaultRoles authorises in vaults with role-based access.
type vaultRoles struct {
	identities *identity.Directory
	instance   instanceRecord
}

// Allowed implements keyvault.Roles.
func (r vaultRoles) Allowed(
	_ context.Context, who visage.Caller, v keyvault.Vault, p keyvault.Permission,
) (bool, error) {
	action := string(p) + "/action"
	switch p { // the others have the same name in roles
	case keyvault.MayGet, keyvault.MayList:
		action = "read"
	case keyvault.MayWrap:
		action = "wrap/action"
	case keyvault.MayUnwrap:
		action = "unwrap/action"
	}
	return r.identities.MayData(visage.Principal{ObjectID: who.ObjectID}, "Microsoft.KeyVault/vaults/keys/"+action,
		r.instance.vaultPath(v)), nil
}

// MayGiveAccess implements keyvault.Roles.
func (r vaultRoles) MayGiveAccess(_ context.Context, who visage.Caller, v keyvault.Vault) (bool, error) {
	return r.identities.May(visage.Principal{ObjectID: who.ObjectID}, giveRoles, r.instance.vaultPath(v)), nil
}

// giveRoles is the action that allows assigning roles.
const giveRoles = "Microsoft.Authorization/roleAssignments/write"

// vaultPath is the management path of a key vault.
func (r instanceRecord) vaultPath(v keyvault.Vault) string {
	return "/subscriptions/" + r.SubscriptionID + "/resourceGroups/" + v.Group +
		"/providers/Microsoft.KeyVault/vaults/" + v.Name
}
