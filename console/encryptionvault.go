package console

import (
	"strings"

	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/keyvault"
)

// vaultChoiceData is the page on which a person chooses a vault, and then a key in it.
type vaultChoiceData struct {
	Action   string
	Vault    string // the chosen one; empty: it is to be chosen
	Choices  *field // the vaults or keys, with why some cannot be chosen; nil: there are none
	Versions *field // how versions are taken
	More     string
	Back     string // to choose another vault
	New      string // to create a vault and a key; empty: not offered
	NewKey   string // the page of the vault on which keys are created; empty: not offered
}

// chooseVault lets a person choose a vault, then a key in it, and leads to the check of that key.
func (c *Console) chooseVault(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	d := &vaultChoiceData{Action: encryptionPath(a, "vault"), Vault: v.field("vault")}
	if v.mayCreateVaults() {
		d.New = encryptionPath(a, "new")
	}
	if d.Vault == "" {
		if err := c.offerVaults(v, a, d); err != nil {
			return nil, err
		}
		return v.encryptionStep(a, "encryptionvault", v.text("encryption.vault.choose"), d), nil
	}
	if v.field("name") != "" {
		return c.chosenKey(v, a)
	}
	d.Back = encryptionPath(a, "vault")
	if err := c.offerKeys(v, a, d); err != nil {
		return nil, err
	}
	return v.encryptionStep(a, "encryptionvault", v.text("encryption.key.choose"), d), nil
}

// offerVaults lists the vaults, and says why the keys of some cannot protect the resource.
func (c *Console) offerVaults(v *visit, a account.Account, d *vaultChoiceData) error {
	found, next, err := c.cfg.Accounts.VaultChoices(v.Context(), v.Caller(), a.Name, v.field("after"), rows)
	if err != nil {
		return err
	}
	d.Choices = &field{Name: "vault", Kind: "radio", Label: v.text("encryption.vault"), Required: true}
	for _, choice := range found {
		o := option{Value: choice.Name, Text: choice.Name, Hint: choice.Location, Disabled: true}
		switch {
		case len(choice.Unmet) > 0:
			o.Hint = v.reasons(choice.Unmet)
		case !choice.KeysSeen:
			o.Hint = v.text("encryption.vault.unseen")
		default:
			o.Disabled = false
		}
		d.Choices.choose(o)
	}
	if next != "" {
		d.More = encryptionPath(a, "vault", "after", next)
	}
	return nil
}

// offerKeys lists the keys of the chosen vault, and says why some cannot protect the resource.
func (c *Console) offerKeys(v *visit, a account.Account, d *vaultChoiceData) error {
	found, next, err := c.cfg.Accounts.KeyChoices(v.Context(), v.Caller(), d.Vault, v.field("after"), rows)
	if err != nil {
		return err
	}
	d.Choices = &field{Name: "name", Kind: "radio", Label: v.text("encryption.key"), Required: true}
	for _, choice := range found {
		o := option{Value: choice.Name, Text: choice.Name, Hint: v.text("encryption.version.newest", choice.Version)}
		if len(choice.Unmet) > 0 {
			o.Hint, o.Disabled = v.reasons(choice.Unmet), true
		}
		d.Choices.choose(o)
	}
	d.Versions = &field{Name: "versions", Kind: "radio", Label: v.text("encryption.version"), Value: "follow",
		Options: []option{
			{Value: "follow", Text: v.text("encryption.version.follow")},
			{Value: "pin", Text: v.text("encryption.version.pin"), Hint: v.text("encryption.version.pin.hint")},
		}}
	if next != "" {
		d.More = encryptionPath(a, "vault", "vault", d.Vault, "after", next)
	}
	d.NewKey = keyPlace(d.Vault, "")
	return nil
}

// choose adds an option; the first that can be chosen is.
func (f *field) choose(o option) {
	if f.Value == "" && !o.Disabled {
		f.Value = o.Value
	}
	f.Options = append(f.Options, o)
}

// reasons says which preconditions are not met.
func (v *visit) reasons(unmet []account.Finding) string {
	var all []string
	said := map[string]bool{}
	for _, f := range unmet {
		if code := f.Refusal.Code; code != unsupportedKey || !said[code] { // its type says it all
			why, _ := v.explain(f.Refusal)
			all = append(all, why.Sentence)
		}
		said[f.Refusal.Code] = true
	}
	return strings.Join(all, " ")
}

// chosenKey leads to the check of the chosen key, in its newest version if that shall be kept.
func (c *Console) chosenKey(v *visit, a account.Account) (*view, error) {
	chosen := v.choice()
	if v.field("versions") == "pin" {
		ref := keyvault.Ref{Vault: v.field("vault"), Name: v.field("name")}
		key, err := c.cfg.Vaults.Key(v.Context(), v.keyViewer(ref.Vault), ref)
		if err != nil {
			return nil, err
		}
		chosen.Version = key.Version
	}
	return v.redirect(chosen.path(a)), nil
}
