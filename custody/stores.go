package custody

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// AddStore has a key in a further store wrap the data key of a resource too, which must be under a customer's key that
// answers. The key is checked as Enable checks one. Given a key that the resource has in a further store already,
// AddStore moves it to the given version. See failover.go for what several keys mean.
//
// All keys wrap anew, so all of them must answer. It returns when the change has ended.
//
// Refusals: those of Enable, CustomerManagedKeyNotEnabled, KeyAlreadyInUse, TooManyKeyStores.
func (c *Custody) AddStore(
	ctx context.Context, id sealed.SpaceID, key visage.KeyRef, as visage.PrincipalID,
) (Operation, error) {
	to := binding{key, as}
	if err := to.valid(); err != nil {
		return Operation{}, err
	}
	sp, stores, release, err := c.claimStores(ctx, id)
	if err != nil {
		return Operation{}, err
	}
	defer release()
	at := c.storeWith(stores, key)
	switch {
	case at == 0:
		return Operation{}, alreadyInUse(key, "it is the first key of the resource")
	case at < 0 && len(stores) == MaxStores:
		return Operation{}, visage.Refuse(visage.Conflict, "TooManyKeyStores",
			"The resource has keys in %d stores, and no more are possible: remove one first.", MaxStores)
	}
	if err := c.requirePresentKey(ctx, sp, stores[0].binding); err != nil {
		return Operation{}, err
	}
	version, err := c.checkKey(ctx, sp, to)
	if err == nil {
		err = c.failPoint("any", stepChecked, "after")
	}
	if err != nil {
		return Operation{}, err
	}
	if at > 0 {
		to.Key.Vault, to.Key.Name = stores[at].Key.Vault, stores[at].Key.Name
		if stores[at].Version == version {
			return c.updateStore(ctx, sp, at, to)
		}
		return c.beginChecked(ctx, sp, stores[0].binding,
			c.versionChange(Updating, stores, at, storeKey{to, version}))
	}
	if err := c.requireOthers(ctx, sp, stores[1:]); err != nil {
		return Operation{}, err
	}
	return c.beginChecked(ctx, sp, stores[0].binding, flow{Kind: Adding, To: &to, Version: version,
		After: append(slices.Clone(stores), storeKey{to, version})})
}

// RemoveStore has a key wrap the data key of a resource no more. All keys that remain must answer; without the first
// key, the second is the first. The only key cannot be removed: Disable returns to the service's.
//
// The resource gets a new data key and every page a new key, so that the removed key opens nothing that is written
// afterwards, not even with copies from before. RemoveStore and PromoteStore return when Enable does.
//
// While the first key is silent, no store is removed: PromoteStore ends the silence for good.
//
// Refusals: CustomerManagedKeyNotEnabled, FurtherKeyNotFound, EncryptionKeyRevoked, KeyVaultUnavailable,
// RequestConflict.
func (c *Custody) RemoveStore(ctx context.Context, id sealed.SpaceID, key visage.KeyRef) (Operation, error) {
	sp, stores, release, err := c.claimStores(ctx, id)
	if err != nil {
		return Operation{}, err
	}
	defer release()
	at := c.storeWith(stores, key)
	if at < 0 || len(stores) == 1 {
		return Operation{}, visage.Refuse(visage.NotFound, "FurtherKeyNotFound",
			"The resource has no key %s beside others.", key.Unversioned())
	}
	if err := c.requirePresentKey(ctx, sp, stores[0].binding); err != nil {
		return Operation{}, err
	}
	after := slices.Delete(slices.Clone(stores), at, at+1)
	if err := c.requireOthers(ctx, sp, after); err != nil {
		return Operation{}, err
	}
	return c.beginChecked(ctx, sp, stores[0].binding, flow{Kind: Removing, To: &stores[at].binding,
		Version: stores[at].Version, After: after})
}

// PromoteStore has the key that serves take the place of a first key that is lost: the first one wraps the data key no
// more, and is not asked again. It is refused unless the first has been asked in vain for an hour, and its last answer
// was not a no: someone who cuts the network must not turn a revocation into its opposite. The keys that remain must
// answer.
//
// Refusals: CustomerManagedKeyNotEnabled, PromotionNotAllowed, KeyVaultUnavailable, RequestConflict.
func (c *Custody) PromoteStore(ctx context.Context, id sealed.SpaceID) (Operation, error) {
	sp, stores, release, err := c.claimStores(ctx, id)
	if err != nil {
		return Operation{}, err
	}
	defer release()
	now := sp.stateNow()
	if err := now.mayPromote(time.Now()); err != nil {
		return Operation{}, err
	}
	serving := stores[now.Serving]
	after := slices.Concat([]storeKey{serving}, slices.Delete(slices.Clone(stores), now.Serving, now.Serving+1)[1:])
	if err := c.requireOthers(ctx, sp, after); err != nil {
		return Operation{}, err
	}
	return c.beginChange(ctx, sp, flow{Kind: Promoting, To: &serving.binding, Version: serving.Version,
		Opens: now.Serving, After: after})
}

// mayPromote refuses a promotion.
func (s state) mayPromote(now time.Time) error {
	refuse := func(format string, args ...any) error {
		return visage.Refuse(visage.Conflict, "PromotionNotAllowed", format, args...)
	}
	silent := s.silence(now)
	switch {
	case s.Stores < 2:
		return refuse("The resource has a key in one store only.")
	case s.OwnerLocked:
		return refuse("The resource is locked by its owner: unlock it first.")
	case s.RefusedBy == firstRefuses:
		return refuse("The last answer of the first key was a refusal, and only that key can end it: restore access " +
			"in its store.")
	case s.Answer != classUnknown:
		return refuse("The first key is not silent: remove it, if another one is to be the first.")
	case s.NotAsked.After(s.Heard) && silent < failOverAfter:
		return refuseNotAsked()
	case silent < promoteAfter:
		return refuse("The first key has been silent for %v, and it is replaced after %v at the earliest.",
			silent.Round(time.Second), promoteAfter)
	case s.Serving == 0:
		return refuse("No other key keeps the data open: one must answer first.")
	}
	return nil
}

// requireSilence refuses a promotion unless the first key is silent at this moment. During a change no watch asks it,
// and an answer that was under way when the change began is not heard: it may have been a no.
func (c *Custody) requireSilence(ctx context.Context, sp *space) error {
	if err := sp.stateNow().mayPromote(time.Now()); err != nil {
		return err
	}
	err := c.probe(ctx, sp, sp.stores()[0])
	if notAsked(err) {
		return refuseNotAsked()
	}
	if classOf(err) != classUnknown {
		return visage.Refuse(visage.Conflict, "PromotionNotAllowed",
			"The first key has answered again, and decides: wait for its state.")
	}
	return ctx.Err()
}

func refuseNotAsked() error {
	return visage.Refuse(visage.Conflict, "PromotionNotAllowed",
		"This instance does not ask the first key, because of its own settings, and would not hear a refusal: have "+
			"its operator permit the store again, and wait for its answer.")
}

// claimStores claims the space of a resource under a customer's key for a change of its stores.
func (c *Custody) claimStores(
	ctx context.Context, id sealed.SpaceID,
) (sp *space, stores []storeKey, release func(), err error) {
	if sp, err = c.space(ctx, id); err != nil {
		return nil, nil, nil, fmt.Errorf("change the key stores of a resource: %w", err)
	}
	if !c.claim(ctx, sp) {
		return nil, nil, nil, conflictRefusal()
	}
	release = func() {
		sp.release()
		wake(c.wake)
	}
	if stores = sp.stores(); stores == nil {
		release()
		return nil, nil, nil, visage.Refuse(visage.Conflict, "CustomerManagedKeyNotEnabled",
			"The resource has no customer-managed key: enable one first.")
	}
	return sp, stores, release, nil
}

// storeWith returns which of the stores has a key, by its stored or its present address; -1: none.
func (c *Custody) storeWith(stores []storeKey, key visage.KeyRef) int {
	return slices.IndexFunc(stores, func(k storeKey) bool { return c.sameKey(k.Key, key) })
}

func alreadyInUse(key visage.KeyRef, why string) error {
	return visage.Refuse(visage.Conflict, "KeyAlreadyInUse",
		"The key %s cannot protect the resource twice: %s.", key.Unversioned(), why)
}

// requireOthers refuses a change while one of the keys that are kept does not answer: the new data key is wrapped by
// all of them.
func (c *Custody) requireOthers(ctx context.Context, sp *space, kept []storeKey) error {
	for _, k := range kept {
		err := c.probe(ctx, sp, k)
		switch classOf(err) {
		case classOK:
		case classDenied, classWrong:
			return visage.Refuse(visage.Conflict, "EncryptionKeyRevoked",
				"The key %s refuses, and the new data key of the resource must be wrapped by all keys: restore access "+
					"in its store, or remove that store from the resource first.", k.Key.Unversioned())
		default:
			if r, refused := err.(*visage.Refusal); refused {
				return r
			}
			r := visage.Refuse(visage.Unavailable, "KeyVaultUnavailable",
				"The key %s gives no usable answer, and the new data key of the resource must be wrapped by all keys: "+
					"try again, or remove that store from the resource first.", k.Key.Unversioned())
			r.RetryAfter = retryAfter
			return r
		}
	}
	return nil
}

// versionChange is the change of one store's key to another version.
func (c *Custody) versionChange(kind OperationKind, stores []storeKey, at int, to storeKey) flow {
	after := slices.Clone(stores)
	after[at] = to
	return flow{Kind: kind, To: &to.binding, Version: to.Version, Store: at, After: after}
}
