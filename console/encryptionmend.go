package console

import (
	"errors"
	"slices"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/keyvault"
)

// mendForm is the button that mends a precondition, with the fields that its operation needs.
func (v *visit) mendForm(a account.Account, chosen choice, of account.Precondition, r account.Remedy) *form {
	f := v.button(encryptionPath(a, "mend"), v.text("encryption.mend."+string(r.Kind)), "plain", chosen.hidden()...)
	for _, x := range []*field{
		{Name: "precondition", Value: string(of)}, {Name: "remedy", Value: string(r.Kind)},
		{Name: "request", Value: r.Request},
	} {
		x.Kind = "hidden"
		f.Fields = append(f.Fields, x)
	}
	switch r.Kind {
	case account.RequestAccess:
		f.Fields = append(f.Fields,
			&field{Name: "contact", Kind: "text", Label: v.text("encryption.contact"), Required: true, Max: 256,
				Autocomplete: "email"},
			&field{Name: "reason", Kind: "text", Label: v.text("encryption.reason"), Required: true, Max: 1024})
	case account.ChangeKeyDates:
		f.Fields = append(f.Fields,
			&field{Name: "notbefore", Kind: "date", Label: v.text("encryption.notbefore")},
			&field{Name: "expires", Kind: "date", Label: v.text("encryption.expires")})
	}
	return f
}

// mend does what a button of the check offers, after looking again whether the person may do it and it is needed.
func (c *Console) mend(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	chosen := v.choice()
	found, err := c.cfg.Accounts.CheckProtection(v.Context(), v.Caller(), a.Name, chosen.protection())
	if err != nil {
		return nil, err
	}
	of, kind := account.Precondition(v.field("precondition")), account.RemedyKind(v.field("remedy"))
	i := slices.IndexFunc(found.Findings, func(f account.Finding) bool { return f.Precondition == of })
	if i < 0 {
		return nil, visage.Refuse(visage.Invalid, "InvalidForm", "The form names no precondition: open the page again.")
	}
	finding := found.Findings[i]
	if finding.State == account.Met || finding.State == account.WillBeMet {
		return v.done(chosen.path(a), "encryption.mend.needless"), nil
	}
	j := slices.IndexFunc(finding.Remedies, func(r account.Remedy) bool {
		return r.Kind == kind && r.Request == v.field("request")
	})
	if j < 0 && kind == account.RequestAccess {
		asked, err := c.askedFor(v, a)
		if err != nil {
			return nil, err
		}
		if asked { // the form was sent twice
			return v.done(chosen.path(a), "encryption.mended."+string(kind)), nil
		}
	}
	if j < 0 {
		return nil, visage.Refuse(visage.Denied, "AuthorizationFailed",
			"You have no role that allows this. Ask an owner of the vault or the operator of the service for one.")
	}
	if err := c.remedy(v, a, finding.Remedies[j]); err != nil {
		said, ok := v.explain(err)
		if !ok {
			return nil, err
		}
		return c.keyCheckPage(v, a, chosen, said)
	}
	return v.done(chosen.path(a), "encryption.mended."+string(kind)), nil
}

// askedFor reports whether a request for access in the region of a resource waits.
func (c *Console) askedFor(v *visit, a account.Account) (bool, error) {
	all, err := c.cfg.Accounts.Access().Requests(v.Context())
	return slices.ContainsFunc(all, func(r account.AccessRequest) bool {
		return (r.State == account.RequestSubmitted || r.State == account.RequestQueued) &&
			(r.Asked.Region == "" || visage.SameLocation(r.Asked.Region, a.Location))
	}), err
}

// remedy does one operation, which is the person's own: CheckProtection has found that they may do it. It is none of
// those that saving the key does by itself: to turn the identity on, and to give it access.
func (c *Console) remedy(v *visit, a account.Account, r account.Remedy) error {
	ctx, by := v.Context(), v.Caller()
	key := keyvault.Ref{Vault: r.Vault, Name: r.Key, Version: r.Version}
	var err error
	switch r.Kind {
	case account.RequestAccess:
		_, err = c.cfg.Accounts.Access().Submit(ctx, by, requestName(a), account.Asked{
			Service: "Face", Region: r.Region, Contact: v.field("contact"), Reason: v.field("reason"),
		})
	case account.ApproveAccess:
		_, err = c.cfg.Accounts.Access().Approve(ctx, by, r.Request)
	case account.UnlockResource:
		err = c.cfg.Accounts.Unlock(ctx, by, r.Resource)
	case account.RecoverVault:
		_, err = c.cfg.Vaults.RecoverVault(ctx, by, r.Vault)
	case account.SwitchPurgeProtectionOn:
		err = c.changeVault(v, r.Vault, func(vault *keyvault.Vault) { vault.PurgeProtection = true })
	case account.AllowTrustedServices:
		err = c.changeVault(v, r.Vault, func(vault *keyvault.Vault) { vault.Network.NoBypass = false })
	case account.CreateKey:
		_, err = c.cfg.Vaults.CreateKey(ctx, by, key, protectingKey())
	case account.RecoverKey:
		_, err = c.cfg.Vaults.RecoverKey(ctx, by, key)
	case account.EnableKey:
		enabled := true
		_, err = c.cfg.Vaults.UpdateKey(ctx, by, key, keyvault.KeyChange{Enabled: &enabled})
	case account.ChangeKeyDates:
		var change keyvault.KeyChange
		if change, err = v.keyDates(); err == nil {
			_, err = c.cfg.Vaults.UpdateKey(ctx, by, key, change)
		}
	case account.AllowKeyOperations:
		var change keyvault.KeyChange
		for _, op := range r.Operations {
			change.Operations = append(change.Operations, keyvault.Operation(op))
		}
		_, err = c.cfg.Vaults.UpdateKey(ctx, by, key, change)
	default:
		err = errors.New("mend a precondition: there is no operation " + string(r.Kind))
	}
	return err
}

// protectingKey is a key that can do nothing but protect resources.
func protectingKey() keyvault.NewKey {
	return keyvault.NewKey{Type: "RSA", Bits: 2048, Operations: []keyvault.Operation{keyvault.Wrap, keyvault.Unwrap},
		Attributes: keyvault.Attributes{Enabled: true}}
}

// requestName returns a name for an access request of which there is none: that of the resource and something random.
func requestName(a account.Account) string {
	return a.Name[:min(len(a.Name), 55)] + "-" + visage.NewUUID().String()[:8]
}

func (c *Console) changeVault(v *visit, name string, change func(*keyvault.Vault)) error {
	_, err := c.cfg.Vaults.UpdateVault(v.Context(), v.Caller(), name,
		func(now keyvault.Vault) (keyvault.Vault, error) {
			change(&now)
			return now, nil
		})
	return err
}
