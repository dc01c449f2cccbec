package console

import (
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keyvault"
)

// networkData is the page with the network rules of a vault.
type networkData struct {
	Facts     []fact
	Addresses []string
	Own       string // the address of the person's browser
	Outside   bool   // the rules do not admit it
	Form      *form  // nil: the person may not change them
	Protected *protected
}

// Values of the field that says who is admitted.
const (
	fromAnywhere  = "all"
	fromAddresses = "selected"
	fromNowhere   = "none"
)

func networkChoice(n visage.NetworkRules) string {
	switch {
	case n.Closed:
		return fromNowhere
	case n.Deny:
		return fromAddresses
	}
	return fromAnywhere
}

func (c *Console) vaultNetwork(v *visit) (*view, error) {
	vault, err := c.cfg.Vaults.Vault(v.Context(), v.Path("vault"))
	if err != nil {
		return nil, err
	}
	return v.vaultPage("vaultnetwork", "network", vault, c.networkData(v, vault)), nil
}

func (c *Console) networkData(v *visit, vault keyvault.Vault) *networkData {
	n := vault.Network
	texts := map[string]string{fromAnywhere: v.text("vault.network.all"), fromNowhere: v.text("vault.network.none"),
		fromAddresses: v.text("vault.network.selected")}
	bypass := v.text("vault.network.bypass.yes")
	if n.NoBypass {
		bypass = v.text("vault.network.bypass.no")
	}
	d := &networkData{
		Facts: []fact{
			{v.text("vault.network.from"), texts[networkChoice(n)], false},
			{v.text("vault.network.bypass"), bypass, false},
		},
		Addresses: n.Addresses, Own: address(v.ClientAddress()), Outside: !n.Admit(v.ClientAddress()),
	}
	if !v.mayOnVault(vault.Name, "write") {
		return d
	}
	d.Form = v.form(vaultPagePath(vault.Name, "network"), v.text("vault.network.save"), vaultRevision(vault),
		&field{Name: "from", Kind: "radio", Label: v.text("vault.network.from"), Value: networkChoice(n),
			Required: true, Options: []option{
				{Value: fromAnywhere, Text: texts[fromAnywhere]},
				{Value: fromAddresses, Text: texts[fromAddresses], Hint: v.text("vault.network.selected.hint")},
				{Value: fromNowhere, Text: texts[fromNowhere], Hint: v.text("vault.network.none.hint")},
			}},
		&field{Name: "addresses", Kind: "textarea", Label: v.text("vault.network.addresses"), Code: true,
			Hint: v.text("vault.network.addresses.hint", d.Own), Value: strings.Join(n.Addresses, "\n")},
		&field{Name: "bypass", Kind: "checkbox", Label: v.text("vault.network.bypass.yes"), Checked: !n.NoBypass,
			Hint: v.text("vault.network.bypass.hint")},
	)
	return d
}

func (c *Console) changeVaultNetwork(v *visit) (*view, error) {
	to := visage.NetworkRules{Set: true, NoBypass: !v.checked("bypass")}
	for line := range strings.FieldsFuncSeq(v.field("addresses"), func(r rune) bool {
		return r == '\n' || r == ',' || r == ' ' || r == '\t'
	}) {
		to.Addresses = append(to.Addresses, line)
	}
	switch v.field("from") {
	case fromNowhere:
		to.Closed, to.Deny = true, true
	case fromAddresses:
		to.Deny = true
	}
	refused := to.Check()
	var p *protected
	if refused == nil {
		p, refused = v.wouldLock(!to.AdmitService(), visage.KeyRef{Vault: v.keyStore(v.Path("vault"))})
	}
	if refused == nil {
		_, refused = c.updateVault(v, func(now keyvault.Vault) (keyvault.Vault, error) {
			now.Network = to
			return now, nil
		})
	}
	if refused == nil {
		return v.done(vaultPagePath(v.Path("vault"), "network"), "vault.network.saved"), nil
	}
	vault, err := c.cfg.Vaults.Vault(v.Context(), v.Path("vault"))
	if err != nil {
		return nil, err
	}
	data := c.networkData(v, vault)
	data.Protected = p
	v.mayConfirm(data.Form, p)
	if !v.refused(data.Form, refused, map[string]string{"BadRequest": "addresses"}) {
		return nil, refused
	}
	return v.again(v.vaultPage("vaultnetwork", "network", vault, data), data.Form.Error), nil
}
