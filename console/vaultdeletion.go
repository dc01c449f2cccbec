package console

import (
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keyvault"
)

// deletedRowOfVault is a deleted vault or key in a table.
type deletedRowOfVault struct {
	Name, Location string
	Deleted        time.Time
	PurgeAt        time.Time
	Recover        *form  // nil: the person may not
	Purge          string // the address of the page that purges it; empty: the person may not
	Kept           bool   // nobody may before PurgeAt
}

// deletedInVaults is a list of what is deleted.
type deletedInVaults struct {
	Rows    []deletedRowOfVault
	Columns []column
	More    string // the address of the next page; empty: this is the last
}

func (c *Console) deletedVaults(v *visit) (*view, error) {
	all, err := c.cfg.Vaults.DeletedVaults(v.Context())
	if err != nil {
		return nil, err
	}
	var data deletedInVaults
	t := tabled(v, prefix+"/vaults/-/deleted", all, "name", []order[keyvault.Vault]{
		{"name", "vault.name", byText(func(x keyvault.Vault) string { return x.Name }), false},
		{"location", "vault.location", byText(func(x keyvault.Vault) string { return x.Location }), false},
		{"deleted", "vault.deleted.at", byTime(func(x keyvault.Vault) time.Time { return x.Deleted }), false},
		{"purge", "vault.deleted.purge", byTime(func(x keyvault.Vault) time.Time { return x.PurgeAt }), false},
	})
	data.Columns, data.More = t.Columns, t.More
	purges := v.may(purgeVaults, c.subscription())
	for _, one := range t.Rows {
		row := deletedRowOfVault{Name: one.Name, Location: one.Location, Deleted: one.Deleted,
			PurgeAt: one.PurgeAt, Kept: one.PurgeProtection}
		at := vaultPagePath("-", "deleted/"+one.Name)
		if v.mayOnVault(one.Name, "write") {
			row.Recover = v.button(at+"/recover", v.text("vault.recover"), "plain")
		}
		if purges && !one.PurgeProtection {
			row.Purge = at + "/purge"
		}
		data.Rows = append(data.Rows, row)
	}
	w := v.page("vaultsdeleted", v.text("vault.deleted"), data)
	w.crumbs = []link{{v.text("nav.vaults"), prefix + "/vaults"}}
	return w, nil
}

func (c *Console) recoverVault(v *visit) (*view, error) {
	vault, err := c.cfg.Vaults.RecoverVault(v.Context(), v.Caller(), v.Path("vault"))
	if err != nil {
		return nil, err
	}
	to := vaultPagePath(vault.Name, "")
	if !v.mayOnVault(vault.Name, "read") {
		to = prefix + "/vaults"
	}
	return v.done(to, "vault.recovered", vault.Name), nil
}

func (c *Console) purgeVaultPage(v *visit) (*view, *form, error) {
	vault, err := c.cfg.Vaults.DeletedVault(v.Context(), v.Path("vault"))
	if err != nil {
		return nil, nil, err
	}
	p, err := v.protectedBy(visage.KeyRef{Vault: v.keyStore(vault.Name)})
	if err != nil {
		return nil, nil, err
	}
	f := v.button(vaultPagePath("-", "deleted/"+vault.Name+"/purge"), v.text("vault.purging.do", vault.Name), "danger")
	f.Icon, f.Cancel = "trash", prefix+"/vaults/-/deleted"
	data := askData{Warn: []string{v.text("vault.purging.warn")}, Protected: p, Form: f}
	if vault.PurgeProtection {
		data.Form, data.Consequences = nil, []string{v.text("vault.purging.protected", v.lang.when(vault.PurgeAt))}
	}
	w := v.page("vaultask", v.text("vault.purging.title", vault.Name), data)
	w.crumbs = []link{{v.text("nav.vaults"), prefix + "/vaults"}, {v.text("vault.deleted"),
		prefix + "/vaults/-/deleted"}}
	return w, data.Form, nil
}

func (c *Console) askPurgeVault(v *visit) (*view, error) {
	w, _, err := c.purgeVaultPage(v)
	return w, err
}

func (c *Console) purgeVault(v *visit) (*view, error) {
	refused := c.cfg.Vaults.PurgeVault(v.Context(), v.Caller(), v.Path("vault"))
	if refused == nil {
		return v.done(prefix+"/vaults/-/deleted", "vault.purged", v.Path("vault")), nil
	}
	w, f, err := c.purgeVaultPage(v)
	if err != nil {
		return nil, err
	}
	return v.askAgain(w, f, refused)
}

func (c *Console) deleteVaultPage(v *visit) (*view, *form, error) {
	vault, err := c.cfg.Vaults.Vault(v.Context(), v.Path("vault"))
	if err != nil {
		return nil, nil, err
	}
	p, err := v.protectedBy(visage.KeyRef{Vault: v.keyStore(vault.Name)})
	if err != nil {
		return nil, nil, err
	}
	f := v.button(vaultPagePath(vault.Name, "delete"), v.text("vault.delete.do", vault.Name), "danger")
	f.Icon = "trash"
	return v.askVault(vault, v.text("vault.delete.title", vault.Name), askData{
		Protected: p, Form: f, Consequences: v.vaultDeletion(vault),
	}), f, nil
}

// vaultDeletion says what the deletion of a vault means.
func (v *visit) vaultDeletion(vault keyvault.Vault) []string {
	all := []string{v.text("vault.delete.keys"), v.text("vault.delete.days", vault.RetentionDays)}
	if vault.PurgeProtection {
		return append(all, v.text("vault.delete.protected"))
	}
	return append(all, v.text("vault.delete.unprotected"))
}

func (c *Console) askDeleteVault(v *visit) (*view, error) {
	w, _, err := c.deleteVaultPage(v)
	return w, err
}

func (c *Console) deleteVault(v *visit) (*view, error) {
	vault, refused := c.cfg.Vaults.DeleteVault(v.Context(), v.Caller(), v.Path("vault"))
	if refused == nil {
		to := prefix + "/vaults/-/deleted"
		if !v.may("Microsoft.KeyVault/deletedVaults/read", c.subscription()) {
			to = prefix + "/vaults"
		}
		return v.done(to, "vault.deleted.done", vault.Name, v.lang.when(vault.PurgeAt)), nil
	}
	w, f, err := c.deleteVaultPage(v)
	if err != nil {
		return nil, err
	}
	return v.askAgain(w, f, refused)
}
