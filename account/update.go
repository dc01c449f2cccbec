package account

import (
	"context"
	"maps"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
)

// Change is a change of an account. Fields that are nil stay as they are.
type Change struct {
	Tier              *visage.Tier
	Tags              map[string]string // replace the present ones
	Subdomain         *string           // only if the account has none yet; see CheckSubdomain
	LocalAuthDisabled *bool
	Network           *visage.NetworkRules
	Origins           *[]string // replace the present ones
	Identity          *IdentitySpec
	Protection        *Protection

	kept *protected // stored after the key has changed
}

// Update changes an account: decide gets the present account and returns the change. decide may run more than once.
// Refusals: ResourceNotFound, those of decide; InvalidSkuId for a tier that cannot be changed to;
// InvalidSubdomain, CustomDomainInUse and SubdomainCannotBeChanged; those of identities; those of protections (contract
// §5.2); RequestConflict while another Update is changing the key. If Update is refused, nothing has changed.
//
// A change of the key may still be under way when Update returns; see Encryption.
func (a *Accounts) Update(
	ctx context.Context, by visage.Caller, name string, decide func(Account) (Change, error),
) (Account, error) {
	e := a.eventAt(audit.ResourceUpdate, by, name)
	changed, err := a.update(ctx, by, name, func(now Account) (Change, error) {
		c, err := decide(now)
		if err == nil && c.Protection != nil {
			key, _ := a.keyOf(*c.Protection) // a reference that names no key is refused by update
			e.SetKey(key)
		}
		return c, err
	})
	if err == nil {
		changed.describe(&e)
	}
	return changed, a.record(ctx, e, err)
}

func (a *Accounts) update(
	ctx context.Context, by visage.Caller, name string, decide func(Account) (Change, error),
) (Account, error) {
	now, err := a.Get(ctx, name)
	if err != nil {
		return Account{}, err
	}
	c, err := decide(now)
	if err != nil {
		return Account{}, err
	}
	if err := visage.CheckTags(c.Tags); err != nil {
		return Account{}, err
	}
	if c.Protection == nil {
		return a.alter(ctx, by, name, func(now Account) (Change, error) {
			if err := a.admitChange(now); err != nil {
				return Change{}, err
			}
			return decide(now)
		})
	}
	if err := a.beginKeyChange(now); err != nil {
		return Account{}, err
	}
	defer a.endKeyChange(now)
	// Decide again, now that other changes are refused until this one is done.
	if now, err = a.Get(ctx, name); err == nil {
		c, err = decide(now)
	}
	if err != nil {
		return Account{}, err
	}
	if c.Protection == nil {
		return a.alter(ctx, by, name, decide)
	}
	rec, err := a.stored(ctx, name)
	if err != nil {
		return Account{}, err
	}
	plan, err := a.planKey(ctx, rec, c)
	if err == nil {
		err = a.reserveSubdomain(rec, c)
	}
	if err != nil {
		return Account{}, err
	}
	return a.applyKey(ctx, by, plan)
}

// beginKeyChange refuses all other changes of an account until endKeyChange, because asking a vault takes seconds.
func (a *Accounts) beginKeyChange(of Account) error {
	a.changes.Lock()
	defer a.changes.Unlock()
	if err := a.admitChange(of); err != nil {
		return err
	}
	a.keyChanges[of.key()] = ""
	return nil
}

func (a *Accounts) endKeyChange(of Account) {
	a.changes.Lock()
	defer a.changes.Unlock()
	delete(a.keyChanges, of.key())
}

// admitChange refuses a change of an account whose key is being changed. changes is held.
func (a *Accounts) admitChange(of Account) error {
	if _, changing := a.keyChanges[of.key()]; changing {
		return visage.Refuse(visage.Conflict, "RequestConflict",
			"Another change of resource %q is in progress: wait until it has ended.", of.Name)
	}
	return nil
}

// reserveSubdomain reserves the subdomain that an account gets together with a key until endKeyChange. Otherwise
// another account could take it while the vault is asked, and the change would be refused after the key has changed.
func (a *Accounts) reserveSubdomain(rec record, c Change) error {
	if c.Subdomain == nil || *c.Subdomain == rec.Subdomain {
		return nil
	}
	a.changes.Lock()
	defer a.changes.Unlock()
	if err := a.index.Now().admitSubdomain(rec, *c.Subdomain); err != nil {
		return err
	}
	if err := a.admitReserved(*c.Subdomain, rec.Name); err != nil {
		return err
	}
	a.keyChanges[strings.ToLower(rec.Name)] = strings.ToLower(*c.Subdomain)
	return nil
}

// admitReserved refuses a host that is reserved for another account than the named one. changes is held.
func (a *Accounts) admitReserved(host, name string) error {
	for of, reserved := range a.keyChanges {
		if reserved != "" && strings.EqualFold(reserved, host) && !strings.EqualFold(of, name) {
			return refuseHost(host)
		}
	}
	return nil
}

// alter changes an account, except for the key that protects its data.
func (a *Accounts) alter(
	ctx context.Context, by visage.Caller, name string, decide func(Account) (Change, error),
) (Account, error) {
	var before Account
	rec, err := a.change(ctx, by, name, func(rec record) (record, error) {
		before = rec.account()
		c, err := decide(before)
		if err == nil && c.Subdomain != nil {
			err = a.admitReserved(*c.Subdomain, rec.Name)
		}
		if err != nil {
			return record{}, err
		}
		return a.apply(ctx, rec, c)
	})
	if err != nil {
		return Account{}, err
	}
	if before.Identity.System != (Managed{}) && rec.Identity.System == (Managed{}) {
		ctx := context.WithoutCancel(ctx) // the account has no identity any more
		if err := a.identities().Remove(ctx, before); err != nil {
			return Account{}, err
		}
		a.recheck(ctx, before)
	}
	return rec.account(), nil
}

// apply returns the record after a change, or refuses the change.
func (a *Accounts) apply(ctx context.Context, rec record, c Change) (record, error) {
	x := a.index.Now()
	if c.Tier != nil && *c.Tier != rec.Tier {
		if err := x.admitTier(rec, *c.Tier); err != nil {
			return record{}, err
		}
		rec.Tier = *c.Tier
	}
	if c.Subdomain != nil && *c.Subdomain != rec.Subdomain {
		if err := x.admitSubdomain(rec, *c.Subdomain); err != nil {
			return record{}, err
		}
		rec.Subdomain = *c.Subdomain
	}
	if c.Tags != nil {
		if err := visage.CheckTags(c.Tags); err != nil {
			return record{}, err
		}
		rec.Tags = maps.Clone(c.Tags)
	}
	if c.LocalAuthDisabled != nil {
		rec.LocalAuthDisabled = *c.LocalAuthDisabled
	}
	if c.Network != nil {
		rec.Network = c.Network.Clone()
	}
	if c.Origins != nil {
		var err error
		if rec.Origins, err = foldOrigins(*c.Origins); err != nil {
			return record{}, err
		}
	}
	if err := rec.Network.Check(); err != nil {
		return record{}, err
	}
	if c.kept != nil {
		rec.Protection = *c.kept
	}
	if c.Identity != nil {
		var err error
		if rec.Identity, err = a.assign(ctx, rec.account(), *c.Identity); err != nil {
			return record{}, err
		}
	}
	return rec, nil
}
