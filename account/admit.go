package account

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/visage-face/visage"
)

// AnyOrigin as an allowed origin lets the pages of every site use the account's data, if they have a key or token.
const AnyOrigin = "*"

// maxOrigins limits the allowed origins of one account.
const maxOrigins = 64

// foldOrigins returns the origins in the form that browsers send (RFC 6454 §6.2), without duplicates. AnyOrigin stays.
// Refusal: InvalidCorsOrigin.
func foldOrigins(origins []string) ([]string, error) {
	if len(origins) > maxOrigins {
		return nil, visage.Refuse(visage.Invalid, "InvalidCorsOrigin",
			"There are %d allowed origins; at most %d are possible.", len(origins), maxOrigins)
	}
	var folded []string
	for _, text := range origins {
		one := text
		if text != AnyOrigin {
			origin, err := visage.ParseOrigin(text)
			if err != nil {
				return nil, visage.Refuse(visage.Invalid, "InvalidCorsOrigin",
					"The allowed origin %.200q is not valid: use scheme, host and, if it is not the default, "+
						"port, such as https://app.example.org, or * for every origin.", text)
			}
			one = origin.String()
		}
		if !slices.Contains(folded, one) {
			folded = append(folded, one)
		}
	}
	return folded, nil
}

// AdmitAddress refuses a client address that the network rules of a resource do not allow; the zero Addr is an unknown
// address. A resource that no longer exists refuses every address. Refusal of kind Denied, with the contract's
// sentence.
func (a *Accounts) AdmitAddress(r visage.Resource, from netip.Addr) error {
	rec, found := a.index.Now().byName[strings.ToLower(r.Name)]
	switch {
	case found && rec.ID == r.ID.String() && rec.Network.Admit(from):
		return nil
	case found && rec.Network.Closed:
		return visage.Refuse(visage.Denied, "403", "Public access is disabled. Please configure private endpoint.")
	}
	return visage.Refuse(visage.Denied, "403", "Access denied due to Virtual Network/Firewall rules.")
}

// AdmitOrigin reports whether a resource allows requests from pages of an origin.
func (a *Accounts) AdmitOrigin(r visage.Resource, origin string) bool {
	rec, found := a.index.Now().byName[strings.ToLower(r.Name)]
	return found && rec.ID == r.ID.String() && rec.admitsOrigin(origin)
}

// AdmitOriginAt reports whether pages of an origin may send requests to a host, before the resource is known: to the
// resource that the host names, or else to any resource.
func (a *Accounts) AdmitOriginAt(host, origin string) bool {
	x := a.index.Now()
	if name := x.named(host); name != "" {
		rec := x.byName[name]
		return rec.admitsOrigin(origin)
	}
	return admitsOrigin(func(o string) bool { return x.origins[o] }, origin)
}

func (r record) admitsOrigin(origin string) bool {
	return admitsOrigin(func(o string) bool { return slices.Contains(r.Origins, o) }, origin)
}

// admitsOrigin reports whether an origin, in any spelling, or AnyOrigin is allowed.
func admitsOrigin(named func(string) bool, origin string) bool {
	if named(AnyOrigin) {
		return true
	}
	page, err := visage.ParseOrigin(origin)
	return err == nil && named(page.String())
}
