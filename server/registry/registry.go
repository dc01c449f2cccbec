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
	"github.com/visage-face/visage/sealed/follow"
)

// Config configures a Registry. All fields are required but Settings, Instance, Memory and Logger.
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
	// Users returns all resources that depend on keys in a store, by what the sealed store has at this moment.
	// unchanged reports in a transaction whether it has the same still.
	Users func(ctx context.Context, by visage.Caller, address string) (
		users []User, unchanged func(sealed.Reader) (bool, error), err error)
	// Asker returns the resource that asks for a key as an identity.
	Asker stores.AskerOf
	// Instance are the addresses of the stores of the settings that protect the root key. Optional.
	Instance []string
	// Identity returns the identity of a resource. Refusals: ResourceNotFound; IdentityRequired if it has none.
	Identity func(ctx context.Context, resource string) (visage.PrincipalID, error)
	// Calls has how the stores have answered.
	Calls *Calls
	// Memory is what the process remembers of stores. Default: the registry has one of its own.
	Memory *stores.Memory
	// Logger gets the stores that cannot be used. Default: discard.
	Logger *slog.Logger
}

// User is a resource that depends on a key in a store.
type User struct {
	Name string // empty: the caller may not see it
	Path string // its management path; empty: another process has just made it
	// Unreadable says that what is stored of its keys is damaged, so that it may depend on a key in any store.
	Unreadable bool
}

// Registry is the list of key stores. It is safe for concurrent use.
type Registry struct {
	cfg   Config
	set   *stores.Set
	tries *stores.Connections
	own   func(audience string) bool // set by Admit

	changes sync.Mutex // held during a change, with its writing
	stored  *follow.Value[map[string]record]

	mu     sync.Mutex // guards the fields below; taken after changes, and within stored.Now, which adopts
	added  map[string]*added
	latest map[string]record // the newest value of stored
	ready  bool              // Admit has been called
	// unusable are the stores of the settings that cannot be used, by address
	unusable map[string]unusable
}

// unusable is a store of the settings that cannot be used.
type unusable struct {
	store stores.Store
	fault string
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
	// Fault says why a store cannot be used at present, as a sentence without its full stop; empty: it can.
	Fault string
	// Unnamed says that the store cannot tell resources apart, and that its description does not list those that may
	// use it: only keys that are in use already can be used.
	Unnamed bool
	// Last is how the store has answered last; its time is zero if it was not asked since the start.
	Last Answer
}

// IDOf returns the ID of the store at an address in its one spelling.
func IDOf(address string) string {
	sum := sha256.Sum256([]byte(address))
	return hex.EncodeToString(sum[:8])
}

// Open reads the list. The stores of the settings can be used then, the others after Admit. A mistake in a description
// of the settings is an error; a store whose files cannot be used is shown with its fault, since others can do without
// it.
func Open(ctx context.Context, cfg Config) (*Registry, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	set, err := stores.NewSet(nil, cfg.Logger, cfg.Memory)
	if err != nil {
		return nil, err
	}
	r := &Registry{cfg: cfg, set: set, added: map[string]*added{}, tries: set.Connect(cfg.Assert, cfg.Asker),
		unusable: map[string]unusable{}}
	if err := r.addSettings(); err != nil {
		return nil, err
	}
	r.stored = follow.New(follow.Config[map[string]record]{Store: cfg.Store, Name: "key stores", Read: readAll,
		Swapped: r.adopt, Logger: cfg.Logger})
	if err := r.stored.Load(ctx); err != nil {
		return nil, fmt.Errorf("read the list of key stores: %w", err)
	}
	for address, rec := range r.stored.Now() {
		r.added[address] = &added{rec, "the service is starting"}
	}
	for _, s := range set.All() {
		r.warnUnnamed(s)
	}
	return r, nil
}

// addSettings adds the stores of the settings.
func (r *Registry) addSettings() error {
	for _, s := range r.cfg.Settings {
		if err := s.Check(); err != nil {
			return err
		}
		address, err := stores.AddressOf(s.Address)
		if err != nil {
			return err
		}
		_, before := r.unusable[address]
		if before || r.set.Require(visage.KeyRef{Vault: address}) == nil {
			return fmt.Errorf("the key store %s is configured twice", address)
		}
		if _, err := r.set.Add(s, nil); err != nil {
			s.Address = address
			r.set.Reserve(s)
			r.unusable[address] = unusable{s, err.Error()}
			r.cfg.Logger.Error("a key store of the settings cannot be used: resources with a key in it go on within "+
				"their grace only; it is tried again", "store", address, "every", retryEvery, "err", err)
		}
	}
	return nil
}

// isUnnamed reports whether a description does not say which resources may use a store, though it must.
func (r *Registry) isUnnamed(s stores.Store) bool {
	return s.RequireResources() != nil && !slices.Contains(r.cfg.Instance, s.Address)
}

func (r *Registry) warnUnnamed(s stores.Store) {
	if r.isUnnamed(s) {
		r.cfg.Logger.Warn("all resources log in to a key store alike, and its description has no field \"resources\" "+
			"that lists those that may use it: only keys that are in use already can be used", "store", s.Address)
	}
}

func readAll(from sealed.Reader) (map[string]record, error) {
	all := map[string]record{}
	for rec, err := range records.In().All(from) {
		if err != nil {
			return nil, err
		}
		all[rec.Store.Address] = rec
	}
	return all, nil
}

// Run follows the additions and removals of other processes that share the store, until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	var retrying sync.WaitGroup
	retrying.Go(func() { r.retry(ctx) })
	follow.Run(ctx, r.cfg.Logger, r.stored)
	retrying.Wait()
	return nil
}

// retryEvery is how often a store that cannot be used is tried again: a file that it lacks may be there now.
const retryEvery = 30 * time.Second

// retry brings stores into use that can be used now, until ctx ends.
func (r *Registry) retry(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryEvery):
		}
		r.mu.Lock()
		for address, u := range r.unusable {
			if _, err := r.set.Add(u.store, r.own); err == nil {
				delete(r.unusable, address)
				r.cfg.Logger.Info("a key store can be used now", "store", address)
			}
		}
		for address, a := range r.added {
			if a.fault != "" && r.use(a.Store) == nil {
				a.fault = ""
				r.cfg.Logger.Info("a key store can be used now", "store", address)
			}
		}
		r.mu.Unlock()
	}
}

// adopt brings what is used to what is stored.
func (r *Registry) adopt(all map[string]record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latest = all
	r.adoptLocked()
}

// adoptLocked brings what is used to the newest list, from Admit on. mu is held.
func (r *Registry) adoptLocked() {
	if !r.ready {
		return
	}
	for address, a := range r.added {
		if rec, still := r.latest[address]; !still || rec.Added != a.Added {
			if a.fault == "" {
				r.set.Remove(address)
			} else { // at its address in the set is none, or that of the settings
				r.releaseLocked(address)
			}
			delete(r.added, address)
		}
	}
	for address, rec := range r.latest {
		switch a := r.added[address]; {
		case a == nil:
			r.added[address] = r.admitLocked(rec)
		case !a.Store.Equal(rec.Store):
			r.changeLocked(a, rec)
		}
	}
}

// changeLocked brings the changed description of an added store into use. mu is held.
func (r *Registry) changeLocked(a *added, rec record) {
	before := a.Store
	a.record = rec
	if a.fault != "" { // at its address in the set is none, or that of the settings
		r.releaseLocked(rec.Store.Address)
		*a = *r.admitLocked(rec)
		return
	}
	if before.Resources = rec.Store.Resources; before.Equal(rec.Store) {
		r.set.SetResources(rec.Store.Address, rec.Store.Resources)
		return
	}
	err := rec.Store.FilesIn(r.cfg.Files)
	if err == nil {
		err = r.set.Change(rec.Store, r.own)
	}
	if err != nil {
		r.set.Remove(rec.Store.Address)
		r.faultLocked(a, err)
	}
}

// releaseLocked ends the reservation of an added store, and leaves that of the settings at its address. mu is held.
func (r *Registry) releaseLocked(address string) {
	r.set.Release(address)
	if u, of := r.unusable[address]; of {
		r.set.Reserve(u.store)
	}
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
	r.stored.Now() // so that latest is no older than a second; it may adopt, which takes mu
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready = true
	clear(r.added)
	for _, address := range slices.Sorted(maps.Keys(r.latest)) {
		r.added[address] = r.admitLocked(r.latest[address])
	}
	return nil
}

// admitLocked brings a stored store into use. mu is held.
func (r *Registry) admitLocked(rec record) *added {
	a := &added{record: rec}
	r.warnUnnamed(rec.Store)
	if err := r.use(rec.Store); err != nil {
		r.faultLocked(a, err)
	}
	return a
}

// faultLocked notes that an added store cannot be used. mu is held.
func (r *Registry) faultLocked(a *added, err error) {
	if _, ofSettings := r.unusable[a.Store.Address]; !ofSettings {
		r.set.Reserve(a.Store)
	}
	a.fault = err.Error()
	r.cfg.Logger.Warn("a key store that was added cannot be used: resources with a key in it go on within their "+
		"grace only", "store", a.Store.Address, "err", err)
}

// use brings an added store into use. mu is held.
func (r *Registry) use(s stores.Store) error {
	err := s.FilesIn(r.cfg.Files)
	if _, ofSettings := r.unusable[s.Address]; ofSettings {
		err = fmt.Errorf("the key store %s is configured twice", s.Address)
	}
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
	for address, u := range r.unusable {
		all[address] = Entry{ID: IDOf(address), Store: u.store, Origin: FromSettings, Fault: u.fault}
	}
	for address, e := range all {
		e.Last, _ = r.cfg.Calls.Last(address)
		e.Unnamed = r.isUnnamed(e.Store)
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
	return Entry{}, refuseMissing(id)
}

func refuseMissing(id string) error {
	return visage.Refuse(visage.NotFound, "KeyStoreNotFound", "There is no key store with the id %q.", id)
}

// Kept returns what refuses a key in a store that was removed, or that the asking resource may not use, by what a
// transaction sees. Stores outside the list are not its concern. Refusals: InvalidKeyVaultProperties,
// KeyStoreNotPermitted.
func (r *Registry) Kept(key visage.KeyRef, as visage.PrincipalID) func(sealed.Reader) error {
	asker := r.cfg.Asker(key, as)
	return func(tx sealed.Reader) error {
		rec, err := records.In().Get(tx, key.Vault)
		switch {
		case err == nil:
			return rec.Store.Permit(asker)
		case !errors.Is(err, sealed.ErrNotFound):
			return fmt.Errorf("read the list of key stores: %w", err)
		}
		r.mu.Lock()
		wasAdded := r.added[key.Vault] != nil
		r.mu.Unlock()
		if wasAdded || key.Scheme() != "https" && r.set.Require(key) != nil {
			return stores.NotConfigured(key)
		}
		return nil
	}
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

// recorded records what an operator did to the list, and returns its error.
func (r *Registry) recorded(ctx context.Context, by visage.Caller, operation, address string, err error) error {
	e := audit.Event{Kind: audit.OperatorAction, Actor: audit.ActorOf(by), RequestID: by.RequestID}
	e.Set(audit.DetailOperation, operation)
	e.Set(audit.DetailVault, address)
	return audit.Answer(ctx, r.cfg.Audit, err, e.Ended(err))
}

// Current makes sure that the key stores known here are not older than a second: see follow.Value.
func (r *Registry) Current(ctx context.Context) error { return follow.Current(ctx, r.stored) }
