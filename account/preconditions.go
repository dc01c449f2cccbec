package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
)

// Precondition is one thing that must hold before Update enables a customer-managed key.
type Precondition = custody.Requirement

// The preconditions besides those of custody.
const (
	TierAllows     Precondition = "tier-allows"     // the account is of tier E0
	AccessApproved Precondition = "access-approved" // an access request for the location is approved
	IdentityOn     Precondition = "identity-on"     // the system-assigned identity is on
	KeyNamed       Precondition = "key-named"       // the settings name a key
	SameRegion     Precondition = "same-region"     // the vault is in the account's region
	SameTenant     Precondition = "same-tenant"     // the vault belongs to the account's tenant
)

// preconditions lists all of them in the order in which Update checks them.
var preconditions = []Precondition{
	TierAllows, AccessApproved, IdentityOn, KeyNamed,
	custody.VaultKnown, custody.SoftDelete, custody.PurgeProtection, SameRegion, SameTenant,
	custody.NoOtherChange, custody.PresentKeyAnswers,
	custody.IdentityRegistered, custody.FirewallAdmits, custody.MayGet,
	custody.KeyExists, custody.KeyType, custody.KeyEnabled, custody.KeyValid, custody.KeyOperations,
	custody.MayWrap, custody.MayUnwrap, custody.RoundTrip,
}

// State is what is known of a precondition.
type State string

// The states of a precondition.
const (
	Met      State = "met"
	Unmet    State = "unmet"
	NotKnown State = "not-known" // it shows only when others are met, or when the key is enabled
	// Update meets it on the way: it switches the identity on, or grants it access (Protection.Register)
	WillBeMet State = "will-be-met"
)

// Finding is the state of one precondition.
type Finding struct {
	Precondition Precondition
	State        State
	Refusal      *visage.Refusal // of Update, because of it; nil unless it is unmet
	Remedies     []Remedy        // operations by which the caller could mend it; nil: there are none
}

// Preflight is the result of CheckProtection.
type Preflight struct {
	Key visage.KeyRef // that the settings name; zero: they name none
	// Elsewhere says that the key is in no vault of this instance, which has neither region nor tenant here.
	Elsewhere bool
	InUse     bool // the key is in use as requested: Update changes nothing, whatever the findings say
	// Answer is how the store has described the key; nil: it was not asked.
	Answer *custody.Description
	// Findings has all preconditions, in the order in which Update checks them.
	Findings []Finding
}

// FirstUnmet returns the first precondition that is not met. Update refuses the key with its refusal.
func (p Preflight) FirstUnmet() (Finding, bool) {
	i := slices.IndexFunc(p.Findings, func(f Finding) bool { return f.State == Unmet })
	if i < 0 {
		return Finding{}, false
	}
	return p.Findings[i], true
}

// Ready reports whether every precondition is met or will be, so that Update succeeds unless something changes.
func (p Preflight) Ready() bool {
	return !slices.ContainsFunc(p.Findings, func(f Finding) bool { return f.State != Met && f.State != WillBeMet })
}

// preflight collects findings.
type preflight struct{ Preflight }

func (f *preflight) finding(of Precondition) *Finding {
	return &f.Findings[slices.IndexFunc(f.Findings, func(f Finding) bool { return f.Precondition == of })]
}

// note notes the result of the check of a precondition. An error that is no refusal is returned.
func (f *preflight) note(of Precondition, err error) error {
	refusal, refused := errors.AsType[*visage.Refusal](err)
	switch at := f.finding(of); {
	case refused:
		at.State, at.Refusal = Unmet, refusal
	case err != nil:
		return err
	default:
		at.State = Met
	}
	return nil
}

// CheckProtection checks every precondition of putting an account under a customer's key, as Update would, and changes
// nothing. It goes on after a precondition that is not met, as far as more can be known with the rights of the
// account's identity and of the caller. The key is asked as Update asks it, so its vault records that. For a vault
// elsewhere most is known only after the vault has answered. Refusals: ResourceNotFound; RequestConflict while an
// Update changes the account's key.
func (a *Accounts) CheckProtection(
	ctx context.Context, by visage.Caller, name string, p Protection,
) (Preflight, error) {
	rec, found := a.index.Now().byName[strings.ToLower(name)]
	if !found {
		return Preflight{}, refuseUnknown(name)
	}
	if err := a.requireNoUpdate(rec.account()); err != nil {
		return Preflight{}, err
	}
	now, err := a.cfg.Custody.Status(ctx, rec.space())
	if err != nil {
		return Preflight{}, fmt.Errorf("read the state of the key of resource %s: %w", rec.ID, err)
	}
	f := &preflight{}
	for _, of := range preconditions {
		f.Findings = append(f.Findings, Finding{Precondition: of, State: NotKnown})
	}
	c := protectionCheck{a, by, rec, p, now, f}
	if err := errors.Join(c.checkAccount(), c.checkKey(ctx), c.addRemedies(ctx)); err != nil {
		return Preflight{}, fmt.Errorf("check the key of resource %s: %w", rec.ID, err)
	}
	return f.Preflight, nil
}

// requireNoUpdate refuses to look at an account whose key an Update is changing.
func (a *Accounts) requireNoUpdate(of Account) error {
	a.changes.Lock()
	defer a.changes.Unlock()
	return a.admitChange(of)
}

// protectionCheck is one run of CheckProtection.
type protectionCheck struct {
	a     *Accounts
	by    visage.Caller
	rec   record
	p     Protection
	now   custody.Status
	found *preflight
}

// checkAccount checks the account itself.
func (c protectionCheck) checkAccount() error {
	_, identity := c.p.identity(keyPlan{before: c.rec.Identity.Spec()})
	err := errors.Join(
		c.found.note(TierAllows, c.rec.requireTier()),
		c.found.note(AccessApproved, c.a.requireApproval(c.rec, c.now)),
		c.found.note(IdentityOn, identity),
	)
	if identity == nil && !c.hasIdentity() {
		c.found.finding(IdentityOn).State = WillBeMet
		c.found.finding(custody.IdentityRegistered).State = WillBeMet
	}
	return err
}

func (c protectionCheck) hasIdentity() bool { return c.rec.Identity.System != (Managed{}) }

// checkKey checks the key, and the vault that it is in.
func (c protectionCheck) checkKey(ctx context.Context) error {
	key, err := c.a.keyOf(c.p)
	if noteErr := c.found.note(KeyNamed, err); err != nil {
		return noteErr
	}
	key = samePlace(key, c.now)
	as := visage.PrincipalID(c.rec.Identity.System.PrincipalID)
	action, _ := c.p.action(key, as, c.now)
	c.found.Key, c.found.InUse = key, action == keepKey
	vault, err := c.a.vaults().Check(ctx, c.rec.account(), key)
	if err != nil {
		return err
	}
	for _, check := range vault {
		if check.Err != nil && key.SameKey(c.now.Key) {
			continue // only another key is refused for it
		}
		if err := c.found.note(check.Precondition, check.Err); err != nil {
			return err
		}
	}
	if c.found.finding(custody.VaultKnown).State == Unmet {
		return nil
	}
	c.found.Elsewhere = len(vault) == 0
	e, err := c.a.cfg.Custody.Examine(ctx, c.rec.space(), key, as)
	if err != nil {
		return err
	}
	c.found.Answer = e.Answer
	if err := c.complete(ctx, e, key); err != nil {
		return err
	}
	for _, check := range e.Checks {
		if at := c.found.finding(check.Requirement); at.State == NotKnown && check.Known() {
			at.State, at.Refusal = Met, check.Refusal
			if check.Refusal != nil {
				at.State = Unmet
			}
		}
	}
	return c.markGranted(ctx, key)
}

// complete adds to an examination what the vaults of this instance tell the caller and say of the identity.
func (c protectionCheck) complete(ctx context.Context, e *custody.Examination, key visage.KeyRef) error {
	access, err := c.a.vaults().Access(ctx, c.rec.account(), key)
	if err != nil {
		return err
	}
	if access != nil && (!access.Admitted || c.found.finding(IdentityOn).State != Unmet) {
		e.NoteAccess(*access)
	}
	if e.Of(custody.KeyType).Known() || e.Of(custody.KeyExists).Refusal != nil {
		return nil
	}
	properties, readable, err := c.a.vaults().Properties(ctx, c.by, key)
	if err == nil && readable {
		e.NoteProperties(properties)
	}
	return err
}

// markGranted marks the permissions that Update grants on the way.
func (c protectionCheck) markGranted(ctx context.Context, key visage.KeyRef) error {
	if !c.p.Register {
		return nil
	}
	for _, of := range []Precondition{custody.MayGet, custody.MayWrap, custody.MayUnwrap} {
		at := c.found.finding(of)
		if at.State != Unmet {
			continue
		}
		granted, err := c.a.vaults().Remedies(ctx, c.by, c.rec.account(), of, key)
		if err != nil {
			return err
		}
		if len(granted) > 0 {
			at.State, at.Refusal = WillBeMet, nil
		}
	}
	return nil
}

// samePlace returns a reference with the present address of the key in use, if it names that key by an earlier one.
func samePlace(key visage.KeyRef, now custody.Status) visage.KeyRef {
	if key.SameKey(now.Kept) {
		key.Vault, key.Name = now.Key.Vault, now.Key.Name
	}
	return key
}
