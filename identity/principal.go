package identity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Kind says what an identity stands for.
type Kind string

// The kinds of identities.
const (
	// a program; it authenticates with a secret or a token of a trusted issuer
	Application    Kind = "Application"
	SystemAssigned Kind = "SystemAssigned" // one resource of ours, with which it lives and dies; it needs no secret
	UserAssigned   Kind = "UserAssigned"   // a resource of its own that others act as; it needs no secret
	Person         Kind = "Person"         // a human, who signs in to the console and gets no tokens
)

// Principal is an identity, without what proves it.
type Principal struct {
	ID       string // object id in the tenant, a lower-case UUID: what tokens, roles and access policies name
	ClientID string // a lower-case UUID: what an application calls itself at the token endpoint; of a person empty
	Tenant   string // a lower-case UUID
	Name     string // for people; need not be unique
	Kind     Kind
	Resource string // of a managed identity, the management path of its resource; else empty
	Secrets  []Secret
	Subjects []Subject
	Created  time.Time
	Email    string    // of a person; may be empty
	Language string    // of a person: "en", "fr", or empty for what the browser asks for
	Passkeys []Passkey // of a person, without their credentials
}

// Secret is what may be shown of an application's secret.
type Secret struct {
	ID      string // a UUID
	Created time.Time
	Expires time.Time // from then on it proves nothing
}

// Subject is an identity of a trusted issuer, or a group of them.
type Subject struct {
	Issuer string // Issuer.URL
	Name   string // the claim "sub", or one of the claim "groups", in the case it has
	// Group says that it is a group, whose members may sign in to the console; a group gets no tokens.
	Group bool `cbor:",omitempty"`
}

// principalRecord is an identity as it is stored, under its object id.
type principalRecord struct {
	ID       string
	ClientID string
	Tenant   string
	Name     string
	Kind     Kind
	Resource string
	Secrets  []secretRecord
	Subjects []Subject
	Created  int64 // nanoseconds since 1970, UTC
	// Of people. They are left out where they are empty, so that a program from before people reads the others.
	Email    string          `cbor:",omitempty"`
	Language string          `cbor:",omitempty"`
	Passkeys []passkeyRecord `cbor:",omitempty"`
}

var principals = sealed.NewTable[principalRecord]("identity/principal", 1)

func (r principalRecord) principal() Principal {
	p := Principal{
		ID: r.ID, ClientID: r.ClientID, Tenant: r.Tenant, Name: r.Name, Kind: r.Kind, Resource: r.Resource,
		Subjects: slices.Clone(r.Subjects), Created: time.Unix(0, r.Created).UTC(), Email: r.Email,
		Language: r.Language,
	}
	for _, k := range r.Passkeys {
		k.Credential = nil
		p.Passkeys = append(p.Passkeys, k.passkey())
	}
	for _, s := range r.Secrets {
		p.Secrets = append(p.Secrets, Secret{s.ID, time.Unix(0, s.Created).UTC(), time.Unix(0, s.Expires).UTC()})
	}
	return p
}

// maxName bounds the names of identities, in bytes.
const maxName = 120

// Creation is what a new application is made of.
type Creation struct {
	Tenant   string
	Name     string // 1 to 120 bytes
	ID       string // object id, a lower-case UUID; empty: a random one
	ClientID string // likewise
}

// CreateApplication makes an application. Refusals: InvalidPrincipal; Conflict when an id is taken.
func (d *Directory) CreateApplication(ctx context.Context, c Creation) (Principal, error) {
	for _, id := range []*string{&c.ID, &c.ClientID} {
		if *id == "" {
			*id = visage.NewUUID().String()
		}
	}
	if !visage.IsUUID(c.ID) || !visage.IsUUID(c.ClientID) || c.Name == "" || len(c.Name) > maxName {
		return Principal{}, visage.Refuse(visage.Invalid, "InvalidPrincipal",
			"An application needs a name of 1 to %d bytes, and ids that are lower-case UUIDs.", maxName)
	}
	if err := d.space.MayGrow(); err != nil {
		return Principal{}, fmt.Errorf("create identity: %w", err)
	}
	return d.create(ctx, principalRecord{
		ID: c.ID, ClientID: c.ClientID, Tenant: c.Tenant, Name: c.Name, Kind: Application,
	})
}

// EnsureManaged returns the managed identity of a resource, named by its management path in any case, and makes it when
// there is none. One that was deleted never comes back: a new one has another id, and nothing that the old one had.
// Refusal: InvalidPrincipal.
func (d *Directory) EnsureManaged(ctx context.Context, tenant, resource string, kind Kind) (Principal, error) {
	if kind != SystemAssigned && kind != UserAssigned || !strings.HasPrefix(resource, "/") {
		return Principal{}, visage.Refuse(visage.Invalid, "InvalidPrincipal",
			"A managed identity must be SystemAssigned or UserAssigned, and its resource must be a path.")
	}
	if p, found := d.Managed(resource); found {
		return p, nil
	}
	name := resource[strings.LastIndexByte(resource, '/')+1:]
	p, err := d.create(ctx, principalRecord{
		ID: visage.NewUUID().String(), ClientID: visage.NewUUID().String(),
		Tenant: tenant, Name: name, Kind: kind, Resource: resource,
	})
	if errors.Is(err, errManaged) { // another request was faster
		p, _ = d.Managed(resource)
		return p, nil
	}
	return p, err
}

// errManaged says that a resource has its managed identity already.
var errManaged = errors.New("the resource has a managed identity")

func (d *Directory) create(ctx context.Context, rec principalRecord) (Principal, error) {
	rec.Created = time.Now().UnixNano()
	about := change{Operation: principalMade, Subject: rec.ID, Scope: rec.Resource, After: string(rec.Kind)}
	if rec.Kind == Person {
		about.Operation = personMade
	}
	err := d.changeRights(ctx, about, func(tx sealed.Tx, tell func(change)) error {
		s := d.state.Now() // changes come one after the other
		if !s.tenants[rec.Tenant] {
			return visage.Refuse(visage.Invalid, "InvalidPrincipal", "There is no tenant %q.", rec.Tenant)
		}
		_, sameID := s.principals[rec.ID]
		if _, sameClient := s.clients[rec.ClientID]; sameID || sameClient {
			return visage.Refuse(visage.Conflict, "PrincipalAlreadyExists", "The application %s already exists.",
				rec.ClientID)
		}
		if _, taken := s.managed[lower(rec.Resource)]; taken {
			return errManaged
		}
		if s.emailTaken(rec) {
			return refuseEmail()
		}
		tell(about)
		return principals.In().Put(tx, rec.ID, rec)
	})
	if err != nil {
		return Principal{}, fmt.Errorf("create identity: %w", err)
	}
	return rec.principal(), nil
}

// Principal returns the identity with an object id. Refusal: PrincipalNotFound.
func (d *Directory) Principal(id string) (Principal, error) {
	rec, found := d.known(context.Background(), id)
	if !found {
		return Principal{}, refuseUnknown("identity", id)
	}
	return rec.principal(), nil
}

// LookupClient returns the identity with a client id.
func (d *Directory) LookupClient(clientID string) (Principal, bool) {
	rec, found := d.client(clientID)
	if !found && d.state.Missed(context.Background()) {
		rec, found = d.client(clientID)
	}
	return rec.principal(), found
}

// Managed returns the managed identity of a resource, named by its management path in any case.
func (d *Directory) Managed(resource string) (Principal, bool) {
	rec, found := d.managed(resource)
	if !found && d.state.Missed(context.Background()) {
		rec, found = d.managed(resource)
	}
	return rec.principal(), found
}

func (d *Directory) managed(resource string) (principalRecord, bool) {
	s := d.state.Now()
	rec, found := s.principals[s.managed[lower(resource)]]
	return rec, found
}

// Principals returns all identities, sorted by object id.
func (d *Directory) Principals() []Principal {
	s := d.state.Now()
	var all []Principal
	for _, id := range slices.Sorted(maps.Keys(s.principals)) {
		all = append(all, s.principals[id].principal())
	}
	return all
}

// Delete removes an identity with its roles. Its tokens, sessions, passkeys and one-time codes prove nothing from then
// on. Refusals: PrincipalNotFound; LastOwner if no other owner of the subscription can sign in; AuthorizationFailed for
// an operator where the caller is none.
func (d *Directory) Delete(ctx context.Context, id string) error {
	return d.DeleteIf(ctx, id, func(Principal) error { return nil })
}

// DeleteIf is Delete for an identity that allowed does not refuse to remove.
func (d *Directory) DeleteIf(ctx context.Context, id string, allowed func(Principal) error) error {
	id = lower(id)
	rec := d.state.Now().principals[id]
	about := change{Operation: principalEnded, Subject: id, Scope: rec.Resource, Before: string(rec.Kind)}
	if rec.Kind == Person {
		about.Operation = personEnded
	}
	operator := d.isForOperator(ctx)
	err := d.changeRights(ctx, about, func(tx sealed.Tx, tell func(change)) error {
		s := d.state.Now()
		rec, found := s.principals[id]
		if !found {
			return refuseUnknown("identity", id)
		}
		if err := cmp.Or(d.guard(operator, id), allowed(rec.principal())); err != nil {
			return err
		}
		for _, a := range s.roles[id] {
			if err := endRole(tx, tell, a); err != nil {
				return err
			}
		}
		tell(about)
		return principals.In().Delete(tx, id)
	})
	if err != nil {
		return fmt.Errorf("delete identity: %w", err)
	}
	// They prove nothing any more. What a crash leaves of them here is removed after the next start.
	ctx = visage.WithCaller(context.WithoutCancel(ctx), visage.Caller{})
	if err := d.sweep(ctx); err != nil {
		return fmt.Errorf("delete identity: end its sessions: %w", err)
	}
	return nil
}

// updatePrincipal changes a stored identity and records it as about, which fn completes. fn may run more than once. It
// refuses with AuthorizationFailed to change an operator for a caller who is none.
func (d *Directory) updatePrincipal(ctx context.Context, about change, fn func(*principalRecord, *change) error) error {
	id := lower(about.Subject)
	about.Subject = id
	operator := d.isForOperator(ctx)
	return d.changeRights(ctx, about, func(tx sealed.Tx, tell func(change)) error {
		if err := d.guard(operator, id); err != nil {
			return err
		}
		about := about
		return changePrincipal(tx, id, func(rec *principalRecord) error {
			if err := fn(rec, &about); err != nil {
				return err
			}
			tell(about)
			return nil
		})
	})
}

// changePrincipal changes a stored identity.
func changePrincipal(tx sealed.Tx, id string, fn func(*principalRecord) error) error {
	rec, err := principals.In().Get(tx, id)
	if errors.Is(err, sealed.ErrNotFound) {
		return refuseUnknown("identity", id)
	}
	if err != nil {
		return err
	}
	if err := fn(&rec); err != nil {
		return err
	}
	return principals.In().Put(tx, id, rec)
}

// SetSubjects says who, vouched for by trusted issuers, is an application or person in place of those that were before:
// subjects get tokens of an application, and subjects and groups may sign in to the console. Refusals:
// PrincipalNotFound; InvalidPrincipal for an issuer that is not trusted, and for the managed identity of a resource.
func (d *Directory) SetSubjects(ctx context.Context, id string, subjects []Subject) error {
	err := d.updatePrincipal(ctx, change{Operation: subjectsChanged, Subject: id, After: written(subjects)},
		func(rec *principalRecord, e *change) error {
			for _, s := range subjects {
				if !d.vouches(s.Issuer) || s.Name == "" {
					return visage.Refuse(visage.Invalid, "InvalidPrincipal",
						"The instance does not trust the issuer %q, or the subject is empty.",
						short(s.Issuer))
				}
			}
			if rec.Kind != Application && rec.Kind != Person {
				return visage.Refuse(visage.Invalid, "InvalidPrincipal", "The identity %s is neither an "+
					"application nor a person.", rec.ID)
			}
			e.Before = written(rec.Subjects)
			rec.Subjects = slices.Clone(subjects)
			return nil
		})
	if err != nil {
		return fmt.Errorf("set subjects: %w", err)
	}
	return nil
}

// written is a list of subjects as the audit log records it.
func written(subjects []Subject) string {
	all := make([]string, len(subjects))
	for i, s := range subjects {
		all[i] = s.Issuer + " " + s.Name
		if s.Group {
			all[i] = s.Issuer + " group " + s.Name
		}
	}
	return short(strings.Join(all, ","))
}

// lower is how ids and paths are compared, which clients write in any case.
func lower(s string) string { return strings.ToLower(s) }
