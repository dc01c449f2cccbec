package server

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/console"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/server/registry"
)

// consoleStores implements console.KeyStores.
type consoleStores struct {
	managedStores

	dates func() []custody.KeyExpiry
}

// Kinds implements console.KeyStores.
func (consoleStores) Kinds() []console.KeyStoreKind {
	var all []console.KeyStoreKind
	for _, k := range stores.Kinds() {
		told := console.KeyStoreKind{Scheme: k.Scheme, About: k.About, Settings: k.Library}
		for _, m := range k.Methods {
			told.Methods = append(told.Methods, describedBy(k, m))
		}
		all = append(all, told)
	}
	return all
}

// describedBy is a method of login with the fields that a description has with it, in the order of stores.Fields.
func describedBy(k stores.Kind, m stores.Method) console.KeyStoreMethod {
	told := console.KeyStoreMethod{Name: m.Name}
	for _, field := range stores.Fields() {
		needs, may := k.Needs, k.May
		name, ofLogin := strings.CutPrefix(field, "login.")
		if ofLogin {
			needs, may = m.Needs, m.May
		}
		needed := slices.Contains(needs, name)
		ofAccess := field == stores.ResourcesField
		if needed || ofAccess && m.Alike {
			told.Needs = append(told.Needs, field)
		}
		if needed || ofAccess || slices.Contains(may, name) {
			told.Fields = append(told.Fields, field)
		}
	}
	return told
}

// Azure implements console.KeyStores.
func (c consoleStores) Azure() *console.AzureApplication {
	if c.azure == nil {
		return nil
	}
	return &console.AzureApplication{ClientID: c.azure.ClientID, Resources: c.azure.Resources}
}

// Stores implements console.KeyStores.
func (c consoleStores) Stores(ctx context.Context, by visage.Caller) ([]console.KeyStore, error) {
	var all []console.KeyStore
	for _, e := range c.All() {
		told, err := c.shown(ctx, by, e)
		if err != nil {
			return nil, err
		}
		all = append(all, told)
	}
	return all, nil
}

func (c consoleStores) shown(ctx context.Context, by visage.Caller, e registry.Entry) (console.KeyStore, error) {
	names, others, err := c.Uses(ctx, by, e)
	if err != nil {
		return console.KeyStore{}, err
	}
	var expires time.Time
	for _, key := range c.dates() {
		if key.Key.Vault == e.Store.Address && (expires.IsZero() || key.Ends.Before(expires)) {
			expires = key.Ends
		}
	}
	return console.KeyStore{
		Expires: expires,
		ID:      e.ID, Address: e.Store.Address, Kind: stores.KindAt(e.Store.Address), Login: e.Store.Login.Method,
		Settings: e.Origin == registry.FromSettings, Added: e.Added, Fault: e.Fault, Unnamed: e.Unnamed,
		Fields:    e.Store.Values(),
		Resources: names, Others: others, Answer: e.Last.Class, Answered: e.Last.At, Took: e.Last.Took,
	}, nil
}

// Add implements console.KeyStores.
func (c consoleStores) Add(
	ctx context.Context, by visage.Caller, address string, fields map[string]string,
) (console.KeyStore, error) {
	s, err := stores.Described(address, fields)
	if err != nil {
		return console.KeyStore{}, err // a form has no other fields
	}
	e, err := c.managedStores.Add(ctx, by, s)
	if err != nil {
		return console.KeyStore{}, err
	}
	return c.shown(ctx, by, e)
}

// Change implements console.KeyStores.
func (c consoleStores) Change(ctx context.Context, by visage.Caller, id string, fields map[string]string) error {
	_, err := c.managedStores.Change(ctx, by, id, fields)
	return err
}

// Try implements console.KeyStores.
func (c consoleStores) Try(
	ctx context.Context, by visage.Caller, id, resource, key string,
) (console.KeyStoreTrial, error) {
	t, err := c.managedStores.Try(ctx, by, id, registry.Trial{Resource: resource, Key: key})
	if err != nil {
		return console.KeyStoreTrial{}, err
	}
	told := console.KeyStoreTrial{Passed: t.Passed(), Took: t.Asked}
	for _, f := range t.Findings {
		told.Steps = append(told.Steps, console.KeyStoreStep{Name: string(f.Step), State: trialState(f), Says: f.Says})
	}
	if t.Key != nil {
		told.Key = fmt.Sprintf("%s, %s", cmp.Or(t.Key.KeyType, t.Key.Algorithm), cmp.Or(t.Key.Ref.Version, "-"))
		told.Unfit = unfit(*t.Key)
	}
	return told, nil
}

// unfit returns why a key may not protect a resource, as sentences.
func unfit(d keysource.Description) []string {
	all := []string{}
	for _, why := range d.Unfit {
		all = append(all, "The key "+why+".")
	}
	slices.Sort(all)
	return all
}
