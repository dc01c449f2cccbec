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
	secret [32]byte
	byName map[string]record // lower case; the keys are blank
	byKey  map[[sha256.Size]byte]holder
}

// holder is whom a key opens.
type holder struct {
	name string // in lower case
	key  KeyName
}

// newIndex makes an index of the accounts that are ready.
func newIndex(all []record) (*index, error) {
	x := &index{byName: map[string]record{}, byKey: map[[sha256.Size]byte]holder{}}
	rand.Read(x.secret[:]) // never fails: the runtime ends the process instead
	for _, rec := range all {
		if rec.State != ready {
			continue
		}
		if _, err := visage.ParseResourceID(rec.ID); err != nil {
			return nil, fmt.Errorf("read account: %w", err)
		}
		name := strings.ToLower(rec.Name)
		x.byKey[x.digest(rec.Keys.Key1)] = holder{name, Key1}
		x.byKey[x.digest(rec.Keys.Key2)] = holder{name, Key2}
		rec.Keys = Keys{}
		x.byName[name] = rec
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
// than the host names by its first label.
func (a *Accounts) Resource(_ context.Context, key, host string) (visage.Resource, visage.Principal, error) {
	x := a.index.Load()
	held, found := x.byKey[x.digest(key)]
	if !found {
		return visage.Resource{}, visage.Principal{}, refuseKey()
	}
	if named := x.named(host); named != "" && named != held.name {
		return visage.Resource{}, visage.Principal{}, refuseKey()
	}
	res := x.byName[held.name].account().Resource
	return res, visage.Principal{Method: "key", KeyName: string(held.key), Resource: res.ID}, nil
}

// named returns the resource that a host stands for, in lower case, or "" when it stands for none: an IP address, a
// host without a dot, or one whose first label is no resource's name.
func (x *index) named(host string) string {
	// an IPv6 address is cut to pieces by that, none of which has a dot and stands for a name
	host, _, _ = strings.Cut(host, ":")
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	label, _, dotted := strings.Cut(strings.ToLower(host), ".")
	if _, found := x.byName[label]; !found || !dotted {
		return ""
	}
	return label
}

// admit refuses an account that cannot be added.
func (x *index) admit(rec record) error {
	if _, taken := x.byName[strings.ToLower(rec.Name)]; taken {
		return visage.Refuse(visage.Conflict, "AccountAlreadyExists", "There is a resource called %q already.", rec.Name)
	}
	return x.admitFree(rec.Name, rec.Tier)
}

// admitTier refuses a change of tier that the contract does not know: E0 is chosen when a resource is made.
func (x *index) admitTier(rec record, to visage.Tier) error {
	if _, err := visage.ParseTier(string(to)); err != nil {
		return refuseTier(to)
	}
	if rec.Tier == visage.E0 || to == visage.E0 {
		return visage.Refuse(visage.Invalid, "InvalidSkuId",
			"The tier of resource %q is %s and cannot become %s: E0 is chosen when a resource is made, and kept.", rec.Name,
			rec.Tier, to)
	}
	return x.admitFree(rec.Name, to)
}

// admitFree keeps the number of free accounts at one, as the contract has it.
func (x *index) admitFree(name string, tier visage.Tier) error {
	if tier != visage.F0 {
		return nil
	}
	for other, rec := range x.byName {
		if rec.Tier == visage.F0 && other != strings.ToLower(name) {
			return visage.Refuse(visage.Conflict, "CanNotCreateMultipleFreeAccounts",
				"There is a free resource already, %q, and there can be one: use S0, or delete that one.", rec.Name)
		}
	}
	return nil
}

// Names are also first labels of host names, so they are letters, digits and hyphens. "localhost" would turn every
// request to this machine into one for the resource of that name.
var namePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9-]{0,62}[a-zA-Z0-9]$`)

// CheckName refuses what cannot be an account's name: it has 2 to 64 letters, digits and hyphens, neither first nor
// last a hyphen, and is not "localhost". Refusal: InvalidResourceName.
func CheckName(name string) error {
	if !namePattern.MatchString(name) || strings.EqualFold(name, "localhost") {
		return visage.Refuse(visage.Invalid, "InvalidResourceName",
			"The name %q is not 2 to 64 letters, digits and hyphens that begin and end with a letter or digit.", name)
	}
	return nil
}

func refuseUnknown(name string) error {
	return visage.Refuse(visage.NotFound, "ResourceNotFound", "There is no resource called %q.", name)
}

func refuseTier(tier visage.Tier) error {
	return visage.Refuse(visage.Invalid, "InvalidSkuId", "The tier %q is not one of F0, S0, E0.", tier)
}

// refuseKey is the same for every reason, so that nobody learns which keys exist elsewhere.
func refuseKey() error {
	return visage.Refuse(visage.Unauthenticated, "401",
		"The key is not one of this resource: check the key, and that the host is that of the resource it belongs to.")
}
