package account

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/visage-face/visage"
)

// Managed is a managed identity.
type Managed struct {
	PrincipalID string // object id in its tenant, a lower-case UUID: what access policies name
	ClientID    string // a lower-case UUID
	Tenant      string // a lower-case UUID
}

// Identity holds the identities of an account towards other services.
type Identity struct {
	// System is the system-assigned identity, which ends with the account; zero: none.
	System Managed
	// Users are the user-assigned identities by their management paths, as they were given. Keys are never opened with
	// them.
	Users map[string]Managed
}

func (i Identity) clone() Identity {
	i.Users = maps.Clone(i.Users)
	return i
}

// IdentitySpec is the requested set of identities.
type IdentitySpec struct {
	System bool
	Users  []string // management paths
}

// Identities manages managed identities. It is called concurrently and while accounts change, so it must not call
// Accounts.
type Identities interface {
	// Ensure returns the system-assigned identity of an account, and creates it if there is none.
	Ensure(ctx context.Context, a Account) (Managed, error)
	// Remove deletes the system-assigned identity of an account, if there is one, and revokes its access.
	Remove(ctx context.Context, a Account) error
	// Forget revokes all roles on a purged account, because the next account of its name is another one.
	Forget(ctx context.Context, a Account) error
	// Grant grants the identity of an account access to a key, if by may do so. If not, or if the vault is not one of
	// this instance, it does nothing, and the key will refuse.
	Grant(ctx context.Context, by visage.Caller, a Account, key visage.KeyRef) error
	// User returns the user-assigned identity with a management path.
	User(ctx context.Context, path string) (Managed, bool)
}

// noIdentities is the Identities of an instance without managed identities.
type noIdentities struct{}

func (noIdentities) Ensure(context.Context, Account) (Managed, error) {
	return Managed{}, visage.Refuse(visage.Unsupported, "IdentityNotSupported",
		"This instance has no managed identities.")
}
func (noIdentities) Remove(context.Context, Account) error                              { return nil }
func (noIdentities) Forget(context.Context, Account) error                              { return nil }
func (noIdentities) Grant(context.Context, visage.Caller, Account, visage.KeyRef) error { return nil }
func (noIdentities) User(context.Context, string) (Managed, bool)                       { return Managed{}, false }

// assign returns the identities of a spec, and creates the system-assigned one if it is missing. It deletes none.
// Refusal: FailedIdentityOperation.
func (a *Accounts) assign(ctx context.Context, of Account, spec IdentitySpec) (Identity, error) {
	var i Identity
	for _, path := range spec.Users {
		user, found := a.identities().User(ctx, path)
		if !found {
			return Identity{}, visage.Refuse(visage.Invalid, "FailedIdentityOperation",
				"There is no user-assigned identity %q.", path)
		}
		if i.Users == nil {
			i.Users = map[string]Managed{}
		}
		i.Users[path] = user
	}
	if !spec.System {
		return i, nil
	}
	if i.System = of.Identity.System; i.System != (Managed{}) {
		return i, nil
	}
	var err error
	if i.System, err = a.identities().Ensure(ctx, of); err != nil {
		return Identity{}, fmt.Errorf("make the identity of resource %s: %w", of.ID, err)
	}
	return i, nil
}

func (a *Accounts) identities() Identities {
	if a.cfg.Identities == nil {
		return noIdentities{}
	}
	return a.cfg.Identities
}

// Spec returns the spec of the present identities.
func (i Identity) Spec() IdentitySpec {
	return IdentitySpec{System: i.System != (Managed{}), Users: slices.Sorted(maps.Keys(i.Users))}
}

// Type returns the type of the identities as the management plane names it.
func (i Identity) Type() string {
	var kinds []string
	if i.System != (Managed{}) {
		kinds = append(kinds, "SystemAssigned")
	}
	if len(i.Users) > 0 {
		kinds = append(kinds, "UserAssigned")
	}
	if kinds == nil {
		return "None"
	}
	return strings.Join(kinds, ", ")
}
