package server

import (
	"context"
	"crypto/x509"
	"net"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/azure"
	"github.com/visage-face/visage/keysource/stores"
)

// This file is about the vaults of Azure that nobody has described as key stores: all resources use them as one
// application, which the settings name. Azure cannot tell the resources apart then, so the settings say which of them
// may be served.

// azureNetwork is the way to Azure: to its vaults, and to its token service. The zero value is the network's.
type azureNetwork struct {
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	roots     *x509.CertPool
	authority string
}

// azureVaults returns the vaults of Azure. Nothing is connected to yet.
func (c Config) azureVaults() *azure.Vaults {
	return azure.NewVaults(azure.Config{Dial: c.azureNetwork.dial, Roots: c.azureNetwork.roots})
}

// azureApplication is what logs in to Azure for all resources.
func (c Config) azureApplication() azure.Application {
	app := azure.Application{Authority: c.azureNetwork.authority, Tenant: c.AzureTenant, ClientID: c.AzureClient,
		SecretFile: c.AzureSecretFile}
	if c.azureNetwork.roots != nil {
		app.Client = azure.LoginClient(c.azureNetwork.roots)
	}
	return app
}

// shownApplication is the application as operators see it; nil: there is none.
func (c Config) shownApplication() *armwire.AzureApplication {
	if c.AzureTenant == "" {
		return nil
	}
	return &armwire.AzureApplication{Tenant: c.AzureTenant, ClientID: c.AzureClient,
		Resources: append([]string{}, c.AzureResources...)}
}

// checkAzure reports what is wrong with the settings of the application, by the name of the setting.
func (c Config) checkAzure(bad func(name, format string, args ...any)) {
	if whole := (c.AzureTenant != "") == (c.AzureClient != "") &&
		(c.AzureClient != "") == (c.AzureSecretFile != ""); !whole {
		bad("azure-tenant", "azure-tenant, azure-client and azure-secret-file go together: set all three, or none")
	}
	if len(c.AzureResources) > 0 && c.AzureTenant == "" {
		bad("azure-resources", "a list of resources and an application in Azure go together: set azure-tenant, "+
			"azure-client and azure-secret-file too, or leave the list out")
	}
	if err := stores.CheckResources("the list", c.AzureResources); err != nil {
		bad("azure-resources", "%v", err)
	}
}

// warnAzure logs that the settings do not say which resources may use the application.
func (s *Server) warnAzure() {
	if s.cfg.AzureTenant != "" && len(s.cfg.AzureResources) == 0 {
		s.log.Warn("all resources use vaults of Azure as one application, and the setting azure-resources does not " +
			"list those that may: only keys that are in use already can be used")
	}
}

// permitAzure refuses a key in Azure to a resource for which the application of the settings may not be used. Refusal:
// KeyStoreNotPermitted.
func (s *Server) permitAzure(key visage.KeyRef, a stores.Asker) error {
	if a.Among(s.cfg.AzureResources) {
		return nil
	}
	return visage.Refuse(visage.Invalid, "KeyStoreNotPermitted", "The resource %s may not use the vault %s: the "+
		"setting azure-resources does not list it. Ask the operator of this instance to add it, or to describe the "+
		"vault as a key store that the resource logs in to as itself.", a.Path, key.Vault)
}

// admitToAzure refuses what permitAzure does, and an identity that belongs to no resource any more.
func (s *Server) admitToAzure(l *layers, key visage.KeyRef, as visage.PrincipalID) error {
	asker := l.asker(key, as)
	if err := asker.Exists(); err != nil {
		return err
	}
	return s.permitAzure(key, asker)
}

// openAzureKey opens a key in a vault of Azure, as the application of the settings. The source asks before each call
// whether the identity's resource may still use it.
func (s *Server) openAzureKey(
	l *layers, by connections, key visage.KeyRef, as visage.PrincipalID,
) (keysource.Source, error) {
	if s.cfg.AzureTenant == "" {
		return nil, s.refuseForeign(key)
	}
	src, err := by.azure().Open(key, s.cfg.azureApplication())
	if err != nil {
		return nil, refuseUnusable(key, err)
	}
	admit := func() error { return s.admitToAzure(l, key, as) }
	if err := admit(); err != nil {
		return nil, err
	}
	return stores.Guard(src, admit), nil
}

func refuseUnusable(key visage.KeyRef, why error) error {
	return visage.Refuse(visage.Invalid, "InvalidKeyVaultProperties", "The key %s cannot be used: %v.", key, why)
}
