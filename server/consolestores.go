package server

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/console"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/server/registry"
)

// consoleStores implements console.KeyStores.
type consoleStores struct{ managedStores }

// methodField is the field of a description with the method of login.
const methodField = "login.method"

// Kinds implements console.KeyStores: it has the kinds that a form can describe.
func (consoleStores) Kinds() []console.KeyStoreKind {
	var all []console.KeyStoreKind
	for _, k := range stores.Kinds() {
		if len(k.Methods) == 0 { // a form could not offer its logins
			continue
		}
		told := console.KeyStoreKind{Scheme: k.Scheme, About: k.About}
		var used []string
		for _, m := range k.Methods {
			told.Methods = append(told.Methods, m.Name)
			used = slices.Concat(used, m.Needs, m.May)
		}
		for _, field := range stores.Fields() {
			name, ofLogin := strings.CutPrefix(field, "login.")
			if field != methodField && (!ofLogin || slices.Contains(used, name)) {
				told.Fields = append(told.Fields, field)
			}
		}
		all = append(all, told)
	}
	return all
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
	return console.KeyStore{
		ID: e.ID, Address: e.Store.Address, Kind: stores.KindAt(e.Store.Address), Login: e.Store.Login.Method,
		Settings: e.Origin == registry.FromSettings, Added: e.Added, Fault: e.Fault, Fields: e.Store.Values(),
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
