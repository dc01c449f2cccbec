// Package account keeps the Face resources: which there are, what each is allowed, and the keys that open them.
//
// What it stores lies in the operator's space, so that it can be read whatever becomes of a customer's key.
package account

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Config is what Accounts are made of.
type Config struct {
	// Store keeps the accounts, and the spaces of their data. Required.
	Store *sealed.Store
	// Audit keeps what happened to accounts. Default: it is kept nowhere.
	Audit Auditor
	// Logger gets what no caller is told. Default: discard.
	Logger *slog.Logger
}

// Account is a Face resource as its owner sees it, without its keys.
type Account struct {
	visage.Resource
	Group    string            // the resource group it belongs to
	Location string            // as it was given at creation
	Tags     map[string]string // nil: none
	Created  time.Time
	Changed  time.Time
	Revision int64 // rises with every change, from 1
}

// Creation is what a new account is made of.
type Creation struct {
	Name     string // see CheckName; unique in the instance, whatever the case
	Group    string
	Location string
	Tier     visage.Tier
	Tags     map[string]string
}

// Keys are the two keys of an account, 32 lower-case hexadecimal digits each. They are secrets.
type Keys struct {
	Key1, Key2 string
}

// KeyName says which key of an account is meant.
type KeyName string

// The names of the keys, as the management plane spells them.
const (
	Key1 KeyName = "Key1"
	Key2 KeyName = "Key2"
)

// ParseKeyName reads a key's name in any case.
func ParseKeyName(s string) (KeyName, error) {
	for _, n := range []KeyName{Key1, Key2} {
		if strings.EqualFold(s, string(n)) {
			return n, nil
		}
	}
	return "", visage.Refuse(visage.Invalid, "InvalidRequestContent", "The key %q is not one of Key1, Key2.", s)
}

// record is an account as it is stored, under its name in lower case.
type record struct {
	ID       string // a visage.ResourceID
	Name     string
	Group    string
	Location string
	Tier     visage.Tier
	Tags     map[string]string
	Keys     Keys
	State    state
	Created  int64 // nanoseconds since 1970, UTC
	Changed  int64
	Revision int64
}

// state is how far an account has come. A creation or deletion that a crash interrupted is found by it.
type state string

const (
	creating state = "creating" // its space may be there or not; nobody was told that it exists
	ready    state = "ready"
	deleting state = "deleting" // it is gone for everyone; its space may still be there
)

var records = sealed.NewTable[record]("account", 1)

// Accounts are the Face resources of an instance. It is safe for concurrent use.
type Accounts struct {
	store *sealed.Store
	audit Auditor
	log   *slog.Logger

	changes sync.Mutex // held while accounts change, so that indexes are swapped in the order of the changes
	index   atomic.Pointer[index]
}

// Open reads the accounts. Creations and deletions that a crash interrupted are finished: a creation nobody was told of
// is taken back.
func Open(ctx context.Context, cfg Config) (*Accounts, error) {
	if cfg.Store == nil {
		return nil, errors.New("open accounts: no store")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Audit == nil {
		cfg.Audit = nobody{}
	}
	a := &Accounts{store: cfg.Store, audit: cfg.Audit, log: cfg.Logger}
	a.changes.Lock()
	defer a.changes.Unlock()
	all, err := a.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("open accounts: %w", err)
	}
	for _, rec := range all {
		if rec.State == ready {
			continue
		}
		a.log.InfoContext(ctx, "finishing what was interrupted", "resource", rec.ID, "step", string(rec.State))
		if err := a.remove(ctx, rec); err != nil {
			return nil, fmt.Errorf("open accounts: %w", err)
		}
	}
	if err := a.reindex(ctx); err != nil {
		return nil, fmt.Errorf("open accounts: %w", err)
	}
	return a, nil
}

// Create makes an account with two fresh keys and a sealed space for its data. Refusals: InvalidResourceName,
// InvalidSkuId; Conflict when the name is taken, and when there is a free account already.
func (a *Accounts) Create(ctx context.Context, by Caller, c Creation) (Account, error) {
	made, err := a.create(ctx, c)
	return made, a.record(ctx, Event{Operation: Created, Resource: made.Resource, By: by, Err: err})
}

func (a *Accounts) create(ctx context.Context, c Creation) (Account, error) {
	if err := CheckName(c.Name); err != nil {
		return Account{}, err
	}
	if _, err := visage.ParseTier(string(c.Tier)); err != nil {
		return Account{}, refuseTier(c.Tier)
	}
	var id visage.ResourceID
	rand.Read(id[:]) // never fails: the runtime ends the process instead
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	now := time.Now().UnixNano()
	rec := record{
		ID: id.String(), Name: c.Name, Group: c.Group, Location: c.Location, Tier: c.Tier, Tags: maps.Clone(c.Tags),
		Keys: Keys{newKey(), newKey()}, State: creating, Created: now, Changed: now, Revision: 1,
	}
	a.changes.Lock()
	defer a.changes.Unlock()
	if err := a.index.Load().admit(rec); err != nil {
		return Account{}, err
	}
	if err := a.put(ctx, rec); err != nil {
		return Account{}, fmt.Errorf("create account: %w", err)
	}
	if err := a.store.Create(ctx, sealed.SpaceID(id)); err != nil {
		return Account{}, fmt.Errorf("create account: %w", err)
	}
	rec.State = ready
	if err := a.put(ctx, rec); err != nil {
		return Account{}, fmt.Errorf("create account: %w", err)
	}
	return rec.account(), a.reindex(ctx)
}

// Get returns the account called name, in any case. Refusal: ResourceNotFound.
func (a *Accounts) Get(_ context.Context, name string) (Account, error) {
	rec, found := a.index.Load().byName[strings.ToLower(name)]
	if !found {
		return Account{}, refuseUnknown(name)
	}
	return rec.account(), nil
}

// List returns all accounts, sorted by name.
func (a *Accounts) List(context.Context) ([]Account, error) {
	x := a.index.Load()
	var all []Account
	for _, name := range slices.Sorted(maps.Keys(x.byName)) {
		all = append(all, x.byName[name].account())
	}
	return all, nil
}

// IDs returns the ids of all accounts, in no order.
func (a *Accounts) IDs(context.Context) ([]visage.ResourceID, error) {
	x := a.index.Load()
	ids := make([]visage.ResourceID, 0, len(x.byName))
	for _, e := range x.byName {
		ids = append(ids, e.account().ID)
	}
	return ids, nil
}

// Exists reports whether there is an account called name, in any case.
func (a *Accounts) Exists(name string) bool {
	_, found := a.index.Load().byName[strings.ToLower(name)]
	return found
}

// Update changes an account: change gets it as it is and returns it as it shall be; only Tier and Tags of the result
// count. change may run more than once. Refusals: ResourceNotFound, those of change, and InvalidSkuId for a tier that
// cannot be changed to.
func (a *Accounts) Update(ctx context.Context, by Caller, name string, change func(Account) (Account, error)) (Account, error) {
	e := Event{Operation: Updated, Resource: a.resource(name), By: by}
	var changed Account
	if changed, e.Err = a.update(ctx, name, change); e.Err == nil {
		e.Resource = changed.Resource
	}
	return changed, a.record(ctx, e)
}

func (a *Accounts) update(ctx context.Context, name string, change func(Account) (Account, error)) (Account, error) {
	rec, err := a.change(ctx, name, func(rec record) (record, error) {
		to, err := change(rec.account())
		if err != nil {
			return record{}, err
		}
		if to.Tier != rec.Tier {
			if err := a.index.Load().admitTier(rec, to.Tier); err != nil {
				return record{}, err
			}
		}
		rec.Tier, rec.Tags = to.Tier, maps.Clone(to.Tags)
		return rec, nil
	})
	return rec.account(), err
}

// Keys returns the keys of an account. Refusal: ResourceNotFound.
func (a *Accounts) Keys(ctx context.Context, name string) (Keys, error) {
	rec, err := a.stored(ctx, name)
	return rec.Keys, err
}

// Regenerate replaces one key of an account and returns both. The old key stops working at once, the other goes on.
// Refusal: ResourceNotFound.
func (a *Accounts) Regenerate(ctx context.Context, by Caller, name string, key KeyName) (Keys, error) {
	keys, err := a.regenerate(ctx, name, key)
	return keys, a.record(ctx, Event{Operation: Regenerated, Resource: a.resource(name), Key: key, By: by, Err: err})
}

func (a *Accounts) regenerate(ctx context.Context, name string, key KeyName) (Keys, error) {
	rec, err := a.change(ctx, name, func(rec record) (record, error) {
		switch key {
		case Key1:
			rec.Keys.Key1 = newKey()
		case Key2:
			rec.Keys.Key2 = newKey()
		default:
			return record{}, fmt.Errorf("regenerate key %q of an account: no such key", key)
		}
		return rec, nil
	})
	return rec.Keys, err
}

// Delete removes an account with all its data. From its return on nothing opens that data, wherever copies of it lie.
// Refusal: ResourceNotFound.
func (a *Accounts) Delete(ctx context.Context, by Caller, name string) error {
	e := Event{Operation: Deleted, Resource: a.resource(name), By: by}
	e.Err = a.delete(ctx, name)
	return a.record(ctx, e)
}

func (a *Accounts) delete(ctx context.Context, name string) error {
	a.changes.Lock()
	defer a.changes.Unlock()
	rec, err := a.stored(ctx, name)
	if err != nil {
		return err
	}
	rec.State = deleting
	if err := a.put(ctx, rec); err != nil {
		return fmt.Errorf("delete account: %w", err)
	}
	// From here on it goes forward only: the next start finishes what is begun. The keys stop working before the data
	// goes.
	ctx = context.WithoutCancel(ctx)
	if err := a.reindex(ctx); err != nil {
		return fmt.Errorf("delete account: %w", err)
	}
	if err := a.remove(ctx, rec); err != nil {
		return fmt.Errorf("delete account: %w", err)
	}
	return nil
}
