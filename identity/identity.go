// Package identity manages tenants, their applications, managed identities and people, the roles assigned to these, and
// the tokens, sessions, passkeys and one-time codes that authenticate them.
//
// What it stores lies in the operator's space, so that it can be read while a customer's key is revoked.
package identity

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/sealed/follow"
)

// Config is what a Directory is made of.
type Config struct {
	// Store keeps everything, in the operator's space. Required.
	Store *sealed.Store
	// Tenant is the id of the tenant there always is, a lower-case UUID; made when it is not there. Required.
	Tenant string
	// Issuer returns the name under which tokens of a tenant are issued: an address below that of the token service, of
	// the same scheme and host (contract §2.1). What it returns must not change while tokens live. Required.
	Issuer func(tenant string) string
	// AssertionIssuer is the name under which assertions for other services are issued, whatever the tenant: where the
	// issuer's documents are published that those services read, as CheckPublicIssuer accepts it. Tokens for this
	// instance are not affected. Default: Issuer's.
	AssertionIssuer string
	// Audience reports whether tokens may be issued for that audience. It is without a slash at its end and, if it is
	// an origin, as visage.Origin.String writes it. Required.
	Audience func(audience string) bool
	// Place returns what the scope of a role names at present, in the form that Assign stores. Refusals: NotFound if it
	// does not exist; Invalid if it cannot be a scope. It is called concurrently, for every authorisation, and never
	// within a transaction. Required.
	Place func(ctx context.Context, scope string) (Place, error)
	// Operator is the object id of the operator's application: it authenticates with the method "operator". Optional.
	Operator string
	// Audit records changes, and the tokens that were issued or refused. Default: nothing is recorded.
	Audit audit.Recorder
	// Trusted are the external issuers whose tokens an application may present instead of a secret. Default: none.
	Trusted []Issuer
	// SignIn are the addresses of the external issuers with which people sign in to the console. Default: those of
	// Trusted alone.
	SignIn []string
	// NewRSA makes a signing key of so many bits. Default: crypto/rsa does.
	NewRSA func(bits int) (*rsa.PrivateKey, error)
	// Logger gets the failures that are not returned to a caller. Default: discard.
	Logger *slog.Logger
}

// Directory is the tenants, identities, roles and signing keys of an instance. It is safe for concurrent use.
type Directory struct {
	cfg     Config
	space   *sealed.Space
	log     *slog.Logger
	trusted []*trusted

	changes sync.Mutex // held while this process changes stored data
	// What the store has, also of other processes: see follow.Value.
	state  *follow.Value[*state]
	keys   *follow.Value[[]signingKey] // the published ones, oldest first
	visits *follow.Value[visits]       // sessions and codes are these

	sessions   openSessions
	codes      openCodes
	assertions assertions
}

// Open reads the directory, and creates the tenant and the first signing key if they do not exist.
func Open(ctx context.Context, cfg Config) (*Directory, error) {
	if cfg.Store == nil || cfg.Issuer == nil || cfg.Audience == nil || cfg.Place == nil || !visage.IsUUID(cfg.Tenant) {
		return nil,
			errors.New(
				"open identities: store, issuer, audience, place and a tenant that is a lower-case UUID are required",
			)
	}
	if cfg.Audit == nil {
		cfg.Audit = audit.Discard{}
	}
	if cfg.NewRSA == nil {
		cfg.NewRSA = func(bits int) (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, bits) }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Directory{cfg: cfg, space: cfg.Store.Space(sealed.Operator), log: cfg.Logger}
	for i, issuer := range cfg.Trusted {
		if issuer.URL == "" || issuer.Audience == "" || issuer.Keys == nil {
			return nil, fmt.Errorf("open identities: trusted issuer %d needs an address, an audience and keys", i+1)
		}
		d.trusted = append(d.trusted, &trusted{Issuer: issuer, log: d.log})
	}
	d.state = follow.New(follow.Config[*state]{Store: cfg.Store, Name: "identities", Read: readState, Logger: d.log})
	d.keys = follow.New(follow.Config[[]signingKey]{Store: cfg.Store, Name: "signing keys", Read: readSigningKeys,
		Logger: d.log})
	d.visits = follow.New(follow.Config[visits]{Store: cfg.Store, Name: "sessions", Read: readVisits,
		Swapped: d.adopt, Logger: d.log})
	if err := d.load(ctx); err != nil {
		return nil, fmt.Errorf("open identities: %w", err)
	}
	return d, nil
}

// load reads what is stored, makes what there must be, and delivers what a crash has kept out of the audit log.
func (d *Directory) load(ctx context.Context) error {
	err := errors.Join(d.state.Load(ctx), d.keys.Load(ctx), d.visits.Load(ctx))
	if err == nil && !d.state.Now().tenants[d.cfg.Tenant] {
		err = d.update(ctx, func(tx sealed.Tx) error {
			return tenants.In().Put(tx, d.cfg.Tenant, tenantRecord{ID: d.cfg.Tenant})
		})
	}
	if err == nil && !d.cfg.Store.Shared() {
		err = d.dropSignInCodes(ctx)
	}
	if err == nil {
		err = d.deliver(ctx, "")
	}
	if err == nil {
		_, err = d.tend(ctx)
	}
	return err
}

// tenantRecord is a tenant as it is stored, under its id.
type tenantRecord struct {
	ID string
}

var tenants = sealed.NewTable[tenantRecord]("identity/tenant", 1)

// CreateTenant makes a further tenant and returns its id. Identities of one tenant get no tokens of another.
func (d *Directory) CreateTenant(ctx context.Context) (string, error) {
	id := visage.NewUUID().String()
	err := d.update(ctx, func(tx sealed.Tx) error { return tenants.In().Put(tx, id, tenantRecord{ID: id}) })
	if err != nil {
		return "", fmt.Errorf("create tenant: %w", err)
	}
	return id, nil
}

// LookupTenant returns the id of the tenant that a path of the token service names: by its id in any case or, for the
// tenant of Config.Tenant, by the name "adfs", which makes clients take an authority they do not know (contract §1).
func (d *Directory) LookupTenant(name string) (id string, found bool) {
	name = lower(name)
	if name == "adfs" {
		return d.cfg.Tenant, true
	}
	known := func() bool { return d.state.Now().tenants[name] }
	return name, known() || d.state.Missed(context.Background()) && known()
}

// update changes what the state is read from. Changes of identities and of rights go through changeRights.
func (d *Directory) update(ctx context.Context, fn func(sealed.Tx) error) error {
	d.changes.Lock()
	defer d.changes.Unlock()
	return d.state.Update(ctx, func(tx sealed.Tx, _ *state) error { return fn(tx) })
}

// state is what requests are answered from: one immutable value, replaced at every change.
type state struct {
	tenants    map[string]bool            // by id
	principals map[string]principalRecord // by object id
	clients    map[string]string          // object ids, by client id
	managed    map[string]string          // object ids, by the resource in lower case
	passkeys   map[string]string          // object ids, by the id of the passkey
	roles      map[string][]Assignment    // by object id
	byID       map[string]Assignment
}

func readState(r sealed.Reader) (*state, error) {
	s := &state{
		tenants: map[string]bool{}, principals: map[string]principalRecord{}, clients: map[string]string{},
		managed: map[string]string{}, passkeys: map[string]string{}, roles: map[string][]Assignment{},
		byID: map[string]Assignment{},
	}
	for t, err := range tenants.In().All(r) {
		if err != nil {
			return nil, err
		}
		s.tenants[t.ID] = true
	}
	for p, err := range principals.In().All(r) {
		if err != nil {
			return nil, err
		}
		s.principals[p.ID] = p
		if p.ClientID != "" {
			s.clients[p.ClientID] = p.ID
		}
		for _, k := range p.Passkeys {
			s.passkeys[string(k.ID)] = p.ID
		}
		if p.Resource != "" {
			s.managed[lower(p.Resource)] = p.ID
		}
	}
	for a, err := range assignments.In().All(r) {
		if err != nil {
			return nil, err
		}
		s.roles[a.Principal], s.byID[a.ID] = append(s.roles[a.Principal], a), a
	}
	return s, nil
}

func refuseUnknown(what, id string) error {
	return visage.Refuse(visage.NotFound, "PrincipalNotFound", "There is no %s %q.", what, id)
}
