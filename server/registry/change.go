package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/sealed"
)

// Add adds a store, which resources may use at once. Refusals: InvalidKeyStore, KeyStoreExists.
func (r *Registry) Add(ctx context.Context, by visage.Caller, s stores.Store) (Entry, error) {
	r.changes.Lock()
	defer r.changes.Unlock()
	e, err := r.add(ctx, s)
	return e, r.recorded(ctx, by, "key-store-add", spelled(s.Address), err)
}

// spelled returns an address in its one spelling. Of one that cannot be read, which may have a password in it, it
// returns the scheme alone; empty: it has none that is known.
func spelled(said string) string {
	if address, err := stores.AddressOf(said); err == nil {
		return address
	}
	if kind := stores.KindAt(said); kind != "" {
		return kind + ":"
	}
	return ""
}

func (r *Registry) add(ctx context.Context, s stores.Store) (Entry, error) {
	invalid := func(err error) error {
		return visage.Refuse(visage.Invalid, "InvalidKeyStore", "The key store cannot be added: %v.", err)
	}
	if err := s.Check(); err != nil {
		return Entry{}, invalid(err)
	}
	address, err := stores.AddressOf(s.Address)
	if err != nil {
		return Entry{}, invalid(err)
	}
	s.Address = address
	if _, err := r.Find(IDOf(s.Address)); err == nil {
		return Entry{}, refuseExisting(s.Address)
	}
	if err := s.FilesIn(r.cfg.Files); err != nil {
		return Entry{}, invalid(err)
	}
	if err := s.RequireResources(); err != nil {
		return Entry{}, invalid(err)
	}
	complete, err := r.set.Add(s, r.own)
	if err != nil {
		return Entry{}, invalid(err)
	}
	rec := record{s, time.Now().UnixNano()}
	r.mu.Lock()
	r.added[s.Address] = &added{rec, ""}
	r.mu.Unlock()
	err = r.stored.Update(ctx, func(tx sealed.Tx, now map[string]record) error {
		if _, there := now[s.Address]; there {
			return refuseExisting(s.Address)
		}
		return records.In().Put(tx, s.Address, rec)
	})
	if err != nil {
		r.mu.Lock()
		r.adoptLocked() // what was added here is in no list
		r.mu.Unlock()
		return Entry{}, fmt.Errorf("write the list of key stores: %w", err)
	}
	return Entry{ID: IDOf(s.Address), Store: complete, Origin: FromOperator, Added: time.Unix(0, rec.Added)}, nil
}

func refuseExisting(address string) error {
	return visage.Refuse(visage.Conflict, "KeyStoreExists", "The key store %s is configured already: "+
		"change its description instead.", address)
}

// Remove removes a store that was added. It is refused while a resource has a key in it, whatever state that is in, or
// is changing to one. Refusals: KeyStoreNotFound, KeyStoreFromSettings, KeyStoreInUse.
func (r *Registry) Remove(ctx context.Context, by visage.Caller, id string) error {
	r.changes.Lock()
	defer r.changes.Unlock()
	e, err := r.Find(id)
	if err == nil {
		err = r.remove(ctx, by, e)
	}
	return r.recorded(ctx, by, "key-store-remove", e.Store.Address, err)
}

func (r *Registry) remove(ctx context.Context, by visage.Caller, e Entry) error {
	if e.Origin == FromSettings {
		return refuseSettings(e)
	}
	return r.alter(ctx, by, e, func(users []User) error {
		certain, possible := split(users)
		switch {
		case len(certain) > 0:
			return visage.Refuse(visage.Conflict, "KeyStoreInUse", "The key store %s has keys of these resources, "+
				"also deleted ones that can be recovered: %s. Give them other keys first.", e.Store.Address,
				namesOf(certain))
		case len(possible) > 0:
			return refusePossible(e.Store.Address, possible)
		}
		return nil
	}, func(tx sealed.Tx, _ record) error { return records.In().Delete(tx, e.Store.Address) })
}

func refuseSettings(e Entry) error {
	return visage.Refuse(visage.Conflict, "KeyStoreFromSettings", "The key store %s comes from the settings of the "+
		"service: remove or change it there, and restart the service.", e.Store.Address)
}

// Change changes fields of the description of a store that was added, by the names of stores.Fields; an empty value
// takes a field away. Resources go on to use the store, over new connections. It is refused if one that has a key in
// the store would not be among those that may use it. Refusals: KeyStoreNotFound, KeyStoreFromSettings,
// InvalidKeyStore, KeyStoreInUse, RequestConflict.
func (r *Registry) Change(
	ctx context.Context, by visage.Caller, id string, fields map[string]string,
) (Entry, error) {
	r.changes.Lock()
	defer r.changes.Unlock()
	e, err := r.Find(id)
	if err == nil {
		err = r.change(ctx, by, e, fields)
	}
	if err == nil && e.Fault != "" { // what it lacked may be there now, though nothing of the description has changed
		r.mu.Lock()
		if a := r.added[e.Store.Address]; a != nil && a.fault != "" {
			r.changeLocked(a, a.record)
		}
		r.mu.Unlock()
	}
	if err = r.recorded(ctx, by, "key-store-update", e.Store.Address, err); err != nil {
		return Entry{}, err
	}
	return r.Find(id)
}

func (r *Registry) change(ctx context.Context, by visage.Caller, e Entry, fields map[string]string) error {
	if e.Origin == FromSettings {
		return refuseSettings(e)
	}
	s, err := changed(e.Store, fields)
	if err == nil {
		err = s.FilesIn(r.cfg.Files)
	}
	if err == nil {
		err = r.set.CheckChange(s, r.own)
	}
	if err != nil {
		return refuseChange(err)
	}
	return r.alter(ctx, by, e, func(users []User) error {
		users = slices.DeleteFunc(users, func(u User) bool {
			return s.Permit(stores.Asker{Path: u.Path}) == nil
		})
		certain, possible := split(users)
		switch {
		case len(certain) > 0:
			return visage.Refuse(visage.Conflict, "KeyStoreInUse", "The key store %s has keys of these resources, "+
				"which would not be among those that may use it: %s. Name them too, or give them other keys first.",
				s.Address, namesOf(certain))
		case len(possible) > 0:
			return refusePossible(s.Address, possible)
		}
		return nil
	}, func(tx sealed.Tx, rec record) error {
		if !rec.Store.Equal(e.Store) { // another process has changed it since
			return visage.Refuse(visage.Conflict, "RequestConflict", "The key store %s has just been changed by "+
				"somebody else: read its description, and try again.", s.Address)
		}
		rec.Store = s
		return records.In().Put(tx, s.Address, rec)
	})
}

// changed returns a description with other values of some fields, and checks it.
func changed(now stores.Store, fields map[string]string) (stores.Store, error) {
	if len(fields) == 0 {
		return stores.Store{}, fmt.Errorf("no field is given: a key store has %s", strings.Join(stores.Fields(), ", "))
	}
	s, err := now.With(fields)
	if err != nil {
		return stores.Store{}, err
	}
	if len(now.Resources) > 0 && len(s.Resources) == 0 {
		return stores.Store{}, fmt.Errorf("the list of resources that may use it is missing or empty: give their "+
			"management paths, or %q for all", stores.Everybody)
	}
	if err := s.Check(); err != nil {
		return stores.Store{}, err
	}
	return s, s.RequireResources()
}

func refuseChange(err error) error {
	return visage.Refuse(visage.Invalid, "InvalidKeyStore", "The key store cannot be changed: %v.", err)
}

// split returns the users that have a key in a store, and those that may have one.
func split(users []User) (certain, possible []User) {
	for _, u := range users {
		if u.Unreadable {
			possible = append(possible, u)
		} else {
			certain = append(certain, u)
		}
	}
	return certain, possible
}

// refusePossible refuses a change for resources that may have a key in a store: with a backup they need it again.
func refusePossible(address string, users []User) error {
	return visage.Refuse(visage.Conflict, "KeyStoreInUse", "The key store %s may have keys of these resources, since "+
		"what is stored of their keys is damaged and cannot be read: %s. Restore the store of the service from a "+
		"backup, or delete and purge these resources first.", address, namesOf(users))
}

// changeRounds is how often a change of a store is tried while keys of resources change.
const changeRounds = 5

// errNewUsers is for transactions: a resource may have begun to use a store since its users were read.
var errNewUsers = errors.New("keys of resources have changed")

// alter changes the record of an added store, if allowed does not refuse that for its users. Other processes may have a
// resource begin to use the store at any time. So the change holds for the users at the moment of its transaction, and
// Kept asks what is stored once a change of a resource's key has begun: one of the two sees the other.
func (r *Registry) alter(
	ctx context.Context, by visage.Caller, e Entry, allowed func([]User) error, write func(sealed.Tx, record) error,
) error {
	for range changeRounds {
		users, unchanged, err := r.cfg.Users(ctx, by, e.Store.Address)
		if err == nil {
			err = allowed(users)
		}
		if err != nil {
			return err
		}
		err = r.stored.Update(ctx, func(tx sealed.Tx, now map[string]record) error {
			rec, there := now[e.Store.Address]
			if !there || rec.Added != e.Added.UnixNano() { // removed; another one may be at the address
				return refuseMissing(e.ID)
			}
			same, err := unchanged(tx)
			if err == nil && !same {
				err = errNewUsers
			}
			if err != nil {
				return err
			}
			return write(tx, rec)
		})
		if !errors.Is(err, errNewUsers) {
			return err
		}
	}
	return visage.Refuse(visage.Conflict, "KeyStoreInUse", "Keys of resources are changing all the time at present, "+
		"so that it cannot be told which resources use the key store %s. Try again later.", e.Store.Address)
}

// namesOf returns the names of resources for a sentence.
func namesOf(users []User) string {
	var names []string
	hidden := 0
	for _, u := range users {
		if u.Name == "" {
			hidden++
			continue
		}
		names = append(names, u.Name)
	}
	if hidden > 0 {
		names = append(names, fmt.Sprintf("%d that you may not see", hidden))
	}
	return strings.Join(names, ", ")
}
