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

// Identity is who an account is towards others.
type Identity struct {
	// System is the identity that lives and dies with the account; zero: it has none.
	System Managed
	// Users are identities of their own that the account may act as, by their management paths as they were given. The
	// data of Face resources is never opened by one.
	Users map[string]Managed
}

func (i Identity) clone() Identity {
	i.Users = maps.Clone(i.Users)
	return i
}

// IdentitySpec says which identities an account shall have.
type IdentitySpec struct {
	System bool
	Users  []string // management paths
}

// Identities makes managed identities. It is called concurrently, and while accounts change: it must not call Accounts.
type Identities interface {
	// Ensure returns the identity of an account, making it when there is none.
	Ensure(ctx context.Context, a Account) (Managed, error)
	// Remove ends the identity of an account, and takes back what it was given. It may have none.
	Remove(ctx context.Context, a Account) error
	// Forget takes back the roles that anybody has on an account that is gone: the next of its name is another.
	Forget(ctx context.Context, a Account) error
	// Grant lets the identity of an account use a key, where by may allow that; where it may not, or the vault is not
	// ours, nothing happens, and the key will say no.
	Grant(ctx context.Context, by visage.Caller, a Account, key visage.KeyRef) error
	// User returns the user-assigned identity with a management path.
	User(ctx context.Context, path string) (Managed, bool)
}

// noIdentities is the Identities of an instance without any.
type noIdentities struct{}

func (noIdentities) Ensure(context.Context, Account) (Managed, error) {
	return Managed{}, visage.Refuse(visage.Unsupported, "IdentityNotSupported",
		"This instance has no managed identities.")
}
func (noIdentities) Remove(context.Context, Account) error                              { return nil }
func (noIdentities) Forget(context.Context, Account) error                              { return nil }
func (noIdentities) Grant(context.Context, visage.Caller, Account, visage.KeyRef) error { return nil }
func (noIdentities) User(context.Context, string) (Managed, bool)                       { return Managed{}, false }

// assign returns the identities that an account shall have, making its own when it is wished for and not there. It ends
// none. Refusal: InvalidUserAssignedIdentity.
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

// Spec returns what would leave the identities as they are.
func (i Identity) Spec() IdentitySpec {
	return IdentitySpec{System: i.System != (Managed{}), Users: slices.Sorted(maps.Keys(i.Users))}
}

// Type names the identities as the management plane does.
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
