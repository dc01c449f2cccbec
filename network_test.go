package visage_test

import (
	"net/netip"
	"testing"

	"github.com/visage-face/visage"
)

func TestNetworkRulesAdmitWhomTheyName(t *testing.T) {
	deny := visage.NetworkRules{Deny: true,
		Addresses: []string{"203.0.113.7", "198.51.100.0/24", "2001:db8::/32", "192.0.2.77/24"}}
	for name, test := range map[string]struct {
		rules visage.NetworkRules
		from  string
		want  bool
	}{
		"no rules":                       {visage.NetworkRules{}, "203.0.113.8", true},
		"the address":                    {deny, "203.0.113.7", true},
		"the address, mapped into IPv6":  {deny, "::ffff:203.0.113.7", true},
		"its neighbour":                  {deny, "203.0.113.8", false},
		"within the prefix":              {deny, "198.51.100.200", true},
		"within a prefix with more bits": {deny, "192.0.2.1", true},
		"IPv6 within the prefix":         {deny, "2001:db8:1::1", true},
		"IPv6 with a zone":               {deny, "2001:db8::1%eth0", true},
		"IPv6 elsewhere":                 {deny, "2001:db9::1", false},
		"closed to all": {visage.NetworkRules{Closed: true, Addresses: []string{"203.0.113.7"}},
			"203.0.113.7", false},
		"deny and nobody named":    {visage.NetworkRules{Deny: true}, "127.0.0.1", false},
		"allow, whatever is named": {visage.NetworkRules{Addresses: []string{"203.0.113.7"}}, "198.51.100.1", true},
	} {
		if got := test.rules.Admit(netip.MustParseAddr(test.from)); got != test.want {
			t.Errorf("%s: admitted %v, want %v", name, got, test.want)
		}
	}
	if deny.Admit(netip.Addr{}) {
		t.Error("a client without an address is let in where addresses are named")
	}
}

func TestNetworkRulesAdmitTheServiceUnlessToldNot(t *testing.T) {
	for name, test := range map[string]struct {
		rules visage.NetworkRules
		want  bool
	}{
		"no rules":          {visage.NetworkRules{}, true},
		"deny":              {visage.NetworkRules{Deny: true}, true},
		"closed":            {visage.NetworkRules{Closed: true}, true},
		"allow, no bypass":  {visage.NetworkRules{NoBypass: true}, true},
		"deny, no bypass":   {visage.NetworkRules{Deny: true, NoBypass: true}, false},
		"closed, no bypass": {visage.NetworkRules{Closed: true, NoBypass: true}, false},
		"deny, named, bypass": {visage.NetworkRules{Deny: true, Addresses: []string{"127.0.0.1"}, NoBypass: true},
			false},
	} {
		if got := test.rules.AdmitService(); got != test.want {
			t.Errorf("%s: the service is let in %v, want %v", name, got, test.want)
		}
	}
}

func TestNetworkRulesRefuseWhatIsNoAddress(t *testing.T) {
	for _, text := range []string{"", "everybody", "203.0.113.300", "203.0.113.0/33", "203.0.113.7-9", "fe80::1%eth0",
		"example.org"} {
		if err := (visage.NetworkRules{Addresses: []string{text}}).Check(); err == nil {
			t.Errorf("the IP rule %q is taken", text)
		}
	}
	if err := (visage.NetworkRules{Addresses: make([]string, visage.MaxNetworkAddresses+1)}).Check(); err == nil {
		t.Error("more IP rules than possible are taken")
	}
}
