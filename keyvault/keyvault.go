// Package keyvault is the built-in key vault: it keeps customers' keys and uses them for whoever may.
//
// Everything it stores lies in the operator's space, so that a key never lies behind a lock that it opens itself.
// Private keys leave the store for the one operation that needs them. The wire is with api/vaultapi; here are the
// rules: who may do what, what the state of a key and of its vault allows, and how long deleted things can be had back.
package keyvault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Auditor keeps what happened.
type Auditor interface {
	// Record returns when the event is on disk. Until then the outcome of the operation is withheld from its caller,
	// and when it fails the operation fails: no key is used without a trace. A change is durable by then, and stays. It
	// is called concurrently.
	Record(ctx context.Context, e Event) error
}

// Roles knows what roles have been given to whom, for the vaults that ask for it (Vault.RBAC).
type Roles interface {
	// Allowed reports whether who has a role on the vault that holds the permission. It is called concurrently, once
	// for each operation.
	Allowed(ctx context.Context, who Caller, vault Vault, permission Permission) (bool, error)
	// MayGiveAccess reports whether who has a role on the vault that lets it give roles there, as Azure's
	// Microsoft.Authorization/roleAssignments/write does.
	MayGiveAccess(ctx context.Context, who Caller, vault Vault) (bool, error)
}

// Caller is who asks for an operation, as far as it has been proved, and in which request.
type Caller struct {
	ObjectID  string // the id of the principal in its tenant: a lower-case UUID
	AppID     string // the client id of its application; may be empty
	Tenant    string // a lower-case UUID
	RequestID string // the id of the request, for the audit

	// From is the address that the request came from, for the vault's network rules.
	From netip.Addr
	// Service says that it is the service itself, in this process, which uses the key of a resource.
	Service bool
	// Manager says that the roles of the management plane have decided that the caller may do what it asks for: what
	// the vault says about who may, and from where, is not asked.
	Manager bool
}

// Config is what a Service is made of.
type Config struct {
	// Store keeps vaults and keys. Required.
	Store *sealed.Store
	// Address returns the base address of a vault, ending in a slash: key identifiers begin with it. Required.
	Address func(vault string) string
	// Audit keeps what happened. Required.
	Audit Auditor
	// Roles decides in vaults with role-based access. Default: nobody has a role.
	Roles Roles
	// OnChange is told of a key whose use may have changed: by its own change, its deletion, its recovery, or a change
	// of its vault's policies. keyID has no version. It is called after the change is durable and must return at once:
	// it may queue and nothing else. Optional.
	OnChange func(keyID string)
	// OnEnd is told of a vault that is gone for good, by request or because its retention has run, once its end is
	// durable, and before anybody who asked for it is answered. It must not call the Service. Optional.
	OnEnd func(ctx context.Context, v Vault)
	// Logger gets what no caller is told. Default: discard.
	Logger *slog.Logger
}

// Service is the vaults of an instance. It is safe for concurrent use.
type Service struct {
	telling sync.Map // the changes whose events are on their way to the auditor, by Event.Change

	cfg   Config
	space *sealed.Space
	log   *slog.Logger
	forge *forge
	wake  chan struct{} // holds one: Run shall look again at what is due
}

// New checks cfg and makes a Service. It starts nothing; see Run.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Address == nil || cfg.Audit == nil {
		return nil, errors.New("make key vault: store, address and audit are required")
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
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, space: cfg.Store.Space(sealed.Operator), log: cfg.Logger, forge: newForge(),
		wake: make(chan struct{}, 1)}
	return s, nil
}

type noRoles struct{}

func (noRoles) Allowed(context.Context, Caller, Vault, Permission) (bool, error) { return false, nil }
func (noRoles) MayGiveAccess(context.Context, Caller, Vault) (bool, error)       { return false, nil }

// Event is one operation, done or refused.
type Event struct {
	Time      time.Time
	Operation string // object and verb, for example KeyWrap, VaultPatch (key vault contract §A9)
	Vault     string // the vault's name
	KeyID     string // the identifier of the key, with the version that was used where there is one; empty for vaults
	Who       Caller // zero for what the service does by itself
	Outcome   string // "Success", the code of the refusal, or "Error" for a failure of ours
	// Access is what the operation changed of who may do what in the vault, or would have changed where it was refused.
	Access []Access
	// where Access is not empty: an id of the change. After a crash an event may be told twice, with the same
	Change string
}

// Success is the outcome of an operation that was done.
const Success = "Success"

// audited runs do and hands what became of it to the auditor. do may complete the event.
func (s *Service) audited(ctx context.Context, e Event, do func(e *Event) error) error {
	err := do(&e)
	defer func() { s.telling.Delete(e.Change) }()
	e.Time = time.Now()
	e.Outcome = outcomeOf(err)
	ctx = context.WithoutCancel(ctx) // what was done is told even when its caller has left
	if auditErr := s.cfg.Audit.Record(ctx, e); auditErr != nil {
		return errors.Join(err, fmt.Errorf("audit %s: %w", e.Operation, auditErr))
	}
	if err == nil && e.Change != "" {
		return s.told(ctx, e.Change)
	}
	return err
}

func outcomeOf(err error) string {
	if err == nil {
		return Success
	}
	refusal, ok := errors.AsType[*visage.Refusal](err)
	switch {
	case !ok:
		return "Error"
	case refusal.InnerCode != "":
		return refusal.InnerCode
	}
	return refusal.Code
}

// poke makes Run look again at what is due.
func (s *Service) poke() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
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
