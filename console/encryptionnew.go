package console

import (
	"errors"
	"fmt"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/keyvault"
)

// newKeyData is the page with the form that makes a vault and a key for a resource.
type newKeyData struct{ Form *form }

// mayCreateVaults reports whether the person may create vaults in the group.
func (v *visit) mayCreateVaults() bool { return v.may("Microsoft.KeyVault/vaults/write", v.c.group()) }

func (c *Console) newKeyPage(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	vault, err := c.freeVault(v, a)
	if err != nil {
		return nil, err
	}
	return v.newKeyPage(a, v.newKeyForm(a, vault)), nil
}

func (v *visit) newKeyPage(a account.Account, f *form) *view {
	return v.encryptionStep(a, "encryptionnew", v.text("encryption.new"), newKeyData{f})
}

func (v *visit) newKeyForm(a account.Account, vault string) *form {
	f := v.form(encryptionPath(a, "new"), v.text("encryption.new.submit"),
		&field{Name: "vault", Kind: "text", Label: v.text("encryption.new.vault"), Value: vault, Required: true,
			Max: 24, Code: true, Hint: v.text("encryption.new.vault.hint")},
		&field{Name: "key", Kind: "text", Label: v.text("encryption.new.key"), Value: "visage-key", Required: true,
			Max: 127, Code: true, Hint: v.text("encryption.new.key.hint")})
	f.Cancel = encryptionPath(a, "")
	return f
}

// freeVault suggests the name of a vault for a resource.
func (c *Console) freeVault(v *visit, a account.Account) (string, error) {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r == '-', r == '_', r == '.':
			return '-'
		}
		return -1
	}, strings.ToLower(a.Name))
	for strings.Contains(name, "--") {
		name = strings.ReplaceAll(name, "--", "-")
	}
	if name == "" || name[0] < 'a' || name[0] > 'z' {
		name = "v" + name
	}
	name = strings.Trim(name[:min(len(name), 18)], "-")
	for n := 1; n < 10; n++ {
		suggested := name + "-kv"
		if n > 1 {
			suggested = fmt.Sprintf("%s-kv%d", name, n)
		}
		_, err := c.cfg.Vaults.Find(v.Context(), suggested)
		if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.NotFound {
			return suggested, nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", nil
}

// newKey makes a vault that may protect a resource, and a key in it; then it leads to the check of that key. The person
// gets an access policy for the keys of the vault, as every creator of a vault needs one.
func (c *Console) newKey(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	name, key := strings.TrimSpace(v.field("vault")), strings.TrimSpace(v.field("key"))
	if !v.may("Microsoft.KeyVault/vaults/write", c.vaultScope(name)) {
		return nil, visage.Refuse(visage.Denied, "AuthorizationFailed",
			"You have no role that allows you to create key vaults. Ask the operator of the service for one.")
	}
	if err = keyvault.CheckKeyName(key); err == nil {
		_, err = c.cfg.Vaults.CreateVault(v.Context(), v.Caller(), keyvault.Vault{
			Name: name, Group: c.cfg.Group, Location: a.Location, Tenant: c.cfg.Tenant, PurgeProtection: true,
			Policies: []keyvault.AccessPolicy{{ObjectID: v.Principal.ObjectID, Keys: creatorPermissions}},
		})
	}
	if err != nil {
		f := v.newKeyForm(a, name)
		if !v.refused(f, err, map[string]string{
			"VaultNameNotValid": "vault", "VaultAlreadyExists": "vault", "BadParameter": "key",
		}) {
			return nil, err
		}
		return v.again(v.newKeyPage(a, f), f.Error), nil
	}
	chosen := choice{Address: c.cfg.VaultAddress(name), Name: key}
	_, err = c.cfg.Vaults.CreateKey(v.Context(), v.Caller(), keyvault.Ref{Vault: name, Name: key}, protectingKey())
	if err != nil { // the vault is there: its check offers to create the key
		said, ok := v.explain(err)
		if !ok {
			return nil, err
		}
		return c.keyCheckPage(v, a, chosen, said)
	}
	return v.done(chosen.path(a), "encryption.new.done", name, key), nil
}

// creatorPermissions are what the creator of a vault may do with its keys: manage them, and not use or purge them.
var creatorPermissions = []keyvault.Permission{
	keyvault.MayGet, keyvault.MayList, keyvault.MayCreate, keyvault.MayImport, keyvault.MayUpdate, keyvault.MayDelete,
	keyvault.MayRecover, keyvault.MayBackup, keyvault.MayRestore, keyvault.MayRotate, keyvault.MayGetRotationPolicy,
	keyvault.MaySetRotationPolicy,
}
