package console

import (
	"math"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keyvault"
)

func (c *Console) deleteVaultKeyPage(v *visit) (*view, *form, error) {
	k, err := c.keyOfPath(v)
	if err != nil {
		return nil, nil, err
	}
	p, err := v.protectedBy(v.keyRef(k.Ref, true))
	if err != nil {
		return nil, nil, err
	}
	ref := wholeKey(k.Key)
	f := v.button(vaultKeyPath(ref, "delete"), v.text("vaultkey.delete"), "danger")
	f.Icon = "trash"
	means := []string{v.text("vaultkey.deleting.versions", len(k.versions)),
		v.text("vaultkey.deleting.days", k.Vault.RetentionDays)}
	if k.Vault.PurgeProtection {
		means = append(means, v.text("vault.delete.protected"))
	} else {
		means = append(means, v.text("vault.delete.unprotected"))
	}
	return v.askVaultKey(k.Key, v.text("vaultkey.deleting", k.Name), askData{
		Protected: p, Form: f, Consequences: means,
	}), f, nil
}

func (c *Console) askDeleteVaultKey(v *visit) (*view, error) {
	w, _, err := c.deleteVaultKeyPage(v)
	return w, err
}

func (c *Console) deleteVaultKey(v *visit) (*view, error) {
	k, refused := c.cfg.Vaults.DeleteKey(v.Context(), v.Caller(), v.pathRef())
	if refused == nil {
		return v.done(vaultPagePath(k.Vault.Name, "deletedkeys"), "vaultkey.deleted", k.Name,
			v.lang.when(k.PurgeAt)), nil
	}
	w, f, err := c.deleteVaultKeyPage(v)
	if err != nil {
		return nil, refused
	}
	return v.askAgain(w, f, refused)
}

// deletedVaultKeys lists the deleted keys of a vault.
func (c *Console) deletedVaultKeys(v *visit) (*view, error) {
	vault, err := c.cfg.Vaults.Vault(v.Context(), v.Path("vault"))
	if err != nil {
		return nil, err
	}
	who, _, err := v.vaultKeyReader(vault.Name)
	if err != nil {
		return nil, err
	}
	all, err := c.cfg.Vaults.DeletedKeys(v.Context(), who, vault.Name, "", math.MaxInt)
	if err != nil {
		return nil, err
	}
	recovers, err := v.permitted(vault.Name, keyvault.MayRecover)
	if err != nil {
		return nil, err
	}
	purges, err := v.permitted(vault.Name, keyvault.MayPurge)
	if err != nil {
		return nil, err
	}
	t := tabled(v, vaultPagePath(vault.Name, "deletedkeys"), all.Keys, "name", []order[keyvault.Key]{
		{"name", "vaultkey.name", byText(func(k keyvault.Key) string { return k.Name }), false},
		{"deleted", "vault.deleted.at", byTime(func(k keyvault.Key) time.Time { return k.Deleted }), false},
		{"purge", "vault.deleted.purge", byTime(func(k keyvault.Key) time.Time { return k.PurgeAt }), false},
	})
	data := deletedInVaults{Columns: t.Columns, More: t.More}
	for _, k := range t.Rows {
		at := vaultPagePath(vault.Name, "deletedkeys/"+k.Name)
		row := deletedRowOfVault{Name: k.Name, Deleted: k.Deleted, PurgeAt: k.PurgeAt, Kept: vault.PurgeProtection}
		if recovers {
			row.Recover = v.button(at+"/recover", v.text("vault.recover"), "plain")
		}
		if purges && !vault.PurgeProtection {
			row.Purge = at + "/purge"
		}
		data.Rows = append(data.Rows, row)
	}
	return v.vaultPage("vaultkeysdeleted", "deletedkeys", vault, data), nil
}

func (c *Console) recoverVaultKey(v *visit) (*view, error) {
	k, err := c.cfg.Vaults.RecoverKey(v.Context(), v.Caller(), v.pathRef())
	if err != nil {
		return nil, err
	}
	return v.done(vaultKeyPath(wholeKey(k), ""), "vaultkey.recovered", k.Name), nil
}

func (c *Console) purgeVaultKeyPage(v *visit) (*view, *form, error) {
	k, err := c.cfg.Vaults.DeletedKey(v.Context(), v.Caller(), v.pathRef())
	if err != nil {
		return nil, nil, err
	}
	p, err := v.protectedBy(visage.KeyRef{Vault: v.keyStore(k.Vault.Name), Name: k.Name})
	if err != nil {
		return nil, nil, err
	}
	f := v.button(vaultPagePath(k.Vault.Name, "deletedkeys/"+k.Name+"/purge"), v.text("vaultkey.purge"), "danger")
	f.Icon, f.Cancel = "trash", vaultPagePath(k.Vault.Name, "deletedkeys")
	data := askData{Warn: []string{v.text("vaultkey.purging.warn")}, Protected: p, Form: f}
	if k.Vault.PurgeProtection {
		data.Form, data.Consequences = nil, []string{v.text("vault.purging.protected", v.lang.when(k.PurgeAt))}
	}
	w := v.vaultPage("vaultask", "deletedkeys", k.Vault, data)
	w.crumbs = append(w.crumbs, link{v.text("vault.tab.deletedkeys"), vaultPagePath(k.Vault.Name, "deletedkeys")})
	w.title = v.text("vaultkey.purging", k.Name)
	return w, data.Form, nil
}

func (c *Console) askPurgeVaultKey(v *visit) (*view, error) {
	w, _, err := c.purgeVaultKeyPage(v)
	return w, err
}

func (c *Console) purgeVaultKey(v *visit) (*view, error) {
	refused := c.cfg.Vaults.PurgeKey(v.Context(), v.Caller(), v.pathRef())
	if refused == nil {
		return v.done(vaultPagePath(v.Path("vault"), "deletedkeys"), "vaultkey.purged", v.Path("key")), nil
	}
	w, f, err := c.purgeVaultKeyPage(v)
	if err != nil {
		return nil, refused
	}
	return v.askAgain(w, f, refused)
}
