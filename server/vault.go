package server

import (
	"context"
	"strings"

	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/vaultapi"
	"github.com/visage-face/visage/keyvault"
)

// vaultLabel stands between a vault's name and the domain in the name of its host: clients want tokens for what their
// vault's host is a subdomain of, and Face resources have the domain's own subdomains.
const vaultLabel = "vault"

// vaultPlane makes the plane of the key vaults.
func (s *Server) vaultPlane(l *layers) (api.Plane, error) {
	return vaultapi.New(vaultapi.Config{
		Vaults: l.vaults, Address: s.vaultAddress, Tokens: tokens{l.identities, l.instance, nil},
		Audience:  s.vaultsOrigin().String(),
		Authority: func(tenant string) string { return s.Endpoint() + "/" + l.knownTenant(tenant) },
	})
}

// knownTenant returns the id of a tenant that a stored vault names, or that of the instance where there is no such
// tenant: what is put before clients as the place to show their credentials must be ours.
func (l *layers) knownTenant(name string) string {
	if id, found := l.identities.LookupTenant(name); found {
		return id
	}
	return l.instance.TenantID
}

// hasHost reports whether a Face resource or a vault answers at a host below the domain.
func (l *layers) hasHost(label string) bool {
	vault, found := strings.CutSuffix(label, "."+vaultLabel)
	if !found {
		_, found := l.accounts.LookupHost(label)
		return found
	}
	_, err := l.vaults.Vault(context.Background(), vault)
	return err == nil
}

// vaultScope is the management path of the vault called name, as the audit log has it.
func (l *layers) vaultScope(name string) string {
	return l.instance.vaultPath(keyvault.Vault{Group: defaultGroup, Name: name})
}
