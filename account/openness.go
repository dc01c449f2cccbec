package account

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/visage-face/visage"
)

// AnyOrigin among an account's origins lets the pages of every site use its data, with a key or token of theirs.
const AnyOrigin = "*"

// maxOrigins bounds the origins of one account.
const maxOrigins = 64

// foldOrigins returns the one form of each origin, as browsers send it (RFC 6454 §6.2), without those that are there
// twice. AnyOrigin stays. Refusal: InvalidCorsOrigin.
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

// AdmitAddress refuses a client whom the network rules of a resource keep out; the zero Addr is none. A resource that
// is not there any more lets nobody in. Refusal of kind Denied, with the sentence of the contract's front end.
func (a *Accounts) AdmitAddress(r visage.Resource, from netip.Addr) error {
	rec, found := a.index.Load().byName[strings.ToLower(r.Name)]
	switch {
	case found && rec.ID == r.ID.String() && rec.Network.Admit(from):
		return nil
	case found && rec.Network.Closed:
		return visage.Refuse(visage.Denied, "403", "Public access is disabled. Please configure private endpoint.")
	}
	return visage.Refuse(visage.Denied, "403", "Access denied due to Virtual Network/Firewall rules.")
}

// AdmitOrigin reports whether pages of an origin may use a resource's data from a browser.
func (a *Accounts) AdmitOrigin(r visage.Resource, origin string) bool {
	rec, found := a.index.Load().byName[strings.ToLower(r.Name)]
	return found && rec.ID == r.ID.String() && rec.admitsOrigin(origin)
}

// AdmitOriginAt reports whether pages of an origin may use the data of a resource that is called at host, before it is
// known which: of the one that the host names, or of any where it names none.
func (a *Accounts) AdmitOriginAt(host, origin string) bool {
	x := a.index.Load()
	if name := x.named(host); name != "" {
		rec := x.byName[name]
		return rec.admitsOrigin(origin)
	}
	return admitsOrigin(func(o string) bool { return x.origins[o] }, origin)
}

func (r record) admitsOrigin(origin string) bool {
	return admitsOrigin(func(o string) bool { return slices.Contains(r.Origins, o) }, origin)
}

// admitsOrigin reports whether a page's origin, in whatever spelling, is one of those that are named, or every one is.
func admitsOrigin(named func(string) bool, origin string) bool {
	if named(AnyOrigin) {
		return true
	}
	page, err := visage.ParseOrigin(origin)
	return err == nil && named(page.String())
}
