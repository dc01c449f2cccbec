// Package account manages the Face resources: their tiers, their API keys and identities, their deletion and recovery,
// and the access requests for resources under customer-managed keys.
//
// What it stores lies in the operator's space, so that it can be read while a customer's key is revoked.
package account

import (
	"context"
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
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/sealed"
)

// Config is what Accounts are made of.
type Config struct {
	// Store keeps the accounts, and the spaces of their data. Required.
	Store *sealed.Store
	// Audit records every change of accounts and access requests. Default: nothing is recorded.
	Audit audit.Recorder
	// Identities creates the managed identities of accounts. Default: there are none.
	Identities Identities
	// Custody holds the keys of the accounts' data. Required.
	Custody *custody.Custody
	// ParseKey reads which key a customer means, in any spelling that its store knows. Without a name, address is the
	// whole identifier of the key. Required.
	ParseKey func(address, name, version string) (visage.KeyRef, error)
	// Vaults knows the vaults of this instance. Default: all vaults are elsewhere.
	Vaults Vaults
	// May reports whether the roles of a caller allow an action of the management plane on an account; the zero Account
	// is the subscription. It only decides what a caller is shown and offered. Default: callers may do nothing.
	May func(by visage.Caller, action string, on Account) bool
	// AutoApprove approves access requests for E0 accounts without the operator, as far as the capacity allows.
	// Default: the operator decides on every access request.
	AutoApprove bool
	// Logger gets the failures that are not returned to a caller. Default: discard.
	Logger *slog.Logger
}

// Account is a Face resource as its owner sees it, without its keys.
type Account struct {
	visage.Resource
	Group             string            // the resource group it belongs to
	Location          string            // as it was given at creation
	Tags              map[string]string // nil: none
	Subdomain         string            // never changes; empty: none was chosen
	LocalAuthDisabled bool              // its keys are refused; only tokens are accepted
	Identity          Identity
	Network           visage.NetworkRules // the addresses from which its data may be used
	// the web origins whose pages may use its data; each a scheme, a host and a port, or AnyOrigin
	Origins   []string
	Created   time.Time
	CreatedBy string // the object id of the creator; empty: the instance itself
	Changed   time.Time
	ChangedBy string    // likewise
	Revision  int64     // rises with every change, from 1
	Deleted   time.Time // zero: it is not
	PurgeAt   time.Time // when a deleted account is purged
}

// Host returns the first label of the account's own host name, in lower case: its subdomain, else its name if that can
// be a label. Empty: the account has no host of its own.
func (a Account) Host() string {
	if a.Subdomain != "" {
		return strings.ToLower(a.Subdomain)
	}
	if isLabel(a.Name) {
		return strings.ToLower(a.Name)
	}
	return ""
}

// Creation is what a new account is made of.
type Creation struct {
	Name      string // see CheckName; unique in the instance, whatever the case
	Group     string
	Location  string
	Tier      visage.Tier
	Tags      map[string]string
	Subdomain string // see CheckSubdomain; unique in the instance, whatever the case. Empty: none
	// LocalAuthDisabled creates an account that accepts tokens only.
	LocalAuthDisabled bool
	Network           visage.NetworkRules
	Origins           []string
	Identity          IdentitySpec
	Protection        *Protection // nil: the request does not mention it
}

// record is an account as it is stored, under its name in lower case. Times are nanoseconds since 1970, UTC.
type record struct {
	ID                string // a visage.ResourceID
	Name              string
	Group             string
	Location          string
	Tier              visage.Tier
	Tags              map[string]string
	Subdomain         string
	LocalAuthDisabled bool `cbor:"KeysRefused"` // stored under its first name
	Identity          Identity
	Network           visage.NetworkRules
	Origins           []string
	Protection        protected
	Request           string // id of the access request whose place it has; empty: none
	Keys              Keys
	State             state
	Created           int64
	CreatedBy         string
	Changed           int64
	ChangedBy         string
	Revision          int64
	Deleted           int64 // 0: it is not
	PurgeAt           int64
}

// state is the life cycle state of an account. It shows a creation or purge that a crash interrupted.
type state string

const (
	creating state = "creating" // its space may exist or not; the request was not answered
	ready    state = "ready"
	deleted  state = "deleted"  // it is out of service and can be recovered
	deleting state = "deleting" // it is purged for clients; its space may still exist
)

var records = sealed.NewTable[record]("account", 1)

// Accounts are the Face resources of an instance. It is safe for concurrent use.
type Accounts struct {
	cfg   Config
	store *sealed.Store
	log   *slog.Logger
	due   chan struct{} // holds one: Run looks again for deleted accounts to purge

	// held while stored data changes, so that indexes are swapped in the order of the changes
	changes sync.Mutex
	// guarded by changes: the accounts whose key is being changed, by name in lower case, with the subdomain that the
	// same change gives them, in lower case; empty: none
	keyChanges map[string]string
	index      atomic.Pointer[index]
}

// Open reads the accounts. Purges that a crash interrupted are finished, and interrupted creations undone: no client
// had an answer.
func Open(ctx context.Context, cfg Config) (*Accounts, error) {
	if cfg.Store == nil || cfg.Custody == nil || cfg.ParseKey == nil {
		return nil, errors.New("open accounts: Store, Custody and ParseKey are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Audit == nil {
		cfg.Audit = audit.Discard{}
	}
	a := &Accounts{cfg: cfg, store: cfg.Store, log: cfg.Logger, due: make(chan struct{}, 1),
		keyChanges: map[string]string{}}
	a.changes.Lock()
	defer a.changes.Unlock()
	all, err := a.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("open accounts: %w", err)
	}
	for _, rec := range all.accounts {
		if rec.State == ready {
			continue
		}
		if rec.State == deleted {
			a.suspend(ctx, rec)
			continue
		}
		a.log.InfoContext(ctx, "finishing an interrupted creation or purge", "resource", rec.ID, "step",
			string(rec.State))
		if err := a.remove(ctx, rec); err != nil {
			return nil, fmt.Errorf("open accounts: %w", err)
		}
	}
	if err := a.reindex(ctx); err != nil {
		return nil, fmt.Errorf("open accounts: %w", err)
	}
	if len(a.index.Load().queue()) > 0 { // the finished purges may have freed places
		if _, err := a.keep(ctx, request{}, a.index.Load().capacity); err != nil {
			return nil, fmt.Errorf("open accounts: %w", err)
		}
	}
	return a, nil
}

// Create makes an account with two fresh keys and a sealed space for its data. Refusals: InvalidResourceName,
// InvalidSkuId, InvalidSubdomain, LocationNotAvailableForResourceType, those of identities; Conflict when the name or
// the subdomain is taken, when a deleted account has the name (FlagMustBeSetForRestore), and when there is a free
// account in the location already; CustomerManagedKeyNotApproved for an E0 account without an approved request;
// CustomerManagedKeyNotSupportedAtCreation.
func (a *Accounts) Create(ctx context.Context, by visage.Caller, c Creation) (Account, error) {
	made, err := a.create(ctx, by, c)
	e := event(audit.ResourceCreate, by)
	made.describe(&e)
	return made, a.record(ctx, e, err)
}

func (a *Accounts) create(ctx context.Context, by visage.Caller, c Creation) (Account, error) {
	if err := CheckName(c.Name); err != nil {
		return Account{}, err
	}
	if err := a.store.Space(sealed.Operator).MayGrow(); err != nil {
		return Account{}, err
	}
	if err := CheckSubdomain(c.Subdomain); err != nil && c.Subdomain != "" {
		return Account{}, err
	}
	if _, err := visage.ParseTier(string(c.Tier)); err != nil {
		return Account{}, refuseTier(c.Tier)
	}
	if c.Location != "" && !locationPattern.MatchString(c.Location) {
		return Account{}, visage.Refuse(visage.Invalid, "LocationNotAvailableForResourceType",
			"A location must have 1 to 64 letters, digits, blanks and hyphens, and begin with a letter or digit; "+
				"got %q.", c.Location)
	}
	if err := visage.CheckTags(c.Tags); err != nil {
		return Account{}, err
	}
	if err := checkAtCreation(c); err != nil {
		return Account{}, err
	}
	if err := c.Network.Check(); err != nil {
		return Account{}, err
	}
	origins, err := foldOrigins(c.Origins)
	if err != nil {
		return Account{}, err
	}
	id := visage.ResourceID(visage.NewUUID())
	now := time.Now().UnixNano()
	rec := record{
		ID: id.String(), Name: c.Name, Group: c.Group, Location: c.Location, Tier: c.Tier, Tags: maps.Clone(c.Tags),
		Subdomain: c.Subdomain, LocalAuthDisabled: c.LocalAuthDisabled, Network: c.Network.Clone(), Origins: origins,
		Protection: protected{Said: c.Protection != nil},
		Keys:       Keys{newKey(), newKey()}, State: creating, Created: now, Changed: now, Revision: 1,
		CreatedBy: by.Principal.ObjectID, ChangedBy: by.Principal.ObjectID,
	}
	a.changes.Lock()
	defer a.changes.Unlock()
	x := a.index.Load()
	if err = x.admit(rec); err == nil {
		err = a.admitReserved(rec.account().Host(), rec.Name)
	}
	if err == nil && rec.Tier == visage.E0 {
		rec.Request, err = x.place(rec.Location, a.cfg.AutoApprove)
	}
	if err != nil {
		return Account{}, err
	}
	if err := a.identities().Remove(ctx, rec.account()); err != nil { // of an earlier resource of its name
		return Account{}, fmt.Errorf("create account: %w", err)
	}
	if rec.Identity, err = a.assign(ctx, rec.account(), c.Identity); err != nil {
		return Account{}, err
	}
	if err := a.put(ctx, rec); err != nil {
		return Account{}, fmt.Errorf("create account: %w", err)
	}
	if err := a.store.Spaces().Create(ctx, sealed.SpaceID(id)); err != nil {
		return Account{}, fmt.Errorf("create account: %w", err)
	}
	rec.State = ready
	err = a.store.Space(sealed.Operator).Update(ctx, func(tx sealed.Tx) error {
		if used, found := x.requestByID(rec.Request); found {
			used.Used = true
			if err := requests.In().Put(tx, strings.ToLower(used.Name), used); err != nil {
				return err
			}
		}
		return records.In().Put(tx, strings.ToLower(rec.Name), rec)
	})
	if err != nil {
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

// List returns all accounts that are not deleted, sorted by name.
func (a *Accounts) List(context.Context) ([]Account, error) {
	return sorted(a.index.Load().byName), nil
}

func sorted(byName map[string]record) []Account {
	all := make([]Account, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		all = append(all, byName[name].account())
	}
	return all
}

// IDs returns the ids of all accounts that are not deleted, in no order.
func (a *Accounts) IDs(context.Context) ([]visage.ResourceID, error) {
	x := a.index.Load()
	ids := make([]visage.ResourceID, 0, len(x.byName))
	for _, e := range x.byName {
		ids = append(ids, e.account().ID)
	}
	return ids, nil
}

// Exists reports whether there is an account called name, in any case. A deleted one is none.
func (a *Accounts) Exists(name string) bool {
	_, found := a.index.Load().byName[strings.ToLower(name)]
	return found
}

// Find returns the account called name, in any case, also a deleted one that can be recovered.
func (a *Accounts) Find(name string) (Account, bool) {
	x := a.index.Load()
	rec, found := x.byName[strings.ToLower(name)]
	if !found {
		rec, found = x.gone[strings.ToLower(name)]
	}
	return rec.account(), found
}

// LookupHost returns the account whose own host begins with label, in any case.
func (a *Accounts) LookupHost(label string) (Account, bool) {
	x := a.index.Load()
	name, found := x.byHost[strings.ToLower(label)]
	return x.byName[name].account(), found
}

// LookupID returns the account with an id, also a deleted one.
func (a *Accounts) LookupID(id visage.ResourceID) (Account, bool) {
	rec, found := a.index.Load().byID[id]
	if !found {
		return Account{}, false
	}
	return rec.account(), true
}

func (r record) account() Account {
	id, _ := visage.ParseResourceID(r.ID) // checked when the index was made; the zero record has the zero id
	return Account{
		Resource: visage.Resource{ID: id, Name: r.Name, Tier: r.Tier},
		Group:    r.Group, Location: r.Location, Tags: maps.Clone(r.Tags), Subdomain: r.Subdomain,
		LocalAuthDisabled: r.LocalAuthDisabled,
		Identity:          r.Identity.clone(), Network: r.Network.Clone(), Origins: slices.Clone(r.Origins),
		Created: fromNanos(r.Created), CreatedBy: r.CreatedBy, Changed: fromNanos(r.Changed),
		ChangedBy: r.ChangedBy, Revision: r.Revision, Deleted: fromNanos(r.Deleted), PurgeAt: fromNanos(r.PurgeAt),
	}
}

// fromNanos returns the time of stored nanoseconds; 0 is the zero time.
func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// key returns the key under which the account is stored: its name in lower case.
func (a Account) key() string { return strings.ToLower(a.Name) }

// space returns the sealed space of the account's data.
func (r record) space() sealed.SpaceID { return sealed.SpaceID(r.account().ID) }
