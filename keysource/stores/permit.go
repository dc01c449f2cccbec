package stores

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
)

// This file says which resources may use a store. Where each resource logs in as itself, or has its identity in the
// names of its keys, the store tells resources apart. Where all log in alike, it cannot, and a resource could name the
// key of another: there the description must say which resources may use the store.

// Everybody in Store.Resources stands for all resources.
const Everybody = "*"

// Asker is the resource that an identity belongs to.
type Asker struct {
	Path string // its management path; empty: the identity belongs to no resource
	// Holds reports whether the key wraps the data key of the resource already, or a change under way has it do so;
	// nil: it does not.
	Holds func() bool
}

// AskerOf returns the resource that asks for a key as an identity. It calls no store.
type AskerOf func(key visage.KeyRef, as visage.PrincipalID) Asker

// resourcePath matches the management paths of a subscription, a resource group and a Face resource.
var resourcePath = regexp.MustCompile(`(?i)^/subscriptions/[0-9a-f-]{36}(/resourceGroups/[^/,*]+` +
	`(/providers/Microsoft\.CognitiveServices/accounts/[^/,*]+)?)?$`)

// CheckResources refuses entries of a list such as Store.Resources that name neither resources nor everybody. The list
// is called name in the settings or in the description.
func CheckResources(name string, all []string) error {
	for _, r := range all {
		if r == Everybody && len(all) > 1 {
			return fmt.Errorf("%s has %q, which stands for all resources, beside others: leave one or the "+
				"others out", name, Everybody)
		}
		if r != Everybody && !resourcePath.MatchString(r) {
			return fmt.Errorf("%s has management paths of subscriptions, resource groups or resources, such as "+
				"/subscriptions/ID/resourceGroups/NAME, or %q for all; got %.200q", name, Everybody, r)
		}
	}
	return nil
}

// TellsResources reports whether the store itself can tell which resource asks, by the login or by the name of the key.
func (s Store) TellsResources() bool {
	k, _ := kindOf(s.Address)
	return s.Federates() || k.helped != nil && (s.Login.Object == "" || strings.Contains(s.Login.Object, principalMark))
}

// RequireResources refuses a description that does not say which resources may use a store that cannot tell them apart.
func (s Store) RequireResources() error {
	if s.TellsResources() || len(s.Resources) > 0 {
		return nil
	}
	return fmt.Errorf("all resources log in to the store alike (%s), so that the key of one could be used for "+
		"another: list those that may use it in the field %q, by the management path of each or of its resource "+
		"group, or write %q there for all", s.Login.Method, ResourcesField, Everybody)
}

// permits reports whether a resource may use the store. A description from a time before Resources existed permits the
// keys that are in use.
func (s Store) permits(a Asker) bool {
	return len(s.Resources) == 0 && s.TellsResources() || a.Among(s.Resources)
}

// Among reports whether a resource is one of those that a list names which may use a key, where all log in alike. A
// list without entries names those that the key protects already.
func (a Asker) Among(resources []string) bool {
	if len(resources) == 0 {
		return a.Holds != nil && a.Holds()
	}
	return slices.ContainsFunc(resources, func(r string) bool { return r == Everybody || within(a.Path, r) })
}

// Exists refuses an identity that belongs to no resource any more: a store that cannot tell who asks would go on to
// answer.
func (a Asker) Exists() error {
	if a.Path != "" {
		return nil
	}
	return &keysource.Error{Class: keysource.ErrDenied, Reason: keysource.NoIdentity, Text: errNoIdentity.Error()}
}

// within reports whether a management path is another one or below it.
func within(path, of string) bool {
	path, of = strings.ToLower(path), strings.ToLower(of)
	return path == of || strings.HasPrefix(path, of+"/")
}

// Permit refuses a key to a resource that may not use the key's store. Refusals: InvalidKeyVaultProperties for a store
// that is not configured, KeyStoreNotPermitted.
func (s *Set) Permit(key visage.KeyRef, a Asker) error {
	store := s.store(key)
	if store == nil {
		return s.missing(key)
	}
	return store.Permit(a)
}

// Permit refuses a resource that may not use the store. Refusal: KeyStoreNotPermitted.
func (s Store) Permit(a Asker) error {
	if s.permits(a) {
		return nil
	}
	return visage.Refuse(visage.Invalid, "KeyStoreNotPermitted", "The resource %s may not use the key store %s: the "+
		"field \"resources\" in the description of the store does not list it. Ask the operator of this instance to "+
		"add it.", a.Path, s.Address)
}

// SetResources changes which resources may use a store, by its address in its one spelling, from the next call of the
// store on.
func (s *Set) SetResources(address string, resources []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.all[address]; now != nil {
		changed := *now
		changed.Resources = slices.Clone(resources)
		s.all[address] = &changed
		s.removed++ // connections are made anew
	}
}

// admit refuses a key to an identity whose resource may not use the key's store, or that belongs to no resource any
// more.
func (c *Connections) admit(key visage.KeyRef, as visage.PrincipalID) error {
	store := c.set.store(key)
	if store == nil {
		return c.set.missing(key)
	}
	if len(store.Resources) == 0 && store.Federates() {
		return nil
	}
	asker := c.asker(key, as)
	if err := asker.Exists(); err != nil {
		return err
	}
	return store.Permit(asker)
}

// Guard returns a source that is asked only while admit returns no error. Else each call returns that error.
func Guard(source keysource.Source, admit func() error) keysource.Source {
	return admitted{source, admit}
}

// admitted is what Guard returns.
type admitted struct {
	source keysource.Source
	admit  func() error
}

// Wrap implements keysource.Source.
func (a admitted) Wrap(ctx context.Context, inner []byte) (blob []byte, ref keysource.Ref, err error) {
	if err := a.admit(); err != nil {
		return nil, keysource.Ref{}, err
	}
	return a.source.Wrap(ctx, inner)
}

// Unwrap implements keysource.Source.
func (a admitted) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) (inner []byte, err error) {
	if err := a.admit(); err != nil {
		return nil, err
	}
	return a.source.Unwrap(ctx, ref, blob)
}

// Describe implements keysource.Source.
func (a admitted) Describe(ctx context.Context, ref keysource.Ref) (d keysource.Description, err error) {
	if err := a.admit(); err != nil {
		return d, err
	}
	return a.source.Describe(ctx, ref)
}

// OpenForInstance opens a key that protects the instance itself, which is no resource. object stands for the identity
// where the names of keys have one. It calls no store.
func (s *Set) OpenForInstance(key visage.KeyRef, object visage.PrincipalID) (keysource.Source, error) {
	return s.Connect(noIdentity, nil).open(key, object)
}

// noIdentity asserts no identity: the instance is not a resource.
func noIdentity(context.Context, visage.PrincipalID, string) (string, time.Time, error) {
	return "", time.Time{}, errors.New("the instance has no identity")
}
