package custody

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// conflictRefusal refuses a second change of keys at a time.
func conflictRefusal() error {
	return visage.Refuse(visage.Conflict, "RequestConflict",
		"Another change of the resource's key is in progress: wait until it has ended.")
}

// Enable puts a resource under a customer's key: from the service's key, from another key, or from another version of
// the same key. Keys in further stores (AddStore) are kept, and must answer when the key is another one. key is spelled
// as its store spells it. A key without a version means the newest one, and every newer one from then on. as is the
// principal that uses the key.
//
// Enable returns at the point of no return. The change may still be running then, and Run finishes it: see Status. If
// Enable returns an error, nothing has changed. Refusals: those of the management contract §5.2 from IdentityRequired
// on; EncryptionKeyRevoked while the present key refuses; RequestConflict.
func (c *Custody) Enable(
	ctx context.Context, id sealed.SpaceID, key visage.KeyRef, as visage.PrincipalID,
) (Operation, error) {
	to := binding{key, as}
	if err := to.valid(); err != nil {
		return Operation{}, err
	}
	sp, err := c.space(ctx, id)
	if err != nil {
		return Operation{}, fmt.Errorf("enable a customer's key: %w", err)
	}
	if !c.claim(ctx, sp) {
		f := sp.noteNow().Flow
		if f != nil && c.goesTo(*f, key) && f.To.As != as {
			if op, found, err := c.reassign(ctx, sp, as); found || err != nil {
				return op, err
			}
		}
		return Operation{}, conflictRefusal()
	}
	defer wake(c.wake)
	defer sp.release()
	stores := sp.stores()
	present, slot := sp.keyInUse()
	at := c.storeWith(stores, key)
	same := at == 0
	if at > 0 {
		return Operation{}, alreadyInUse(key, "it is a further key; remove it first, or the present first key")
	}
	if same {
		today := c.cfg.Today(present.Key)
		to.Key.Vault, to.Key.Name = today.Vault, today.Name
	}
	if same && present.As != as {
		return c.changePrincipal(ctx, sp, to)
	}
	if present != nil {
		if err := c.requirePresentKey(ctx, sp, *present); err != nil {
			return Operation{}, err
		}
	}
	version, err := c.checkKey(ctx, sp, to)
	if err == nil {
		err = c.failPoint("any", stepChecked, "after")
	}
	if err != nil {
		return Operation{}, err
	}
	switch {
	case present == nil:
		return c.beginChange(ctx, sp, flow{Kind: Enabling, To: &to, Version: version,
			After: []storeKey{{to, version}}})
	case same && slot == version:
		return c.updateStore(ctx, sp, 0, to)
	case same:
		// one spelling, so that both versions are of one key
		to.Key.Vault, to.Key.Name = present.Key.Vault, present.Key.Name
		return c.beginChecked(ctx, sp, *present, c.versionChange(Updating, stores, 0, storeKey{to, version}))
	}
	if err := c.requireOthers(ctx, sp, stores[1:]); err != nil {
		return Operation{}, err
	}
	return c.beginChecked(ctx, sp, *present, flow{Kind: Switching, To: &to, Version: version,
		After: append([]storeKey{{to, version}}, stores[1:]...)})
}

// Disable returns a resource to the service's key. The customer's key must answer, the first one if there are several;
// all are given up. Disable returns when Enable does.
// Refusals: EncryptionKeyRevoked, KeyVaultUnavailable, RequestConflict.
func (c *Custody) Disable(ctx context.Context, id sealed.SpaceID) (Operation, error) {
	sp, err := c.space(ctx, id)
	if err != nil {
		return Operation{}, fmt.Errorf("disable a customer's key: %w", err)
	}
	if !c.claim(ctx, sp) {
		return Operation{}, conflictRefusal()
	}
	defer wake(c.wake)
	defer sp.release()
	present, _ := sp.keyInUse()
	if present == nil {
		now := time.Now()
		return Operation{ID: rand.Text(), Kind: Disabling, Progress: Succeeded, Started: now, Ended: now}, nil
	}
	if err := c.requirePresentKey(ctx, sp, *present); err != nil {
		return Operation{}, err
	}
	return c.beginChange(ctx, sp, flow{Kind: Disabling})
}

// requirePresentKey refuses a change while the present key does not answer.
func (c *Custody) requirePresentKey(ctx context.Context, sp *space, present binding) error {
	now := sp.stateNow()
	conflict := visage.Refuse(visage.Conflict, "EncryptionKeyRevoked",
		"The present key of the resource must answer before it can be changed.")
	if now.OwnerLocked || now.Condition == Revoked && !now.Opening { // opening: the key has answered again
		if now.Reason != "" {
			conflict.Message += " " + now.Reason
		}
		return conflict
	}
	_, version := sp.keyInUse()
	err := c.probe(ctx, sp, storeKey{present, version})
	switch classOf(err) {
	case classOK:
		return nil
	case classDenied, classWrong:
		return conflict
	}
	return vaultRefusal(present, "unwrapKey", err)
}

// probe has a key unwrap its probe of the data key.
func (c *Custody) probe(ctx context.Context, sp *space, k storeKey) error {
	src, err := c.cfg.Open(ctx, k.ref(), k.As)
	if err != nil {
		return err
	}
	return sp.bundle.Probe(ctx, k.uri(), src)
}

// changePrincipal has another principal use the same key. No key changes, so it works while the resource is locked.
// That is how a resource opens again whose identity was removed and made anew.
func (c *Custody) changePrincipal(ctx context.Context, sp *space, to binding) (Operation, error) {
	if err := requireSameVersion(sp, to); err != nil {
		return Operation{}, err
	}
	present, version := sp.keyInUse()
	to.Key.Vault, to.Key.Name = present.Key.Vault, present.Key.Name
	err := c.probe(ctx, sp, storeKey{to, version})
	if err != nil {
		return Operation{}, vaultRefusal(to, "unwrapKey", err)
	}
	return c.updateStore(ctx, sp, 0, to)
}

// requireSameVersion refuses another version together with another principal.
func requireSameVersion(sp *space, to binding) error {
	if _, version := sp.keyInUse(); to.Key.Version != "" && to.Key.Version != version {
		return visage.Refuse(visage.Conflict, "RequestConflict",
			"The identity and the version of the key cannot change at once: give the version in use, %s, first.",
			version)
	}
	return nil
}

// updateStore stores a changed reference to the key of a store: pinned instead of followed, or another principal, which
// then uses the keys of all stores.
func (c *Custody) updateStore(ctx context.Context, sp *space, store int, to binding) (Operation, error) {
	present, version := sp.keyOf(store)
	to.Key.Vault, to.Key.Name = present.Key.Vault, present.Key.Name
	now := time.Now()
	op := Operation{ID: rand.Text(), Kind: Updating, Progress: Succeeded, Started: now, Ended: now}
	if err := c.record(ctx, sp, audit.CustodySwitch, audit.Done, &to, version, nil); err != nil {
		return Operation{}, err
	}
	err := c.updateNote(ctx, sp, func(n *note) {
		all := n.bindings()
		all[store] = to
		for i := range all {
			all[i].As = to.As
		}
		n.Key, n.Others, n.Last = &all[0], nilIfEmpty(all[1:]), &op
	})
	if err != nil {
		return Operation{}, err
	}
	c.assignWatch(sp)
	c.askNow(sp)
	return op, nil
}

// nilIfEmpty returns nil for no bindings, as a note is decoded.
func nilIfEmpty(all []binding) []binding {
	if len(all) == 0 {
		return nil
	}
	return all
}
