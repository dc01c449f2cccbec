package custody

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// Use says that a customer's key wraps the data key of a resource, or that a change of keys under way is about to make
// it do so.
type Use struct {
	ID        sealed.SpaceID
	Key       visage.KeyRef // with its present address; without a version: newer versions are followed
	Version   string        // that wraps, or that a change under way has wrap
	As        visage.PrincipalID
	Condition Condition // of the resource's present key
	Changing  bool      // a change of the resource's key is under way
}

// Uses returns the resources that depend on a key: on any version if of has none, and on any key of the vault if it has
// no name. Resources whose keys cannot be read are left out. It asks no key. A resource whose change goes from one of
// the keys to another of them is there twice. The order is arbitrary.
func (c *Custody) Uses(of visage.KeyRef) []Use {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []Use
	for _, sp := range c.spaces {
		all = append(all, c.usesIn(sp, of)...)
	}
	return all
}

// usesIn returns the uses of a key by one resource. It takes sp.mu.
func (c *Custody) usesIn(sp *space, of visage.KeyRef) (all []Use) {
	sp.mu.Lock()
	n, stores, condition := sp.note, sp.storesLocked(), sp.state.shown()
	sp.mu.Unlock()
	add := func(b *binding, version string) {
		if b == nil || !c.names(of, b.Key) || of.Version != "" && of.Version != version {
			return
		}
		all = append(all, Use{ID: sp.id, Key: c.cfg.Today(b.Key), Version: version, As: b.As, Condition: condition,
			Changing: n.Flow != nil})
	}
	for _, k := range stores {
		add(&k.binding, k.Version)
	}
	if f := n.Flow; f != nil && f.To != nil && !slices.ContainsFunc(stores, func(k storeKey) bool {
		return k.Key.SameKey(f.To.Key) && k.Version == f.Version
	}) {
		add(f.To, f.Version)
	}
	return all
}

// DependsOn reports whether a resource depends on any version of a key, as Uses has it. A resource that is not known
// does not.
func (c *Custody) DependsOn(id sealed.SpaceID, key visage.KeyRef) bool {
	key.Version = ""
	c.mu.Lock()
	sp := c.spaces[id]
	c.mu.Unlock()
	return sp != nil && len(c.usesIn(sp, key)) > 0
}

// StoredUse is a resource that depends on a key, by what is stored.
type StoredUse struct {
	ID sealed.SpaceID
	// Unreadable says that what is stored of the resource's keys is damaged, so that it may depend on any key: a backup
	// may bring it back.
	Unreadable bool
}

// StoredUses returns the resources that depend on a key, as Uses has it, by what the store has at this moment: another
// process may have begun a change that this one does not know of yet. Resources whose keys cannot be read are among
// them. unchanged reports, as a transaction sees it, whether no change of keys was begun since. A change that begins
// after that transaction is refused by Config.Kept.
func (c *Custody) StoredUses(ctx context.Context, of visage.KeyRef) (
	users []StoredUse, unchanged func(sealed.Reader) (bool, error), err error,
) {
	var before map[sealed.SpaceID]uint64
	err = c.cfg.Store.Space(sealed.Operator).View(ctx, func(r sealed.Reader) (err error) {
		before, err = readChanges(r)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read which resources have changed: %w", err)
	}
	ids, err := c.cfg.Store.Spaces().List(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, id := range ids {
		if id == sealed.Operator {
			continue
		}
		sp := &space{id: id, bundle: c.cfg.Store.Bundle(id)}
		err := sp.read(ctx)
		_, damaged := errors.AsType[*sealed.CorruptError](err)
		switch {
		case errors.Is(err, sealed.ErrNoSpace):
		case damaged || errors.Is(err, errNote):
			users = append(users, StoredUse{ID: id, Unreadable: true})
		case err != nil:
			return nil, nil, fmt.Errorf("read the keys of resource %s: %w", id, err)
		case len(c.usesIn(sp, of)) > 0:
			users = append(users, StoredUse{ID: id})
		}
	}
	return users, func(r sealed.Reader) (bool, error) {
		now, err := readChanges(r)
		return maps.Equal(before, now), err
	}, nil
}

// names reports whether a reference, which may name a whole vault, names the stored key.
func (c *Custody) names(of, stored visage.KeyRef) bool {
	if of.Name == "" {
		stored.Name = ""
	}
	return c.sameKey(stored, of)
}

// Newest asks a resource's key for its newest version, as the resource's principal, and returns it if it may wrap the
// data key and is not the version in use; else an empty text. It changes nothing. Errors: sealed.ErrNoSpace, and the
// refusals of Enable for a key that is not described.
func (c *Custody) Newest(ctx context.Context, id sealed.SpaceID) (version string, err error) {
	sp, err := c.space(ctx, id)
	if err != nil {
		return "", err
	}
	present, inUse := sp.keyInUse()
	if present == nil {
		return "", nil
	}
	newest := binding{present.at(""), present.As}
	src, err := c.cfg.Open(ctx, newest.Key, newest.As)
	var d keysource.Description
	if err == nil {
		d, err = src.Describe(ctx, keysource.Ref{})
	}
	if err != nil {
		return "", vaultRefusal(newest, "get", err)
	}
	if d.Ref.Version == inUse || !Suitable(newest.Key, d) {
		return "", nil
	}
	return d.Ref.Version, nil
}

// Suitable reports whether a key with these properties may wrap a data key.
func Suitable(key visage.KeyRef, p Properties) bool { return checkDescription(key, p) == nil }
