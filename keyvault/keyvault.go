// Package keyvault is the built-in key vault: it stores customers' keys and uses them for authorised callers.
//
// Everything it stores lies in the operator's space, so that no key is locked by itself. A private key leaves the store
// only for the one operation that needs it. The wire format is in api/vaultapi; here are the rules: which caller may do
// what, which operations the state of a key and of its vault allows, and how long a deleted key can be recovered.
package keyvault

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"log/slog"
	"sync"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// Roles knows the role assignments, for vaults with role-based access (Vault.RBAC).
type Roles interface {
	// Allowed reports whether the caller has a role on the vault that includes the permission. It is called
	// concurrently, once for each operation.
	Allowed(ctx context.Context, who visage.Caller, vault Vault, permission Permission) (bool, error)
	// MayGiveAccess reports whether the caller has a role on the vault that allows it to assign roles there, as Azure's
	// Microsoft.Authorization/roleAssignments/write does.
	MayGiveAccess(ctx context.Context, who visage.Caller, vault Vault) (bool, error)
}

// Config is what a Service is made of.
type Config struct {
	// Store keeps vaults and keys. Required.
	Store *sealed.Store
	// Address returns the base address of a vault, ending in a slash: key identifiers begin with it. Required.
	Address func(vault string) string
	// Audit records every operation. Required.
	Audit audit.Recorder
	// Scope returns the management path of a vault, for the audit log. Default: no path is recorded.
	Scope func(vault string) string
	// Roles decides in vaults with role-based access. Default: nobody has a role.
	Roles Roles
	// OnChange is called for a key whose use may have changed: because the key was changed, deleted or recovered, or
	// the access to its vault was changed. keyID has no version. It is called after the change is durable and must
	// return at once: it may queue and nothing else. Optional.
	OnChange func(keyID string)
	// OnEnd is called for a vault that was purged, by request or after its retention, once that is durable and before
	// the request is answered. It must not call the Service. Optional.
	OnEnd func(ctx context.Context, v Vault)
	// NewRSA makes an RSA key of so many bits. Default: crypto/rsa does.
	NewRSA RSAMaker
	// Logger gets the failures that are not returned to a caller. Default: discard.
	Logger *slog.Logger
}

// RSAMaker makes an RSA key of so many bits.
type RSAMaker = func(bits int) (*rsa.PrivateKey, error)

// Service is the vaults of an instance. It is safe for concurrent use.
type Service struct {
	delivering sync.Map // changes whose events are on their way to the audit log, by event.Change

	cfg   Config
	space *sealed.Space
	log   *slog.Logger
	forge *forge
	due   chan struct{} // holds one: Run looks again for work that is due
}

// New checks cfg and makes a Service. It starts nothing; see Run.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Address == nil || cfg.Audit == nil {
		return nil, errors.New("make key vault: store, address and audit are required")
	}
	if cfg.Scope == nil {
		cfg.Scope = func(string) string { return "" }
	}
	if cfg.Roles == nil {
		cfg.Roles = noRoles{}
	}
	if cfg.OnChange == nil {
		cfg.OnChange = func(string) {}
	}
	if cfg.OnEnd == nil {
		cfg.OnEnd = func(context.Context, Vault) {}
	}
	if cfg.NewRSA == nil {
		cfg.NewRSA = func(bits int) (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, bits) }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, space: cfg.Store.Space(sealed.Operator), log: cfg.Logger, forge: newForge(),
		due: make(chan struct{}, 1)}
	return s, nil
}

type noRoles struct{}

func (noRoles) Allowed(context.Context, visage.Caller, Vault, Permission) (bool, error) {
	return false, nil
}
func (noRoles) MayGiveAccess(context.Context, visage.Caller, Vault) (bool, error) { return false, nil }

// wake makes Run look again for work that is due.
func (s *Service) wake() {
	select {
	case s.due <- struct{}{}:
	default: // Run will look anyway
	}
}

// Ref names a key: the newest version of it when Version is empty. Names are found in any case.
type Ref struct {
	Vault, Name, Version string
}

// KeyID returns the identifier of a key: an address under that of its vault.
func (s *Service) KeyID(ref Ref) string {
	id := s.cfg.Address(ref.Vault) + "keys/" + ref.Name
	if ref.Version != "" {
		id += "/" + ref.Version
	}
	return id
}
