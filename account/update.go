package account

import (
	"context"
	"maps"

	"github.com/visage-face/visage"
)

// Change is what becomes different of an account. What is nil stays.
type Change struct {
	Tier        *visage.Tier
	Tags        map[string]string // in place of those there are
	Subdomain   *string           // where none was chosen yet; see CheckSubdomain
	KeysRefused *bool
	Identity    *Wish
}

// Update changes an account: decide gets it as it is and returns what shall become different. decide may run more than
// once. Refusals: ResourceNotFound, those of decide; InvalidSkuId for a tier that cannot be changed to;
// InvalidSubdomain, CustomDomainInUse and SubdomainCannotBeChanged; those of identities.
func (a *Accounts) Update(ctx context.Context, by Caller, name string, decide func(Account) (Change, error)) (Account, error) {
	e := Event{Operation: Updated, Resource: a.resource(name), By: by}
	var changed Account
	if changed, e.Err = a.update(ctx, by, name, decide); e.Err == nil {
		e.Resource = changed.Resource
	}
	return changed, a.record(ctx, e)
}

func (a *Accounts) update(ctx context.Context, by Caller, name string, decide func(Account) (Change, error)) (Account, error) {
	var before Account
	rec, err := a.change(ctx, by, name, func(rec record) (record, error) {
		before = rec.account()
		c, err := decide(before)
		if err != nil {
			return record{}, err
		}
		return a.apply(ctx, rec, c)
	})
	if err != nil {
		return Account{}, err
	}
	if before.Identity.System != (Managed{}) && rec.Identity.System == (Managed{}) {
		if err := a.identities().Remove(context.WithoutCancel(ctx), before); err != nil {
			return Account{}, err
		}
	}
	return rec.account(), nil
}

// apply returns the record as a change leaves it, or the refusal.
func (a *Accounts) apply(ctx context.Context, rec record, c Change) (record, error) {
	x := a.index.Load()
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
		rec.Tags = maps.Clone(c.Tags)
	}
	if c.KeysRefused != nil {
		rec.KeysRefused = *c.KeysRefused
	}
	if c.Identity != nil {
		var err error
		if rec.Identity, err = a.assign(ctx, rec.account(), *c.Identity); err != nil {
			return record{}, err
		}
	}
	return rec, nil
}
