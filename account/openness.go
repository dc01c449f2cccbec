package account

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/visage-face/visage"
)

// AnyOrigin among an account's origins lets the pages of every site use its data, with a key or token of theirs.
const AnyOrigin = "*"

// maxOrigins bounds the origins of one account.
const maxOrigins = 64

// CheckOrigin refuses what is neither AnyOrigin nor the origin of a web page as browsers send it (RFC 6454 §6.2): scheme
// and host in lower case, the port where it is not the scheme's own, no path. Refusal: InvalidCorsOrigin.
func CheckOrigin(origin string) error {
	if origin == AnyOrigin {
		return nil
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Scheme+"://"+u.Host != origin ||
		origin != strings.ToLower(origin) || u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80" {
		return visage.Refuse(visage.Invalid, "InvalidCorsOrigin",
			"The allowed origin %q is neither * nor an origin as browsers send it, such as https://app.example.org.", origin)
	}
	return nil
}

// checkOpenness refuses rules that cannot be kept.
func checkOpenness(network visage.NetworkRules, origins []string) error {
	if len(origins) > maxOrigins {
		return visage.Refuse(visage.Invalid, "InvalidCorsOrigin", "There are %d allowed origins; at most %d are possible.", len(origins), maxOrigins)
	}
	for _, origin := range origins {
		if err := CheckOrigin(origin); err != nil {
			return err
		}
	}
	return network.Check()
}

// AdmitAddress refuses a client whom the network rules of a resource keep out; the zero Addr is none. A resource that is
// not there any more lets nobody in. Refusal of kind Denied, with the sentence of the contract's front end.
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
	for _, rec := range x.byName {
		if rec.admitsOrigin(origin) {
			return true
		}
	}
	return false
}

func (r record) admitsOrigin(origin string) bool {
	return slices.Contains(r.Origins, origin) || slices.Contains(r.Origins, AnyOrigin)
}
