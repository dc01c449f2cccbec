// Package registry is the list of key stores that resources may use: those that the settings name, and those that
// operators add and remove while the service runs.
package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/sealed"
)

// Config configures a Registry. All fields are required but Settings and Logger.
type Config struct {
	Store *sealed.Store
	// Settings are the stores that the settings name. They cannot be removed while the service runs.
	Settings []stores.Store
	// Files is the folder that has the files that stores may name which are added while the service runs.
	Files string
	Audit audit.Recorder
	// Assert proves the identity of a resource to a store, for trials.
	Assert stores.Assert
	// Uses returns the names of the resources that depend on keys in a store, of those that the caller may read, and
	// the number of the others.
	Uses func(ctx context.Context, by visage.Caller, address string) (names []string, others int, err error)
	// Identity returns the identity of a resource. Refusals: ResourceNotFound; IdentityRequired if it has none.
	Identity func(ctx context.Context, resource string) (visage.PrincipalID, error)
	// Calls has how the stores have answered.
	Calls *Calls
	// Logger gets the stores that cannot be used. Default: discard.
	Logger *slog.Logger
}

// Registry is the list of key stores. It is safe for concurrent use.
type Registry struct {
	cfg   Config
	set   *stores.Set
	tries *stores.Connections
	own   func(audience string) bool // set by Admit

	changes sync.Mutex // held during a change, with its writing
	mu      sync.Mutex // guards added; taken after changes
	added   map[string]*added
}

// added is a store that was added while the service ran.
type added struct {
	record
	fault string // why it cannot be used; empty: it is in the set
}

// record is an added store as it is stored, under its address.
type record struct {
	Store stores.Store
	Added int64 // nanoseconds since 1970, UTC
}

var records = sealed.NewTable[record]("server/keystore", 1)

// Origin says where the description of a store comes from.
type Origin string

// The origins.
const (
	FromSettings Origin = "settings"
	FromOperator Origin = "operator" // added while the service ran
)

// Entry is a key store of the list.
type Entry struct {
	ID     string // derived from the address, for paths
	Store  stores.Store
	Origin Origin
	Added  time.Time // zero for those of the settings
	// Fault says why an added store cannot be used at present, as a sentence without its full stop; empty: it can.
	Fault string
	// Last is how the store has answered last; its time is zero if it was not asked since the start.
	Last Answer
}

// IDOf returns the ID of the store at an address in its one spelling.
func IDOf(address string) string {
	sum := sha256.Sum256([]byte(address))
	return hex.EncodeToString(sum[:8])
}

// Open reads the list. The stores of the settings can be used then, the others after Admit.
func Open(ctx context.Context, cfg Config) (*Registry, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	set, err := stores.NewSet(cfg.Settings, cfg.Logger)
	if err != nil {
		return nil, err
	}
	r := &Registry{cfg: cfg, set: set, added: map[string]*added{}, tries: set.Connect(cfg.Assert)}
	err = cfg.Store.Space(sealed.Operator).View(ctx, func(from sealed.Reader) error {
		clear(r.added) // the function may run again
		for rec, err := range records.In().All(from) {
			if err != nil {
				return err
			}
			r.added[rec.Store.Address] = &added{rec, "the service is starting"}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the list of key stores: %w", err)
	}
	return r, nil
}

// Set returns the stores that can be used, which changes with the list.
func (r *Registry) Set() *stores.Set { return r.set }

// Admit checks the audiences of all stores against those of this instance, which own knows, and brings the added ones
// into use. A fault of an added store is logged, and shown in its Entry: the service starts without it, since its
// operator can mend it only then.
func (r *Registry) Admit(own func(audience string) bool) error {
	r.changes.Lock()
	defer r.changes.Unlock()
	if err := r.set.CheckAudiences(own); err != nil {
		return err
	}
	r.own = own
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, address := range slices.Sorted(maps.Keys(r.added)) {
		a := r.added[address]
		a.fault = ""
		if err := r.use(a.Store); err != nil {
			a.fault = err.Error()
			r.cfg.Logger.Warn("a key store that was added cannot be used: resources with a key in it go on within "+
				"their grace only", "store", address, "err", err)
		}
	}
	return nil
}

// use brings a store into use.
func (r *Registry) use(s stores.Store) error {
	err := s.FilesIn(r.cfg.Files)
	if err == nil {
		_, err = r.set.Add(s, r.own)
	}
	return err
}

// All returns the list, in the order of the addresses.
func (r *Registry) All() []Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[string]Entry{}
	for address, a := range r.added {
		all[address] = Entry{ID: IDOf(address), Store: a.Store, Origin: FromOperator, Added: time.Unix(0, a.Added),
			Fault: a.fault}
	}
	for _, s := range r.set.All() {
		if a := r.added[s.Address]; a == nil || a.fault != "" {
			all[s.Address] = Entry{ID: IDOf(s.Address), Store: s, Origin: FromSettings}
		}
	}
	for address, e := range all {
		e.Last, _ = r.cfg.Calls.Last(address)
		all[address] = e
	}
	return slices.SortedFunc(maps.Values(all), func(a, b Entry) int {
		return strings.Compare(a.Store.Address, b.Store.Address)
	})
}

// Find returns the store with an ID. Refusal: KeyStoreNotFound.
func (r *Registry) Find(id string) (Entry, error) {
	for _, e := range r.All() {
		if e.ID == strings.ToLower(id) {
			return e, nil
		}
	}
	return Entry{}, visage.Refuse(visage.NotFound, "KeyStoreNotFound", "There is no key store with the id %q.", id)
}

// Add adds a store, which resources may use at once. Refusals: InvalidKeyStore, KeyStoreExists.
func (r *Registry) Add(ctx context.Context, by visage.Caller, s stores.Store) (Entry, error) {
	r.changes.Lock()
	defer r.changes.Unlock()
	e, err := r.add(ctx, s)
	return e, r.recorded(ctx, by, "key-store-add", s.Address, err)
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
		return Entry{}, visage.Refuse(visage.Conflict, "KeyStoreExists", "The key store %s is configured already: "+
			"remove it first to change its description.", s.Address)
	}
	if err := s.FilesIn(r.cfg.Files); err != nil {
		return Entry{}, invalid(err)
	}
	complete, err := r.set.Add(s, r.own)
	if err != nil {
		return Entry{}, invalid(err)
	}
	rec := record{s, time.Now().UnixNano()}
	err = r.cfg.Store.Space(sealed.Operator).Update(ctx, func(tx sealed.Tx) error {
		return records.In().Put(tx, s.Address, rec)
	})
	if err != nil {
		r.set.Remove(s.Address)
		return Entry{}, fmt.Errorf("write the list of key stores: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.added[s.Address] = &added{rec, ""}
	return Entry{ID: IDOf(s.Address), Store: complete, Origin: FromOperator, Added: time.Unix(0, rec.Added)}, nil
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
	address := e.Store.Address
	if e.Origin == FromSettings {
		return visage.Refuse(visage.Conflict, "KeyStoreFromSettings", "The key store %s comes from the settings of "+
			"the service: remove it there, and restart the service.", address)
	}
	if err := r.requireUnused(ctx, by, address); err != nil {
		return err
	}
	// A resource may have begun to use it since; nothing can begin once it is out of the set.
	r.set.Remove(address)
	err := r.requireUnused(ctx, by, address)
	if err == nil {
		err = r.cfg.Store.Space(sealed.Operator).Update(ctx, func(tx sealed.Tx) error {
			return records.In().Delete(tx, address)
		})
	}
	if err != nil {
		if e.Fault == "" {
			err = errors.Join(err, r.use(e.Store))
		}
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.added, address)
	return nil
}

// requireUnused refuses to remove a store that resources depend on.
func (r *Registry) requireUnused(ctx context.Context, by visage.Caller, address string) error {
	names, others, err := r.cfg.Uses(ctx, by, address)
	if err != nil {
		return err
	}
	if others > 0 {
		names = append(names, fmt.Sprintf("%d that you may not see", others))
	}
	if len(names) == 0 {
		return nil
	}
	return visage.Refuse(visage.Conflict, "KeyStoreInUse", "The key store %s has keys of these resources, also "+
		"deleted ones that can be recovered: %s. Give them other keys first.", address, strings.Join(names, ", "))
}

// Uses returns the resources that depend on keys in a store: the names of those that the caller may read, and the
// number of the others.
func (r *Registry) Uses(ctx context.Context, by visage.Caller, e Entry) (names []string, others int, err error) {
	names, others, err = r.cfg.Uses(ctx, by, e.Store.Address)
	if names == nil {
		names = []string{}
	}
	return names, others, err
}

// Trial is what a trial asks.
type Trial struct {
	Resource string // as whose identity; empty where one application logs in for all resources
	Key      string // the name of the key that is described; empty: none
}

// Try connects to a store and, if the trial names a key, describes that as the identity of a resource. Nothing changes,
// though the store may log it. Refusals: KeyStoreNotFound, KeyStoreNotUsable, TrialIncomplete,
// InvalidKeyVaultProperties and those of Config.Identity.
func (r *Registry) Try(ctx context.Context, by visage.Caller, id string, trial Trial) (stores.Trial, error) {
	e, err := r.Find(id)
	var t stores.Trial
	if err == nil {
		t, err = r.try(ctx, e, trial)
	}
	return t, r.recorded(ctx, by, "key-store-test", e.Store.Address, err)
}

func (r *Registry) try(ctx context.Context, e Entry, trial Trial) (stores.Trial, error) {
	if e.Fault != "" {
		return stores.Trial{}, visage.Refuse(visage.Conflict, "KeyStoreNotUsable", "The key store %s cannot be used: "+
			"%s. Mend that and restart the service, or remove the store and add it again.", e.Store.Address, e.Fault)
	}
	key := visage.KeyRef{Vault: e.Store.Address}
	var as visage.PrincipalID
	if trial.Key != "" {
		var err error
		if key, err = stores.ParseKey(e.Store.Address, trial.Key, ""); err != nil {
			return stores.Trial{}, visage.Refuse(visage.Invalid, "InvalidKeyVaultProperties", "The name of the key "+
				"is not valid: %v.", err)
		}
		switch {
		case trial.Resource != "":
			if as, err = r.cfg.Identity(ctx, trial.Resource); err != nil {
				return stores.Trial{}, err
			}
		case e.Store.Federates():
			return stores.Trial{}, visage.Refuse(visage.Invalid, "TrialIncomplete", "Resources log in to the key "+
				"store %s as their own identities: name the resource whose identity is to be tried.", e.Store.Address)
		}
	}
	return r.tries.Try(ctx, key, as)
}

// recorded records what an operator did to the list, and returns its error.
func (r *Registry) recorded(ctx context.Context, by visage.Caller, operation, address string, err error) error {
	e := audit.Event{Kind: audit.OperatorAction, Actor: audit.ActorOf(by), RequestID: by.RequestID}
	e.Set(audit.DetailOperation, operation)
	e.Set(audit.DetailVault, address)
	return audit.Answer(ctx, r.cfg.Audit, err, e.Ended(err))
}
