package armwire

import "encoding/json"

// NetworkACLs are network rules on the wire, of accounts and of vaults.
type NetworkACLs struct {
	Bypass        string   `json:"bypass,omitempty"`
	DefaultAction string   `json:"defaultAction"`
	IPRules       []IPRule `json:"ipRules"`
	// VirtualNetworkRules name virtual networks in Azure, which cannot be recognised here: they are always empty.
	VirtualNetworkRules []json.RawMessage `json:"virtualNetworkRules"`
}

// IPRule allows an address or a CIDR block.
type IPRule struct {
	Value string `json:"value"`
}
