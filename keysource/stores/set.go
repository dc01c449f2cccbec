package stores

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
)

// Set is the configured stores. It is safe for concurrent use.
type Set struct {
	log    *slog.Logger
	memory *Memory

	mu  sync.RWMutex
	all map[string]*Store // by address, in its one spelling
	// those that cannot be used now, and whose audiences nobody else may have meanwhile
	faulty  map[string]Store
	removed int // how many were removed or changed, so that connections know of it
}

// NewSet checks descriptions of stores and reads their certificates. The log gets what the helpers of stores write;
// nil: it is discarded. memory is that of the process; nil: the set has one of its own.
func NewSet(stores []Store, log *slog.Logger, memory *Memory) (*Set, error) {
	if memory == nil {
		memory = &Memory{}
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	set := &Set{log: log, memory: memory, all: map[string]*Store{}, faulty: map[string]Store{}}
	for _, store := range stores {
		if _, err := set.Add(store, nil); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// Add checks a description, reads its certificates and adds the store, which can be used at once. It returns the
// complete description. own, if it is not nil, is that of CheckAudiences, which holds for the set with the store.
func (s *Set) Add(store Store, own func(audience string) bool) (Store, error) {
	if err := store.open(s.log, s.memory); err != nil {
		return Store{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[store.Address] != nil {
		return Store{}, fmt.Errorf("the key store %s is configured twice", store.Address)
	}
	s.all[store.Address] = &store
	if own != nil {
		if err := s.checkAudiencesLocked(own); err != nil {
			delete(s.all, store.Address)
			return Store{}, err
		}
	}
	delete(s.faulty, store.Address)
	return store, nil
}

// CheckChange refuses what Change would.
func (s *Set) CheckChange(store Store, own func(audience string) bool) error {
	_, err := s.change(store, own, false)
	return err
}

// Change puts another description in the place of that with the same address, which is in the set or was reserved. The
// store is reached over new connections from the next call on, also by sources that are open. It does what Add does.
func (s *Set) Change(store Store, own func(audience string) bool) error {
	before, err := s.change(store, own, true)
	if before != nil && before.process != nil {
		before.process.Close()
	}
	return err
}

// change returns the description that another one has replaced; nil: none.
func (s *Set) change(store Store, own func(audience string) bool, stays bool) (*Store, error) {
	if err := store.open(s.log, s.memory); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before, was := s.all[store.Address]
	faulty, reserved := s.faulty[store.Address]
	s.all[store.Address] = &store
	delete(s.faulty, store.Address)
	var err error
	if own != nil {
		err = s.checkAudiencesLocked(own)
	}
	if err == nil && stays {
		s.removed++
		return before, nil
	}
	if delete(s.all, store.Address); was {
		s.all[store.Address] = before
	}
	if reserved {
		s.faulty[store.Address] = faulty
	}
	return nil, err
}

// Reserve notes a store that cannot be used now, such as one whose files are missing, until it is added or removed. It
// keeps its audience: the tokens for it must be of no use in a store that is added meanwhile.
func (s *Set) Reserve(store Store) {
	if k, known := kindOf(store.Address); known {
		store.kind = k
		store.completeAudience()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faulty[store.Address] = store
}

// Release ends what Reserve did, and leaves a store that can be used.
func (s *Set) Release(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.faulty, address)
}

// Remove removes a store, by its address in its one spelling, and ends its helper. Connections of the set open no key
// in it any more.
func (s *Set) Remove(address string) {
	s.mu.Lock()
	store := s.all[address]
	delete(s.all, address)
	delete(s.faulty, address)
	s.removed++
	s.mu.Unlock()
	if store != nil && store.process != nil {
		store.process.Close()
	}
}

// Close ends the helpers of the stores, which are started when they are needed. Connections of the set are of no use
// from then on.
func (s *Set) Close() {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, store := range s.all {
		if store.process != nil {
			store.process.Close()
		}
	}
}

// All returns the stores, complete, in the order of their addresses.
func (s *Set) All() []Store {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]Store, 0, len(s.all))
	for _, address := range slices.Sorted(maps.Keys(s.all)) {
		all = append(all, *s.all[address])
	}
	return all
}

// store returns the configured store that a key is in; nil: there is none. If the file with the authorities of its
// certificate has changed, that is read again.
func (s *Set) store(key visage.KeyRef) *Store {
	now := s.at(key.Vault)
	if now == nil || now.ca == nil {
		return now
	}
	now.ca.Renew(func() error { return s.renew(now) })
	return s.at(key.Vault)
}

// at returns the configured store at an address; nil: there is none.
func (s *Set) at(address string) *Store {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.all[address]
}

// errReplaced says that a store got another description while its authorities were read.
var errReplaced = errors.New("its description has changed meanwhile")

// renew opens a store again whose authorities have changed, in the place of what it was. What cannot be read leaves the
// former ones.
func (s *Set) renew(now *Store) error {
	next := *now
	if err := next.open(s.log, s.memory); err != nil {
		s.log.Warn("the authorities of a key store were not read again; the former ones stay", "store", now.Address,
			"err", err)
		return err
	}
	s.mu.Lock()
	current := s.all[now.Address]
	if current == now {
		s.all[now.Address] = &next
		s.removed++
	}
	s.mu.Unlock()
	if current != now { // it may have the former authorities, and is renewed by itself then
		return errReplaced
	}
	s.log.Info("the authorities of a key store were read again", "store", now.Address)
	if now.process != nil {
		now.process.Close()
	}
	return nil
}

// removals returns how many stores were removed or changed.
func (s *Set) removals() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.removed
}

// Require refuses a key that is in no configured store.
func (s *Set) Require(key visage.KeyRef) error {
	if s.store(key) == nil {
		return s.missing(key)
	}
	return nil
}

// Describes reports whether a key is in a store that the operator has configured, also if that cannot be used now: no
// other way to the key may be taken then.
func (s *Set) Describes(key visage.KeyRef) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, faulty := s.faulty[key.Vault]
	return s.all[key.Vault] != nil || faulty
}

// missing is the refusal of a key whose store is not in the set.
func (s *Set) missing(key visage.KeyRef) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if _, faulty := s.faulty[key.Vault]; faulty {
		return visage.Refuse(visage.Conflict, "KeyStoreNotUsable", "The key store %s cannot be used at present. The "+
			"operator finds the reason in the list of key stores.", key.Vault)
	}
	return NotConfigured(key)
}

// NotConfigured is the refusal of a key that is in no configured store.
func NotConfigured(key visage.KeyRef) error {
	return visage.Refuse(visage.Invalid, "InvalidKeyVaultProperties",
		"This instance cannot use the key store %s: the operator has not configured it.", key.Vault)
}

// CheckAudiences refuses audiences of the tokens that prove identities to the stores if the operator of a store could
// use the tokens elsewhere: in this instance, whose audiences own knows, or in a store on another host.
func (s *Set) CheckAudiences(own func(audience string) bool) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.checkAudiencesLocked(own)
}

func (s *Set) checkAudiencesLocked(own func(audience string) bool) error {
	hosts := map[string]string{}
	for _, store := range s.faulty {
		if !store.Federates() {
			continue
		}
		hosts[oneAudience(store.Login.Audience)] = store.kind.host(store)
	}
	for _, address := range slices.Sorted(maps.Keys(s.all)) {
		store := s.all[address]
		if !store.Federates() {
			continue
		}
		host := store.kind.host(*store)
		if own(strings.TrimSuffix(strings.ToLower(store.Login.Audience), "/")) {
			return fmt.Errorf("key store %s: the audience %q is one of this instance: choose another", address,
				store.Login.Audience)
		}
		audience := oneAudience(store.Login.Audience)
		if other, taken := hosts[audience]; taken && other != host {
			return fmt.Errorf("key store %s: the audience %q is also that of a store on %s: give each its own", address,
				store.Login.Audience, other)
		}
		hosts[audience] = host
	}
	return nil
}

// oneAudience is the one spelling of an audience. Google takes the name of a provider with https: and without.
func oneAudience(audience string) string {
	return strings.TrimPrefix(strings.TrimSuffix(strings.ToLower(audience), "/"), "https:")
}

// Connect returns connections to the stores for resources, which are made when they are needed.
func (s *Set) Connect(assert Assert, asker AskerOf) *Connections {
	return &Connections{set: s, assert: assert, asker: asker, made: map[*Store]opener{}}
}

// Connections are connections to the stores of a set. They are safe for concurrent use.
type Connections struct {
	set    *Set
	assert Assert
	asker  AskerOf

	mu      sync.Mutex
	made    map[*Store]opener
	removed int // of set, when made was last compared with it
}

// Open opens a key as an identity. A *visage.Refusal says that this instance cannot open it, or that the identity's
// resource may not use the store; keysource.ErrDenied, that the identity is gone. Open calls no store.
func (c *Connections) Open(key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
	admit := func() error { return c.admit(key, as) }
	if err := admit(); err != nil {
		return nil, err
	}
	src, err := c.open(key, as)
	if err != nil {
		return nil, err
	}
	return Guard(src, admit), nil
}

// open is Open without the question whether the identity's resource may use the store.
func (c *Connections) open(key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
	f := &following{connections: c, key: key, as: as}
	if _, err := f.now(); err != nil {
		return nil, err
	}
	return f, nil
}

// following is a source over a key that is opened again when the description of its store has changed.
type following struct {
	connections *Connections
	key         visage.KeyRef
	as          visage.PrincipalID

	mu  sync.Mutex // guards the fields below
	of  *Store
	src keysource.Source // over of
}

// now returns the source over the store as it is described now.
func (f *following) now() (keysource.Source, error) {
	store := f.connections.set.store(f.key)
	if store == nil {
		return nil, f.connections.set.missing(f.key)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of == store {
		return f.src, nil
	}
	src, err := f.connections.to(store)(f.key, f.as)
	if err != nil {
		return nil, visage.Refuse(visage.Invalid, "InvalidKeyVaultProperties", "The key %s cannot be used: %v.", f.key,
			err)
	}
	f.of, f.src = store, src
	return src, nil
}

// Wrap implements keysource.Source.
func (f *following) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	src, err := f.now()
	if err != nil {
		return nil, keysource.Ref{}, err
	}
	return src.Wrap(ctx, inner)
}

// Unwrap implements keysource.Source.
func (f *following) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	src, err := f.now()
	if err != nil {
		return nil, err
	}
	return src.Unwrap(ctx, ref, blob)
}

// Describe implements keysource.Source.
func (f *following) Describe(ctx context.Context, ref keysource.Ref) (keysource.Description, error) {
	src, err := f.now()
	if err != nil {
		return keysource.Description{}, err
	}
	return src.Describe(ctx, ref)
}

// to returns what opens keys of a store. It forgets the connections to stores that were removed or changed.
func (c *Connections) to(store *Store) opener {
	removed := c.set.removals()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed != removed {
		c.removed = removed
		maps.DeleteFunc(c.made, func(made *Store, _ opener) bool {
			return c.set.at(made.Address) != made
		})
	}
	open := c.made[store]
	if open == nil {
		open = store.kind.connect(*store, c.assert)
		c.made[store] = open
	}
	return open
}
