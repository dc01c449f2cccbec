package account

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/visage-face/visage"
)

// index is what requests are answered from: one immutable value, made anew at every change. It holds no key, only their
// digests under a secret of its own, so looking one up takes a time that says nothing about how much of it was right.
type index struct {
	secret   [32]byte
	byName   map[string]record // those in service, by name in lower case; the keys are blank
	gone     map[string]record // those that are deleted and can be had back, likewise
	byHost   map[string]string // names in lower case, by Account.Host, of those in service
	byKey    map[[sha256.Size]byte]holder
	origins  map[string]bool    // that any of those in service names
	requests map[string]request // by name in lower case
	capacity capacityRecord
}

// holder is whom a key opens.
type holder struct {
	name string // in lower case
	key  KeyName
}

// newIndex makes an index of what is stored.
func newIndex(all everything) (*index, error) {
	x := &index{
		byName: map[string]record{}, gone: map[string]record{}, byHost: map[string]string{},
		byKey: map[[sha256.Size]byte]holder{}, requests: map[string]request{}, origins: map[string]bool{},
		capacity: all.capacity,
	}
	rand.Read(x.secret[:]) // never fails: the runtime ends the process instead
	for _, r := range all.requests {
		x.requests[strings.ToLower(r.Name)] = r
	}
	for _, rec := range all.accounts {
		if rec.State != ready && rec.State != deleted {
			continue
		}
		if _, err := visage.ParseResourceID(rec.ID); err != nil {
			return nil, fmt.Errorf("read account: %w", err)
		}
		name, keys := strings.ToLower(rec.Name), rec.Keys
		rec.Keys = Keys{}
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

// Resource returns the Face resource that key opens when it is presented to host (a Host header, maybe with a port),
// and which of its keys it is. Refusal of kind Unauthenticated: a key that nobody holds, or one of another resource
// than the host names by its first label; of kind Denied: AuthenticationTypeDisabled for a resource that takes no keys.
func (a *Accounts) Resource(_ context.Context, key, host string) (visage.Resource, visage.Principal, error) {
	x := a.index.Load()
	held, found := x.byKey[x.digest(key)]
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

// named returns the resource that a host stands for, in lower case, or "" when it stands for none: an IP address, a
// host without a dot, or one whose first label is no resource's.
func (x *index) named(host string) string {
	// an IPv6 address is cut to pieces by that, none of which has a dot and stands for a name
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

// admit refuses an account that cannot be added.
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
	if err := x.admitHost(rec); err != nil {
		return err
	}
	return x.admitFree(rec, rec.Tier)
}

// admitHost refuses a host that another account has, also a deleted one.
func (x *index) admitHost(rec record) error {
	host := rec.account().Host()
	for _, all := range []map[string]record{x.byName, x.gone} {
		for _, other := range all {
			if host != "" && other.ID != rec.ID && other.account().Host() == host {
				return refuseHost(host)
			}
		}
	}
	return nil
}

// admitSubdomain refuses a subdomain that an account cannot get.
func (x *index) admitSubdomain(rec record, to string) error {
	if strings.EqualFold(to, rec.account().Host()) {
		return nil // what it is called anyway
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

// admitTier refuses a change of tier that the contract does not know: E0 is chosen when a resource is made.
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

// admitFree keeps the number of free accounts in a location at one, as the contract has it. A deleted one counts.
func (x *index) admitFree(rec record, tier visage.Tier) error {
	if tier != visage.F0 {
		return nil
	}
	for _, all := range []map[string]record{x.byName, x.gone} {
		for _, other := range all {
			if other.Tier == visage.F0 && other.ID != rec.ID && visage.SameLocation(other.Location, rec.Location) {
				return visage.Refuse(visage.Conflict, "CanNotCreateMultipleFreeAccounts",
					"The location %q already has its one free resource, %q, which may be deleted: use tier S0, "+
						"or purge that resource.",
					rec.Location, other.Name)
			}
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

// CheckName refuses what cannot be an account's name: it has 2 to 64 letters, digits, hyphens, underscores and dots,
// begins with a letter or digit, and is not "localhost". Refusal: InvalidResourceName.
func CheckName(name string) error {
	if !namePattern.MatchString(name) || strings.EqualFold(name, localhost) {
		return visage.Refuse(visage.Invalid, "InvalidResourceName",
			"The name %q is not 2 to 64 letters, digits, hyphens, underscores and dots that begin with a letter or "+
				"digit.", name)
	}
	return nil
}

// CheckSubdomain refuses what cannot be an account's subdomain: it has 2 to 64 letters, digits and hyphens, neither
// first nor last a hyphen, and is not "localhost". Refusal: InvalidSubdomain.
func CheckSubdomain(label string) error {
	if !isLabel(label) {
		return visage.Refuse(visage.Invalid, "InvalidSubdomain",
			"The subdomain %q is not 2 to 64 letters, digits and hyphens that begin and end with a letter or digit.",
			label)
	}
	return nil
}

// localhost as a first label would turn every request to this machine into one for the resource of that name.
const localhost = "localhost"

func isLabel(s string) bool { return labelPattern.MatchString(s) && !strings.EqualFold(s, localhost) }

// FreeSubdomain reports whether no account, deleted ones included, has a subdomain.
func (a *Accounts) FreeSubdomain(label string) bool {
	return a.index.Load().admitHost(record{Subdomain: label}) == nil
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

// refuseKey is the same for every reason, so that nobody learns which keys exist elsewhere.
func refuseKey() error {
	return visage.Refuse(visage.Unauthenticated, "401",
		"The key does not belong to this resource: check the key and the host.")
}
