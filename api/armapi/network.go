package armapi

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi/armwire"
)

// The values of network rules.
const (
	actionAllow, actionDeny       = "Allow", "Deny"
	bypassServices, bypassNone    = "AzureServices", "None"
	accessEnabled, accessDisabled = "Enabled", "Disabled"
)

// networkOf encodes rules.
func networkOf(n visage.NetworkRules) *armwire.NetworkACLs {
	w := &armwire.NetworkACLs{Bypass: bypassServices, DefaultAction: actionAllow, IPRules: []armwire.IPRule{},
		VirtualNetworkRules: []json.RawMessage{}}
	if n.NoBypass {
		w.Bypass = bypassNone
	}
	if n.Deny {
		w.DefaultAction = actionDeny
	}
	for _, address := range n.Addresses {
		w.IPRules = append(w.IPRules, armwire.IPRule{Value: address})
	}
	return w
}

func publicAccess(n visage.NetworkRules) string {
	if n.Closed {
		return accessDisabled
	}
	return accessEnabled
}

// network returns the rules after a request: networkAcls is replaced as a whole, or kept if it was left out; the same
// for publicNetworkAccess.
func network(now visage.NetworkRules, acls *armwire.NetworkACLs, public string) (visage.NetworkRules, error) {
	refuse := func(format string, args ...any) (visage.NetworkRules, error) {
		return now, visage.Refuse(visage.Invalid, "BadRequest", format, args...)
	}
	switch {
	case public == "":
	case strings.EqualFold(public, accessEnabled):
		now.Closed = false
	case strings.EqualFold(public, accessDisabled):
		now.Closed = true
	default:
		return refuse("publicNetworkAccess must be Enabled or Disabled; got %q.", public)
	}
	if acls == nil {
		return now, nil
	}
	to := visage.NetworkRules{Set: true, Closed: now.Closed}
	switch {
	case acls.DefaultAction == "" || strings.EqualFold(acls.DefaultAction, actionAllow):
	case strings.EqualFold(acls.DefaultAction, actionDeny):
		to.Deny = true
	default:
		return refuse("networkAcls.defaultAction must be Allow or Deny; got %q.", acls.DefaultAction)
	}
	switch bypass := strings.TrimSpace(acls.Bypass); {
	case bypass == "" || strings.EqualFold(bypass, bypassServices):
	case strings.EqualFold(bypass, bypassNone):
		to.NoBypass = true
	default:
		return refuse("networkAcls.bypass must be AzureServices or None; got %q.", acls.Bypass)
	}
	if len(acls.VirtualNetworkRules) > 0 {
		return refuse(
			"Virtual network rules are not supported: leave networkAcls.virtualNetworkRules empty, and use " +
				"networkAcls.ipRules.")
	}
	for _, rule := range acls.IPRules {
		if !slices.Contains(to.Addresses, rule.Value) {
			to.Addresses = append(to.Addresses, rule.Value)
		}
	}
	return to, to.Check()
}
