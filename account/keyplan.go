package account

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/sealed"
)

// keyPlan is a planned change of the key that protects an account's data. Everything is decided, and nothing is done
// yet.
type keyPlan struct {
	name   string // of the account
	space  sealed.SpaceID
	action keyAction
	key    visage.KeyRef // to enable or to recheck; zero: the service's
	grant  bool          // grant the account's identity access to the key first
	// identity enables the system-assigned identity before the key is asked; nil: it is enabled, or not needed.
	identity *IdentitySpec
	before   IdentitySpec // restored if the change fails after that
	change   Change       // the rest of the change, stored when the key has changed
}

// keyAction is the action of custody in a keyPlan.
type keyAction int

const (
	keepKey    keyAction = iota // the requested key is in use already
	recheckKey                  // the requested key is in use already; ask at once whether it answers again
	enableKey
	disableKey // return to the service's key
)

// planKey plans a change of protection, together with the rest of c. It has no side effects. It refuses, in the order
// of the contract, §5.2, everything that can be refused before the account's identity asks the vault.
func (a *Accounts) planKey(ctx context.Context, rec record, c Change) (keyPlan, error) {
	plan := keyPlan{name: rec.Name, space: rec.space(), change: c, before: rec.Identity.Spec()}
	plan.change.Protection, plan.change.kept = nil, &protected{Said: true}
	if err := a.checkRest(ctx, rec, c); err != nil {
		return keyPlan{}, err
	}
	protection := *c.Protection
	if c.Identity != nil {
		plan.change.Identity = &IdentitySpec{System: c.Identity.System || protection.Register, Users: c.Identity.Users}
	}
	if !protection.Customer {
		plan.action = disableKey
		return plan, protection.checkService()
	}
	if err := rec.requireTier(); err != nil {
		return keyPlan{}, err
	}
	now, err := a.cfg.Custody.Status(ctx, plan.space)
	if err != nil {
		return keyPlan{}, fmt.Errorf("read the state of the key of resource %s: %w", rec.ID, err)
	}
	if err := a.requireApproval(rec, now); err != nil {
		return keyPlan{}, err
	}
	if plan.identity, err = protection.identity(plan); err != nil {
		return keyPlan{}, err
	}
	if plan.key, err = a.keyOf(protection); err != nil {
		return keyPlan{}, err
	}
	plan.change.kept.VaultURI = vaultURI(plan.key)
	plan.key = samePlace(plan.key, now)
	plan.action, plan.grant = protection.action(plan.key, visage.PrincipalID(rec.Identity.System.PrincipalID), now)
	if plan.action == enableKey && !plan.key.SameKey(now.Key) {
		return plan, a.requireVault(ctx, rec, plan.key)
	}
	return plan, nil
}

// requireTier refuses a customer-managed key for an account of a tier that has none.
func (r record) requireTier() error {
	if r.Tier != visage.E0 {
		return refuseSKU(r.Name, r.Tier)
	}
	return nil
}

// requireApproval refuses a customer-managed key without an approved access request. With one in use, another key needs
// no approval, so that an old key can be replaced.
func (a *Accounts) requireApproval(rec record, now custody.Status) error {
	if serviceHolds(now) && !a.cfg.AutoApprove && !a.index.Now().approved(rec.Location) {
		return refuseUnapproved(rec.Location)
	}
	return nil
}

// checkRest refuses errors in the rest of a change, before the key changes.
func (a *Accounts) checkRest(ctx context.Context, rec record, c Change) error {
	if c.Identity != nil {
		users := *c.Identity
		users.System = false // created when the plan is applied
		c.Identity = &users
	}
	_, err := a.apply(ctx, rec, c)
	return err
}

// identity returns the identities that the account needs before it can use the key; nil: the present ones suffice.
// Refusals: IdentityRequired, UserAssignedIdentityNotSupported.
func (p Protection) identity(plan keyPlan) (*IdentitySpec, error) {
	spec := plan.before
	if plan.change.Identity != nil {
		spec = *plan.change.Identity
	}
	spec.System = spec.System || p.Register
	switch {
	case !spec.System && len(spec.Users) == 0:
		return nil, visage.Refuse(visage.Invalid, "IdentityRequired",
			"The resource has no identity to ask the vault with: switch its system-assigned identity on.")
	case p.ClientID != "" || !spec.System:
		return nil, visage.Refuse(visage.Invalid, "UserAssignedIdentityNotSupported",
			"Face resources use keys with their system-assigned identity only: enable it, and leave "+
				"identityClientId out.")
	case plan.before.System:
		return nil, nil
	}
	return &spec, nil
}

// action decides how custody brings the account's data under a key that a principal uses, and whether the principal is
// granted access first. A client that sends a whole resource back may only mean to change its tags: so a key in use is
// not asked again, unless it is open and without a version, and may move to a newer one.
func (p Protection) action(key visage.KeyRef, as visage.PrincipalID, now custody.Status) (_ keyAction, grant bool) {
	same := now.Key == key && now.As == as && now.Operation.Progress != custody.Running
	closed := now.Condition != custody.Active && now.Condition != custody.Degraded
	switch {
	case !same:
		return enableKey, p.Register
	case closed && p.Register:
		return recheckKey, true
	case closed || key.Version != "":
		return keepKey, false
	}
	return enableKey, p.Register
}

// applyKey applies a plan, in this order:
//
//  1. Enable the system-assigned identity, if it is disabled.
//  2. Grant the identity access to the key, if the caller may do so. An identity that was enabled before keeps the
//     access even if a later step fails, because the caller has asked for it.
//  3. Have custody check and enable the key. The remaining refusals of the contract, §5.2, come from here.
//  4. Store the rest of the change, and the protection as it is shown.
//
// If 2 or 3 fails, 1 is undone, and the account is as before. When 3 has succeeded, the change is final.
func (a *Accounts) applyKey(ctx context.Context, by visage.Caller, plan keyPlan) (Account, error) {
	of, err := a.Get(ctx, plan.name)
	if err == nil && plan.identity != nil {
		of, err = a.setIdentity(ctx, by, plan.name, plan.identity)
	}
	if err != nil {
		return Account{}, err
	}
	if err := a.bindKey(ctx, by, of, plan); err != nil {
		if plan.identity != nil {
			_, undone := a.setIdentity(context.WithoutCancel(ctx), by, plan.name, &plan.before)
			if undone != nil {
				err = errors.Join(err, fmt.Errorf("take the identity back: %w", undone))
			}
		}
		return Account{}, err
	}
	return a.alter(context.WithoutCancel(ctx), by, plan.name, func(Account) (Change, error) { return plan.change, nil })
}

// setIdentity changes the identities of an account.
func (a *Accounts) setIdentity(
	ctx context.Context, by visage.Caller, name string, spec *IdentitySpec,
) (Account, error) {
	return a.alter(ctx, by, name, func(Account) (Change, error) { return Change{Identity: spec}, nil })
}

// bindKey grants the account's identity access to the key of a plan and has custody enable it.
func (a *Accounts) bindKey(ctx context.Context, by visage.Caller, of Account, plan keyPlan) error {
	if plan.grant {
		if err := a.identities().Grant(ctx, by, of, plan.key); err != nil {
			return fmt.Errorf("give resource %s access to its key: %w", of.ID, err)
		}
	}
	var err error
	switch plan.action {
	case keepKey:
	case recheckKey:
		a.cfg.Custody.Recheck(plan.key)
	case enableKey:
		as := visage.PrincipalID(of.Identity.System.PrincipalID)
		_, err = a.cfg.Custody.Enable(ctx, plan.space, plan.key, as)
	case disableKey:
		_, err = a.cfg.Custody.Disable(ctx, plan.space)
	}
	return err
}
