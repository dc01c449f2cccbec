package account

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"iter"
	"net/netip"
	"regexp"
	"strings"

	"github.com/visage-face/visage"
)

// index is the immutable view from which requests are answered; every change makes a new one. It holds no API keys,
// only their digests under a random secret, so that the time of a lookup does not depend on how much of a key is right.
type index struct {
	secret   [32]byte
	byName   map[string]record            // in service, by name in lower case, without their keys
	gone     map[string]record            // deleted and recoverable, likewise
	pending  map[string]record            // being created or purged, likewise: their names are taken
	byID     map[visage.ResourceID]record // both, by id
	byHost   map[string]string            // names of those in service, by Account.Host
	byKey    map[[sha256.Size]byte]holder
	origins  map[string]bool    // allowed by any of those in service
	requests map[string]request // by name in lower case
	capacity capacityRecord
}

// holder is the account of an API key.
type holder struct {
	name string // in lower case
	key  KeyName
}

// newIndex makes the index of all stored records.
func newIndex(all everything) (*index, error) {
	x := &index{
		byName: map[string]record{}, gone: map[string]record{}, pending: map[string]record{},
		byID:   map[visage.ResourceID]record{},
		byHost: map[string]string{}, byKey: map[[sha256.Size]byte]holder{}, requests: map[string]request{},
		origins: map[string]bool{}, capacity: all.capacity,
	}
	rand.Read(x.secret[:]) // never fails: the runtime ends the process instead
	for _, r := range all.requests {
		x.requests[strings.ToLower(r.Name)] = r
	}
	for _, rec := range all.accounts {
		if rec.State != ready && rec.State != deleted {
			rec.Keys = Keys{}
			x.pending[strings.ToLower(rec.Name)] = rec
			continue
		}
		id, err := visage.ParseResourceID(rec.ID)
		if err != nil {
			return nil, fmt.Errorf("read account: %w", err)
		}
		name, keys := strings.ToLower(rec.Name), rec.Keys
		rec.Keys = Keys{}
		x.byID[id] = rec
		if rec.State == deleted {
			x.gone[name] = rec
			continue
		}
		x.byKey[x.digest(keys.Key1)] = holder{name, Key1}
		x.byKey[x.digest(keys.Key2)] = holder{name, Key2}
		x.byName[name] = rec
		for _, origin := range rec.Origins {
			x.origins[origin] = true
		}
		if host := rec.account().Host(); host != "" {
			x.byHost[host] = name
		}
	}
	return x, nil
}

func (x *index) digest(key string) (d [sha256.Size]byte) {
	mac := hmac.New(sha256.New, x.secret[:])
	mac.Write([]byte(key))
	mac.Sum(d[:0])
	return d
}

// Resource authenticates an API key that is presented to host (a Host header, maybe with a port), and returns its Face
// resource and the name of the key. Refusals: of kind Unauthenticated for an unknown key, or a key of another resource
// than the one that the host names; of kind Denied, AuthenticationTypeDisabled, for a resource that accepts tokens
// only.
func (a *Accounts) Resource(ctx context.Context, key, host string) (visage.Resource, visage.Principal, error) {
	x := a.index.Now()
	held, found := x.byKey[x.digest(key)]
	if !found && a.index.Missed(ctx) {
		x = a.index.Now()
		held, found = x.byKey[x.digest(key)]
	}
	if !found {
		return visage.Resource{}, visage.Principal{}, refuseKey()
	}
	if named := x.named(host); named != "" && named != held.name {
		return visage.Resource{}, visage.Principal{}, refuseKey()
	}
	rec := x.byName[held.name]
	if rec.LocalAuthDisabled {
		return visage.Resource{}, visage.Principal{}, visage.Refuse(visage.Denied, "AuthenticationTypeDisabled",
			"Access by key is disabled for this resource: send a bearer token.")
	}
	res := rec.account().Resource
	return res, visage.Principal{Method: "key", KeyName: string(held.key), Resource: res.ID}, nil
}

// named returns the name, in lower case, of the resource that a host names. Empty: the host is an IP address, has no
// dot, or its first label is not that of a resource.
func (x *index) named(host string) string {
	// this also cuts IPv6 addresses, into pieces without a dot, which name nothing
	host, _, _ = strings.Cut(host, ":")
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	label, _, dotted := strings.Cut(strings.ToLower(host), ".")
	if !dotted {
		return ""
	}
	return x.byHost[label]
}

// admit refuses a new account whose name, host or free tier is taken.
func (x *index) admit(rec record) error {
	if _, taken := x.byName[strings.ToLower(rec.Name)]; taken {
		return visage.Refuse(visage.Conflict, "AccountAlreadyExists", "A resource named %q already exists.",
			rec.Name)
	}
	if _, taken := x.gone[strings.ToLower(rec.Name)]; taken {
		return visage.Refuse(visage.Conflict, "FlagMustBeSetForRestore",
			"A deleted resource has the name %q. Set properties.restore to true to recover it, or purge it "+
				"first.", rec.Name)
	}
	if _, taken := x.pending[strings.ToLower(rec.Name)]; taken {
		return visage.Refuse(visage.Conflict, "RequestConflict",
			"Another change of resource %q is in progress: wait until it has ended.", rec.Name)
	}
	if err := x.admitHost(rec); err != nil {
		return err
	}
	return x.admitFree(rec, rec.Tier)
}

// all yields the accounts in every state.
func (x *index) all() iter.Seq[record] {
	return func(yield func(record) bool) {
		for _, some := range []map[string]record{x.byName, x.gone, x.pending} {
			for _, rec := range some {
				if !yield(rec) {
					return
				}
			}
		}
	}
}

// admitHost refuses the host of another account, deleted or not.
func (x *index) admitHost(rec record) error {
	host := rec.account().Host()
	for other := range x.all() {
		if host != "" && other.ID != rec.ID && other.account().Host() == host {
			return refuseHost(host)
		}
	}
	return nil
}

// admitSubdomain refuses to give an account a subdomain that is invalid or taken, or to change the one that it has.
func (x *index) admitSubdomain(rec record, to string) error {
	if strings.EqualFold(to, rec.account().Host()) {
		return nil // its host already
	}
	if rec.Subdomain != "" {
		return visage.Refuse(visage.Invalid, "SubdomainCannotBeChanged",
			"The subdomain of resource %q is %q and cannot be changed.", rec.Name, rec.Subdomain)
	}
	if err := CheckSubdomain(to); err != nil {
		return err
	}
	rec.Subdomain = to
	return x.admitHost(rec)
}

// admitTier refuses changes of tier from and to E0, which is chosen at creation, and a second free account.
func (x *index) admitTier(rec record, to visage.Tier) error {
	if _, err := visage.ParseTier(string(to)); err != nil {
		return refuseTier(to)
	}
	if rec.Tier == visage.E0 || to == visage.E0 {
		return visage.Refuse(visage.Invalid, "InvalidSkuId",
			"The tier of resource %q cannot change from %s to %s: create a new resource with the other tier.",
			rec.Name,
			rec.Tier, to)
	}
	return x.admitFree(rec, to)
}

// admitFree refuses a second free account in a location (contract §3). Deleted accounts count.
func (x *index) admitFree(rec record, tier visage.Tier) error {
	if tier != visage.F0 {
		return nil
	}
	for other := range x.all() {
		if other.Tier == visage.F0 && other.ID != rec.ID && visage.SameLocation(other.Location, rec.Location) {
			return visage.Refuse(visage.Conflict, "CanNotCreateMultipleFreeAccounts",
				"The location %q already has its one free resource, %q, which may be deleted: use tier S0, "+
					"or purge that resource.",
				rec.Location, other.Name)
		}
	}
	return nil
}

// Names of accounts and of subdomains (contract §3). A subdomain is the first label of a host name.
var (
	locationPattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9 -]{0,63}$`)

	namePattern  = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,63}$`)
	labelPattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9-]{0,62}[a-zA-Z0-9]$`)
)

// CheckName refuses an invalid name of an account. A name has 2 to 64 letters, digits, hyphens, underscores and dots,
// begins with a letter or digit, and is not "localhost". Refusal: InvalidResourceName.
func CheckName(name string) error {
	if !namePattern.MatchString(name) || strings.EqualFold(name, localhost) {
		return visage.Refuse(visage.Invalid, "InvalidResourceName",
			"The name %q is not 2 to 64 letters, digits, hyphens, underscores and dots that begin with a letter or "+
				"digit.", name)
	}
	return nil
}

// CheckSubdomain refuses an invalid subdomain. A subdomain has 2 to 64 letters, digits and hyphens, begins and ends
// with a letter or digit, and is not "localhost". Refusal: InvalidSubdomain.
func CheckSubdomain(label string) error {
	if !isLabel(label) {
		return visage.Refuse(visage.Invalid, "InvalidSubdomain",
			"A subdomain must have 2 to 64 letters, digits and hyphens, and begin and end with a letter or digit; "+
				"got %q.", label)
	}
	return nil
}

// localhost is no name, because every request to this machine would name the resource of that name.
const localhost = "localhost"

func isLabel(s string) bool { return labelPattern.MatchString(s) && !strings.EqualFold(s, localhost) }

// FreeSubdomain reports whether a subdomain is free: no account has it, deleted or not.
func (a *Accounts) FreeSubdomain(label string) bool {
	return a.index.Now().admitHost(record{Subdomain: label}) == nil
}

func refuseHost(host string) error {
	return visage.Refuse(visage.Conflict, "CustomDomainInUse",
		"The subdomain %q is in use, possibly by a deleted resource: choose another one.", host)
}

func refuseUnknown(name string) error {
	return visage.Refuse(visage.NotFound, "ResourceNotFound", "There is no resource called %q.", name)
}

func refuseGone(name string) error {
	return visage.Refuse(visage.NotFound, "ResourceNotFound", "There is no deleted resource called %q.", name)
}

func refuseTier(tier visage.Tier) error {
	return visage.Refuse(visage.Invalid, "InvalidSkuId", "The tier %q is not one of F0, S0, E0.", tier)
}

// refuseKey refuses an API key in the same way for every reason, so that clients do not learn which keys exist.
func refuseKey() error {
	return visage.Refuse(visage.Unauthenticated, "401",
		"The key does not belong to this resource: check the key and the host.")
}
