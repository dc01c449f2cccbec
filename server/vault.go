package server

import (
	"context"
	"errors"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/vaultapi"
	"github.com/visage-face/visage/keyvault"
)

// vaultLabel is the label between a vault's name and the domain: clients request tokens for the parent of their vault's
// host, and the direct subdomains of the domain belong to Face resources.
const vaultLabel = "vault"

// vaultPlane makes the key vault plane.
func (s *Server) vaultPlane(l *layers) (api.Plane, error) {
	return vaultapi.New(vaultapi.Config{
		Vaults: l.vaults, Address: s.vaultAddress, Tokens: tokens{l.identities, l.instance, nil},
		Audience:  s.vaultsOrigin().String(),
		Authority: func(tenant string) string { return s.Endpoint() + "/" + l.knownTenant(tenant) },
	})
}

// knownTenant returns the id of a stored vault's tenant, or the instance's if there is no such tenant: clients send
// their credentials to the authority in the challenge, which must be this instance.
func (l *layers) knownTenant(name string) string {
	if id, found := l.identities.LookupTenant(name); found {
		return id
	}
	return l.instance.TenantID
}

// hasHost reports whether a subdomain of the domain belongs to a Face resource or a vault. While the store cannot say,
// every name could: then clients get a certificate for it, and 503 as the answer.
func (l *layers) hasHost(label string) bool {
	vault, found := strings.CutSuffix(label, "."+vaultLabel)
	if !found {
		_, found := l.accounts.LookupHost(label)
		return found
	}
	_, err := l.vaults.Vault(context.Background(), vault)
	refusal, refused := errors.AsType[*visage.Refusal](err)
	return err == nil || !refused || refusal.Kind == visage.Unavailable
}

// vaultScope is the management path of the vault called name, as the audit log has it.
func (l *layers) vaultScope(name string) string {
	return l.instance.vaultPath(keyvault.Vault{Group: defaultGroup, Name: name})
}
