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
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/sealed/follow"
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

	changes sync.Mutex // held while this process changes stored data
	// guarded by changes: the accounts whose key is being changed, by name in lower case, with the subdomain that the
	// same change gives them, in lower case; empty: none
	keyChanges map[string]string
	index      *follow.Value[*index] // of what the store has, also of other processes

	stateMu sync.Mutex
	states  map[visage.ResourceID]state // guarded by stateMu: as custody was told of them last
	moved   map[visage.ResourceID]state // guarded by stateMu: of those of which custody must be told; empty: gone
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
		keyChanges: map[string]string{}, moved: map[visage.ResourceID]state{}}
	a.index = follow.New(follow.Config[*index]{Store: cfg.Store, Name: "accounts", Read: readIndex, Swapped: a.notice,
		Logger: cfg.Logger})
	if err := a.index.Load(ctx); err != nil {
		return nil, fmt.Errorf("open accounts: %w", err)
	}
	for _, rec := range a.index.Now().gone {
		a.suspend(ctx, rec)
	}
	if err := a.finish(ctx); err != nil {
		return nil, fmt.Errorf("open accounts: %w", err)
	}
	return a, nil
}

// finish finishes purges that were interrupted, and undoes interrupted creations, unless another process is at it.
func (a *Accounts) finish(ctx context.Context) error {
	var failures []error
	for _, rec := range a.index.Now().pending {
		failures = append(failures, a.finishOne(ctx, rec))
	}
	if err := errors.Join(failures...); err != nil {
		return err
	}
	a.changes.Lock()
	defer a.changes.Unlock()
	if len(a.index.Now().queue()) == 0 {
		return nil
	}
	_, err := a.keep(ctx, asItIs) // the finished purges may have freed places
	return err
}

func (a *Accounts) finishOne(ctx context.Context, rec record) error {
	release, err := a.hold(ctx, rec)
	if errors.Is(err, sealed.ErrClaimed) {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	a.changes.Lock()
	defer a.changes.Unlock()
	if err := a.index.Load(ctx); err != nil { // it may have been finished meanwhile
		return err
	}
	if now := a.index.Now().pending[strings.ToLower(rec.Name)]; now.ID != rec.ID {
		return nil
	}
	a.log.InfoContext(ctx, "finishing an interrupted creation or purge", "resource", rec.ID, "step", string(rec.State))
	return a.remove(ctx, rec)
}

// holdFor is how long a creation or purge may seem to be under way after its process has ended.
const holdFor = 30 * time.Second

// hold claims an account for its creation or purge, so that no other process takes it for an interrupted one.
func (a *Accounts) hold(ctx context.Context, rec record) (release func(), err error) {
	claim, err := a.store.Claim(ctx, "account/"+rec.ID, holdFor)
	if err != nil {
		return nil, err
	}
	return claim.Release, nil
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
	release, err := a.hold(ctx, rec)
	if err != nil {
		return Account{}, fmt.Errorf("create account: %w", err)
	}
	defer release()
	a.changes.Lock()
	defer a.changes.Unlock()
	rec, err = a.admitted(ctx, rec, c.Identity)
	if err != nil {
		return Account{}, err
	}
	if err = a.store.Spaces().Create(ctx, sealed.SpaceID(id)); err == nil {
		rec.State = ready
		err = a.putCreated(ctx, rec)
	}
	if err != nil {
		if undone := a.remove(context.WithoutCancel(ctx), rec); undone != nil { // Run tries again
			a.log.ErrorContext(ctx, "a failed creation was not undone", "resource", rec.ID, "err", undone)
		}
		return Account{}, fmt.Errorf("create account: %w", err)
	}
	return rec.account(), nil
}

// errOutdated says that another process has changed accounts since a decision was made.
var errOutdated = errors.New("accounts were changed by another process")

// repeat calls decide with the present index until what it decides is stored before another process changes accounts.
// decide stores with storeIf and the index that it has got. The caller holds changes.
// A refusal counts only if it was decided with what is stored.
func (a *Accounts) repeat(ctx context.Context, decide func(x *index) error) error {
	for {
		err := decide(a.index.Now())
		if err == nil {
			return nil
		}
		if errors.Is(err, errOutdated) {
			continue
		}
		if changed, failed := a.index.Look(ctx); failed != nil || !changed {
			return errors.Join(err, failed)
		}
	}
}

// storeIf stores what was decided with an index, unless that is outdated, and replaces it.
func (a *Accounts) storeIf(ctx context.Context, decidedWith *index, put func(sealed.Tx) error) error {
	return a.index.Update(ctx, func(tx sealed.Tx, now *index) error {
		if now != decidedWith {
			return errOutdated
		}
		return put(tx)
	})
}

// admitted stores a new account as one that is being created, or refuses it.
func (a *Accounts) admitted(ctx context.Context, rec record, spec IdentitySpec) (record, error) {
	err := a.repeat(ctx, func(x *index) error {
		err := x.admit(rec)
		if err == nil {
			err = a.admitReserved(rec.account().Host(), rec.Name)
		}
		if err == nil && rec.Tier == visage.E0 {
			rec.Request, err = x.place(rec.Location, a.cfg.AutoApprove)
		}
		if err != nil {
			return err
		}
		// of an earlier resource of its name
		if err := a.identities().Remove(ctx, rec.account()); err != nil {
			return fmt.Errorf("create account: %w", err)
		}
		if rec.Identity, err = a.assign(ctx, rec.account(), spec); err != nil {
			return err
		}
		return a.storeIf(ctx, x, func(tx sealed.Tx) error { return put(tx, rec) })
	})
	return rec, err
}

// putCreated stores a new account as ready, and its request as used.
func (a *Accounts) putCreated(ctx context.Context, rec record) error {
	return a.index.Update(ctx, func(tx sealed.Tx, now *index) error {
		if used, found := now.requestByID(rec.Request); found {
			used.Used = true
			if err := requests.In().Put(tx, strings.ToLower(used.Name), used); err != nil {
				return err
			}
		}
		return put(tx, rec)
	})
}

// Get returns the account called name, in any case. Refusal: ResourceNotFound.
func (a *Accounts) Get(ctx context.Context, name string) (Account, error) {
	rec, found := a.inService(ctx, name)
	if !found {
		return Account{}, refuseUnknown(name)
	}
	return rec.account(), nil
}

// inService returns the account called name that is not deleted.
func (a *Accounts) inService(ctx context.Context, name string) (record, bool) {
	return lookup(ctx, a, func(x *index) (record, bool) {
		rec, found := x.byName[strings.ToLower(name)]
		return rec, found
	})
}

// lookup looks in the index, and if it finds nothing, again when another process has changed the accounts.
func lookup[T any](ctx context.Context, a *Accounts, in func(x *index) (T, bool)) (T, bool) {
	one, found := in(a.index.Now())
	if !found && a.index.Missed(ctx) {
		one, found = in(a.index.Now())
	}
	return one, found
}

// List returns all accounts that are not deleted, sorted by name.
func (a *Accounts) List(context.Context) ([]Account, error) {
	return sorted(a.index.Now().byName), nil
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
	x := a.index.Now()
	ids := make([]visage.ResourceID, 0, len(x.byName))
	for _, e := range x.byName {
		ids = append(ids, e.account().ID)
	}
	return ids, nil
}

// Exists reports whether there is an account called name, in any case. A deleted one is none.
func (a *Accounts) Exists(name string) bool {
	_, found := a.inService(context.Background(), name)
	return found
}

// Find returns the account called name, in any case, also a deleted one that can be recovered.
func (a *Accounts) Find(name string) (Account, bool) {
	rec, found := lookup(context.Background(), a, func(x *index) (record, bool) {
		rec, found := x.byName[strings.ToLower(name)]
		if !found {
			rec, found = x.gone[strings.ToLower(name)]
		}
		return rec, found
	})
	return rec.account(), found
}

// LookupHost returns the account whose own host begins with label, in any case.
func (a *Accounts) LookupHost(label string) (Account, bool) {
	x := a.index.Now()
	name, found := x.byHost[strings.ToLower(label)]
	return x.byName[name].account(), found
}

// LookupID returns the account with an id, also a deleted one.
func (a *Accounts) LookupID(id visage.ResourceID) (Account, bool) {
	rec, found := lookup(context.Background(), a, func(x *index) (record, bool) {
		rec, found := x.byID[id]
		return rec, found
	})
	return rec.account(), found
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
