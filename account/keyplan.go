package account

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/sealed"
)

// keyPlan is a change of the key that protects an account's data, with everything decided and nothing done yet.
type keyPlan struct {
	name   string // of the account
	space  sealed.SpaceID
	action keyAction
	key    visage.KeyRef // to enable or to ask again; zero for the service's
	grant  bool          // the account's identity gets access to the key first
	// identity switches the account's own identity on before the key is asked; nil: it is on, or not needed.
	identity *IdentitySpec
	before   IdentitySpec // what a failure after that goes back to
	change   Change       // stored once the key holds: the rest of what the caller asked for
}

// keyAction is what a keyPlan has custody do.
type keyAction int

const (
	keepKey    keyAction = iota // the wanted key holds already
	recheckKey                  // the wanted key holds already, and is asked at once whether it answers again
	enableKey
	disableKey // the service holds the key from then on
)

// planKey decides how an account gets the protection of c and whatever else c says. It has no side effects, and refuses
// in the order of the contract, §5.2, all that can be known before the account's identity asks the vault.
func (a *Accounts) planKey(ctx context.Context, rec record, c Change) (keyPlan, error) {
	plan := keyPlan{name: rec.Name, space: rec.space(), change: c, before: rec.Identity.Spec()}
	plan.change.Protection, plan.change.kept = nil, &protected{Said: true}
	if err := a.checkRest(ctx, rec, c); err != nil {
		return keyPlan{}, err
	}
	want := *c.Protection
	if c.Identity != nil {
		plan.change.Identity = &IdentitySpec{System: c.Identity.System || want.Register, Users: c.Identity.Users}
	}
	if !want.Customer {
		plan.action = disableKey
		return plan, want.checkService()
	}
	if rec.Tier != visage.E0 {
		return keyPlan{}, refuseSKU(rec.Name, rec.Tier)
	}
	now, err := a.cfg.Custody.State(ctx, plan.space)
	if err != nil {
		return keyPlan{}, fmt.Errorf("read who holds the key of resource %s: %w", rec.ID, err)
	}
	// A customer who has a key already may change it without an approval, to be able to leave an old one.
	if serviceHolds(now) && !a.cfg.AutoApprove && !a.index.Load().approved(rec.Location) {
		return keyPlan{}, refuseUnapproved(rec.Location)
	}
	if plan.identity, err = want.identity(plan); err != nil {
		return keyPlan{}, err
	}
	if plan.key, err = a.keyOf(want); err != nil {
		return keyPlan{}, err
	}
	plan.change.kept.VaultURI = vaultURI(plan.key)
	if plan.key.SameKey(now.Kept) { // another name of the same
		plan.key.Vault, plan.key.Name = now.Key.Vault, now.Key.Name
	}
	plan.action, plan.grant = want.action(plan.key, visage.PrincipalID(rec.Identity.System.PrincipalID), now)
	if plan.action == enableKey && !plan.key.SameKey(now.Key) && a.cfg.CheckVault != nil {
		return plan, a.cfg.CheckVault(ctx, rec.Location, plan.key)
	}
	return plan, nil
}

// checkRest refuses what is wrong with a change beside its protection, so that no key changes for it.
func (a *Accounts) checkRest(ctx context.Context, rec record, c Change) error {
	if c.Identity != nil {
		users := *c.Identity
		users.System = false // its own identity is made when the plan is applied
		c.Identity = &users
	}
	_, err := a.apply(ctx, rec, c)
	return err
}

// identity returns the identities that the account needs before it can ask for its key; nil: those it has will do.
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
			"Face resources open keys with their system-assigned identity alone: switch it on, and leave "+
				"identityClientId out.")
	case plan.before.System:
		return nil, nil
	}
	return &spec, nil
}

// action decides what custody does to have the account's data under key, asked for by a principal, and whether that
// principal gets access to the key first. A client that sends a whole resource back may mean its tags only: the key
// that holds already is not asked again, but for an open one without a version, which may move to a newer version.
func (p Protection) action(key visage.KeyRef, as visage.PrincipalID, now custody.State) (_ keyAction, grant bool) {
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

// applyKey does what a plan says. Its effects, in this order:
//
//  1. The account's own identity is switched on, where it is off.
//  2. The identity gets access to the key, where the caller may allow that. On an identity that was on before, the
//     access stays, whatever comes: the caller has asked for it.
//  3. Custody asks the key, and takes it. The last refusals of the contract, §5.2, come from here.
//  4. The rest of the change is stored, and what is shown of the key.
//
// When 2 or 3 fails, 1 is undone, and nothing of the account has changed. Once 3 has succeeded there is no way back.
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

// setIdentity stores which identities an account has.
func (a *Accounts) setIdentity(
	ctx context.Context, by visage.Caller, name string, spec *IdentitySpec,
) (Account, error) {
	return a.alter(ctx, by, name, func(Account) (Change, error) { return Change{Identity: spec}, nil })
}

// bindKey gives the account's identity access to the key of a plan and has custody take it.
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
