package visage

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// NetworkRules say from which addresses a resource or a vault may be used, on top of who may use it. The zero value
// lets every address in.
type NetworkRules struct {
	Set       bool     // somebody has said something, so that answers show the rules
	Deny      bool     // only Addresses are let in; false: every address is
	Addresses []string // IPv4 and IPv6 addresses and prefixes, as they were given; see ParseNetwork
	// NoBypass keeps out the service itself, where it uses the key of a vault for a resource, as it does any address.
	NoBypass bool
	// Closed lets no address in, whatever the other rules say; only the service itself, unless NoBypass.
	Closed bool
}

// MaxNetworkAddresses bounds the addresses and prefixes of one set of rules (Azure: 200 for accounts, 1,000 for
// vaults).
const MaxNetworkAddresses = 1000

// ParseNetwork reads an IP address, or a prefix in CIDR notation whose bits behind the prefix are zero or not.
func ParseNetwork(text string) (netip.Prefix, error) {
	text = strings.TrimSpace(text)
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return prefix.Masked(), nil
	}
	address, err := netip.ParseAddr(text)
	if err != nil || address.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is neither an IP address nor a prefix such as 203.0.113.0/24", text)
	}
	address = address.Unmap()
	return netip.PrefixFrom(address, address.BitLen()), nil
}

// Check refuses rules with an address that cannot be read, or with too many. Refusal: BadRequest.
func (n NetworkRules) Check() error {
	if len(n.Addresses) > MaxNetworkAddresses {
		return Refuse(Invalid, "BadRequest", "There are %d IP rules; at most %d are possible.", len(n.Addresses),
			MaxNetworkAddresses)
	}
	for _, text := range n.Addresses {
		if _, err := ParseNetwork(text); err != nil {
			return Refuse(Invalid, "BadRequest", "The IP rule %v.", err)
		}
	}
	return nil
}

// Admit reports whether a client at an address is let in. The zero Addr is none and is let in only where all are.
func (n NetworkRules) Admit(from netip.Addr) bool {
	if n.Closed {
		return false
	}
	if !n.Deny {
		return true
	}
	from = from.Unmap().WithZone("")
	return slices.ContainsFunc(n.Addresses, func(text string) bool {
		prefix, err := ParseNetwork(text)
		return err == nil && prefix.Contains(from)
	})
}

// AdmitService reports whether the service itself is let in, where it acts for a resource.
func (n NetworkRules) AdmitService() bool { return !n.NoBypass || !n.Closed && !n.Deny }

// Clone returns rules that share nothing with n.
func (n NetworkRules) Clone() NetworkRules {
	n.Addresses = slices.Clone(n.Addresses)
	return n
}
