package server

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server/registry"
)

// keyStoresDir is the folder of the files that stores may name which are added while the server runs.
func (c Config) keyStoresDir() string {
	return cmp.Or(c.keyStoreFiles, filepath.Join(c.Dir, keyStoresFolder))
}

// keyStoreKinds are the kinds of stores, as metrics name them.
func keyStoreKinds() []string {
	all := []string{ownVaultKind, azureKind}
	for _, k := range stores.Kinds() {
		if k.Scheme != "https" {
			all = append(all, k.Scheme)
		}
	}
	return all
}

// newCalls makes the record of calls to all kinds of stores.
func newCalls() *registry.Calls { return registry.NewCalls(keyStoreKinds()...) }

// openRegistry opens the list of key stores. It may use rooms of l that are opened later.
func (s *Server) openRegistry(ctx context.Context, l *layers, assert stores.Assert) (*registry.Registry, error) {
	all := s.cfg.KeyStores
	if s.cfg.KeyStoresFile != "" {
		read, err := stores.Read(s.cfg.KeyStoresFile)
		if err != nil {
			return nil, err
		}
		all = slices.Concat(all, read)
	}
	return registry.Open(ctx, registry.Config{
		Store: l.store, Settings: all, Files: s.cfg.keyStoresDir(), Audit: l.audit, Assert: assert, Calls: s.calls,
		Memory: s.cfg.keyStoreMemory, Logger: s.log,
		Uses: func(ctx context.Context, by visage.Caller, address string) (names []string, others int, err error) {
			found, err := l.accounts.ProtectedBy(ctx, by, visage.KeyRef{Vault: address}, "")
			for _, r := range found.Resources {
				if !slices.Contains(names, r.Name) {
					names = append(names, r.Name)
				}
			}
			return names, found.Others, err
		},
		Users: func(ctx context.Context, by visage.Caller, address string) (
			users []registry.User, unchanged func(sealed.Reader) (bool, error), err error,
		) {
			all, unchanged, err := l.accounts.DependentOn(ctx, by, visage.KeyRef{Vault: address})
			for _, d := range all {
				u := registry.User{Unreadable: d.Unreadable}
				if d.Account.Name != "" {
					u.Path = l.instance.accountPath(d.Account)
				}
				if d.Visible {
					u.Name = d.Account.Name
				}
				users = append(users, u)
			}
			return users, unchanged, err
		},
		Asker: l.asker, Instance: s.cfg.rootAddresses(),
		Identity: func(ctx context.Context, resource string) (visage.PrincipalID, error) {
			of, err := l.accounts.Get(ctx, resource)
			if err != nil {
				return "", err
			}
			if of.Identity.System.PrincipalID == "" {
				return "", visage.Refuse(visage.Conflict, "IdentityRequired", "The resource %q has no "+
					"system-assigned identity: switch it on.", of.Name)
			}
			return visage.PrincipalID(of.Identity.System.PrincipalID), nil
		},
	})
}

// asker returns the resource that asks for a key as an identity.
func (l *layers) asker(key visage.KeyRef, as visage.PrincipalID) stores.Asker {
	p, err := l.identities.Principal(string(as))
	if err != nil {
		return stores.Asker{}
	}
	name := p.Resource[strings.LastIndexByte(p.Resource, '/')+1:]
	of, err := l.accounts.Get(context.Background(), name)
	if err != nil {
		of, err = l.accounts.GetDeleted(context.Background(), name) // that is being recovered
	}
	its := err == nil && strings.EqualFold(l.instance.accountPath(of), p.Resource)
	return stores.Asker{Path: p.Resource, Holds: func() bool {
		return its && l.custody.DependsOn(sealed.SpaceID(of.ID), key)
	}}
}

// managedStores implements armapi.KeyStores.
type managedStores struct {
	*registry.Registry
	azure *armwire.AzureApplication // nil: there is none
}

// List implements armapi.KeyStores.
func (m managedStores) List(ctx context.Context, by visage.Caller) (armwire.KeyStoreList, error) {
	all := armwire.KeyStoreList{Value: []armwire.KeyStore{}, AzureApplication: m.azure}
	for _, e := range m.All() {
		told, err := m.told(ctx, by, e)
		if err != nil {
			return armwire.KeyStoreList{}, err
		}
		all.Value = append(all.Value, told)
	}
	return all, nil
}

// Store implements armapi.KeyStores.
func (m managedStores) Store(ctx context.Context, by visage.Caller, id string) (armwire.KeyStore, error) {
	e, err := m.Find(id)
	if err != nil {
		return armwire.KeyStore{}, err
	}
	return m.told(ctx, by, e)
}

// AddStore implements armapi.KeyStores.
func (m managedStores) AddStore(ctx context.Context, by visage.Caller, description []byte) (armwire.KeyStore, error) {
	s, err := stores.Parse(description)
	if err != nil {
		return armwire.KeyStore{}, visage.Refuse(visage.Invalid, "InvalidKeyStore", "The body is no description of a "+
			"key store, as docs/operations/key-stores.md has it: %v.", err)
	}
	e, err := m.Add(ctx, by, s)
	if err != nil {
		return armwire.KeyStore{}, err
	}
	return m.told(ctx, by, e)
}

// ChangeStore implements armapi.KeyStores.
func (m managedStores) ChangeStore(
	ctx context.Context, by visage.Caller, id string, change armwire.KeyStoreChange,
) (armwire.KeyStore, error) {
	fields := map[string]string{}
	for name, value := range map[string]*string{
		"endpoint": change.Endpoint, "loginEndpoint": change.LoginEndpoint, "caFile": change.CAFile,
	} {
		if value != nil {
			fields[name] = *value
		}
	}
	for name, value := range change.Login {
		fields["login."+name] = value
	}
	if change.Resources != nil {
		fields[stores.ResourcesField] = strings.Join(change.Resources, ",")
	}
	e, err := m.Change(ctx, by, id, fields)
	if err != nil {
		return armwire.KeyStore{}, err
	}
	return m.told(ctx, by, e)
}

// RemoveStore implements armapi.KeyStores.
func (m managedStores) RemoveStore(ctx context.Context, by visage.Caller, id string) error {
	return m.Remove(ctx, by, id)
}

// TestStore implements armapi.KeyStores.
func (m managedStores) TestStore(
	ctx context.Context, by visage.Caller, id string, want armwire.KeyStoreTest,
) (armwire.KeyStoreTrial, error) {
	t, err := m.Try(ctx, by, id, registry.Trial{Resource: want.Resource, Key: want.Key})
	if err != nil {
		return armwire.KeyStoreTrial{}, err
	}
	told := armwire.KeyStoreTrial{Passed: t.Passed()}
	for _, f := range t.Findings {
		told.Steps = append(told.Steps, armwire.KeyStoreStep{
			Step: string(f.Step), State: trialState(f), Message: f.Says,
		})
	}
	if t.Asked > 0 {
		told.Milliseconds = milliseconds(t.Asked)
	}
	if d := t.Key; d != nil {
		told.Key = &armwire.KeyStoreKey{Version: d.Ref.Version, Type: d.KeyType, Algorithm: d.Algorithm, Bits: d.Bits,
			Enabled: d.Enabled, Unfit: unfit(*d)}
		if !d.Expires.IsZero() {
			told.Key.Expires = d.Expires.UTC().Format(time.RFC3339)
		}
	}
	return told, nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func trialState(f stores.Finding) string {
	switch {
	case f.Met:
		return "yes"
	case f.Known:
		return "no"
	}
	return "unknown"
}

// told describes a store with the resources that use it.
func (m managedStores) told(ctx context.Context, by visage.Caller, e registry.Entry) (armwire.KeyStore, error) {
	names, others, err := m.Uses(ctx, by, e)
	if err != nil {
		return armwire.KeyStore{}, err
	}
	description, err := json.Marshal(e.Store.Shown())
	if err != nil {
		return armwire.KeyStore{}, fmt.Errorf("encode the description of key store %s: %w", e.Store.Address, err)
	}
	told := armwire.KeyStore{
		ID: e.ID, Kind: stores.KindAt(e.Store.Address), Address: e.Store.Address, Origin: string(e.Origin),
		Fault: e.Fault, Description: description, Resources: names, OtherResources: others,
	}
	if !e.Last.At.IsZero() {
		told.LastAnswer = &armwire.KeyStoreAnswer{Class: e.Last.Class, At: e.Last.At.UTC().Format(time.RFC3339),
			Milliseconds: milliseconds(e.Last.Took)}
	}
	if !e.Added.IsZero() {
		told.Added = e.Added.UTC().Format(time.RFC3339)
	}
	if e.Unnamed {
		told.Warning = "all resources log in to it alike, and its description has no field \"resources\" that lists " +
			"those that may use it: only keys that are in use already can be used"
	}
	return told, nil
}
