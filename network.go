package visage

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// NetworkRules restrict the client addresses from which a resource or a vault may be used, whatever the credential. The
// zero value admits every address.
type NetworkRules struct {
	Set       bool     // rules were configured, so answers show them
	Deny      bool     // only Addresses are admitted; false: every address
	Addresses []string // IPv4 and IPv6 addresses and prefixes, in the spelling of the request; see ParseNetwork
	// NoBypass applies the rules to the service itself too, when it uses a vault's key for a resource.
	NoBypass bool
	// Closed admits no address, whatever the other rules; the service itself is admitted unless NoBypass is set.
	Closed bool
}

// MaxNetworkAddresses bounds the addresses and prefixes of one set of rules (Azure: 200 for accounts, 1,000 for
// vaults).
const MaxNetworkAddresses = 1000

// ParseNetwork parses an IP address or a prefix in CIDR notation, and clears the bits after the prefix.
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

// Check refuses rules with an invalid address, or with too many addresses. Refusal: BadRequest.
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

// Admit reports whether a client address is admitted. The zero Addr is an unknown address: it is admitted only where
// every address is.
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

// AdmitService reports whether the service itself is admitted when it acts for a resource.
func (n NetworkRules) AdmitService() bool { return !n.NoBypass || !n.Closed && !n.Deny }

// Clone returns rules that share nothing with n.
func (n NetworkRules) Clone() NetworkRules {
	n.Addresses = slices.Clone(n.Addresses)
	return n
}
