package console

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keyvault"
)

// maxBackupForm limits the form with the backup of a key, in bytes: the vault takes backups of 4 MiB.
const maxBackupForm = 6 << 20

// vaultFormPage shows a page of a vault with a form about its keys.
func (v *visit) vaultFormPage(vault keyvault.Vault, template, title string, data formPage) *view {
	data.Form.Cancel = vaultPagePath(vault.Name, "keys")
	w := v.vaultPage(template, "keys", vault, data)
	w.crumbs = append(w.crumbs, link{v.text("vault.tab.keys"), vaultPagePath(vault.Name, "keys")})
	w.title = title
	return w
}

// newKeyFields are the fields that generated and imported keys share.
func (v *visit) newKeyFields() []*field {
	all := []*field{
		{Name: "enabled", Kind: "checkbox", Label: v.text("vaultkey.new.enabled"), Checked: true},
		v.dateField("notbefore", v.text("vaultkey.notbefore"), time.Time{}),
		v.dateField("expires", v.text("vaultkey.expires"), time.Time{}),
	}
	all = append(all, v.operationFields(nil, vaultKeyOperations)...)
	return append(all, v.tagsField(nil))
}

func (v *visit) nameField(name string) *field {
	return &field{Name: "name", Kind: "text", Label: v.text("vaultkey.name"), Hint: v.text("vaultkey.name.hint"),
		Required: true, Max: 127, Code: true, Value: name}
}

func (c *Console) newVaultKeyPage(v *visit) (*view, *form, error) {
	vault, err := c.cfg.Vaults.Vault(v.Context(), v.Path("vault"))
	if err != nil {
		return nil, nil, err
	}
	kinds := []option{
		{Value: "RSA 2048", Text: "RSA 2048", Hint: v.text("vaultkey.new.cmk")}, {Value: "RSA 3072", Text: "RSA 3072"},
		{Value: "RSA 4096", Text: "RSA 4096"}, {Value: "EC P-256", Text: "EC P-256"},
		{Value: "EC P-384", Text: "EC P-384"}, {Value: "EC P-521", Text: "EC P-521"},
	}
	if vault.Premium {
		kinds = append(kinds, option{Value: "RSA-HSM 2048", Text: "RSA-HSM 2048"},
			option{Value: "RSA-HSM 3072", Text: "RSA-HSM 3072"}, option{Value: "RSA-HSM 4096", Text: "RSA-HSM 4096"},
			option{Value: "EC-HSM P-256", Text: "EC-HSM P-256"}, option{Value: "EC-HSM P-384", Text: "EC-HSM P-384"},
			option{Value: "EC-HSM P-521", Text: "EC-HSM P-521"})
	}
	fields := append([]*field{
		v.nameField(""),
		{Name: "kind", Kind: "select", Label: v.text("vaultkey.kind"), Value: "RSA 2048", Options: kinds,
			Required: true},
		{Name: "exchange", Kind: "checkbox", Label: v.text("vaultkey.new.exchange"),
			Hint: v.text("vaultkey.new.exchange.hint"), Checked: v.field("exchange") != ""},
	}, v.newKeyFields()...)
	f := v.form(vaultPagePath(vault.Name, "newkey"), v.text("vaultkey.new"), fields...)
	return v.vaultFormPage(vault, "vaultkeyform", v.text("vaultkey.new"), formPage{
		Intro: []string{v.text("vaultkey.new.intro")}, Form: f,
	}), f, nil
}

func (c *Console) newVaultKey(v *visit) (*view, error) {
	w, _, err := c.newVaultKeyPage(v)
	return w, err
}

// newKeyOf reads what a form says about a new key.
func (v *visit) newKeyOf() (name string, a keyvault.Attributes, tags map[string]string, err error) {
	name = strings.TrimSpace(v.field("name"))
	a.Enabled = v.checked("enabled")
	if name == "" {
		return name, a, nil, visage.Refuse(visage.Invalid, "KeyNameRequired",
			"A key needs a name: write 1 to 127 letters, digits and hyphens.")
	}
	if a.NotBefore, err = v.typedDate("notbefore", a.NotBefore); err != nil {
		return name, a, nil, err
	}
	if a.Expires, err = v.typedDate("expires", a.Expires); err != nil {
		return name, a, nil, err
	}
	tags, err = parseTags(v.field("tags"))
	return name, a, tags, err
}

// keyCreator is the caller as whom a key is created: the person; or, for a new name where the vault does not permit it,
// the person with what a role of the management plane allows.
func (c *Console) keyCreator(v *visit, ref keyvault.Ref) (visage.Caller, error) {
	who := v.Caller()
	permitted, err := v.permitted(ref.Vault, keyvault.MayCreate)
	if err != nil || permitted || !v.mayOnVault(ref.Vault, "keys/write") {
		return who, err
	}
	manager := who
	manager.Manager = true
	_, err = c.cfg.Vaults.Key(v.Context(), manager, ref)
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Code == "KeyNotFound" {
		return manager, nil
	}
	if err == nil {
		err = visage.Refuse(visage.Conflict, "KeyAlreadyExists", "The vault has a key of this name, and you may not "+
			"make versions of keys here: choose another name, or ask for the permission create.")
	}
	return who, err
}

func (c *Console) generateVaultKey(v *visit) (*view, error) {
	k, refused := c.makeVaultKey(v)
	if refused == nil {
		return v.done(vaultKeyPath(wholeKey(k), ""), "vaultkey.made", k.Name), nil
	}
	w, f, err := c.newVaultKeyPage(v)
	return v.newKeyRefused(w, f, err, refused)
}

// newKeyRefused shows the form of a new key again.
func (v *visit) newKeyRefused(w *view, f *form, err, refused error) (*view, error) {
	if err != nil {
		return nil, err
	}
	fields := keyFields(map[string]string{
		"KeyNameRequired": "name", "KeyAlreadyExists": "name", "Conflict": "name",
		"PrivateKeyMissing": "pasted", "PrivateKeyUnreadable": "pasted", "PrivateKeyEncrypted": "pasted",
		"PrivateKeyAmbiguous": "pasted", "PrivateKeyUnsupported": "pasted", "BackupMissing": "backup",
		"WrappedKeyMissing": "blob",
	})
	if !v.refused(f, refused, fields) {
		return nil, refused
	}
	return v.again(w, f.Error), nil
}

func (c *Console) makeVaultKey(v *visit) (keyvault.Key, error) {
	name, attributes, tags, err := v.newKeyOf()
	if err != nil {
		return keyvault.Key{}, err
	}
	ref := keyvault.Ref{Vault: v.Path("vault"), Name: name}
	want := keyvault.NewKey{Attributes: attributes, Tags: tags, Operations: v.tickedOperations()}
	var of string
	if v.checked("exchange") {
		want.Operations = append(want.Operations, keyvault.Import)
	}
	want.Type, of, _ = strings.Cut(v.field("kind"), " ")
	if bits, err := strconv.Atoi(of); err == nil {
		want.Bits = bits
	} else {
		want.Curve = of
	}
	who, err := c.keyCreator(v, ref)
	if err != nil {
		return keyvault.Key{}, err
	}
	return c.cfg.Vaults.CreateKey(v.Context(), who, ref, want)
}

func (c *Console) importPage(v *visit) (*view, *form, error) {
	vault, err := c.cfg.Vaults.Vault(v.Context(), v.Path("vault"))
	if err != nil {
		return nil, nil, err
	}
	fields := []*field{
		v.nameField(""),
		{Name: "file", Kind: "file", Label: v.text("vaultkey.import.file"), Hint: v.text("vaultkey.import.file.hint"),
			Accept: ".pem,.key,.json,.jwk,.der,.p8,application/json,application/x-pem-file"},
		{Name: "pasted", Kind: "textarea", Label: v.text("vaultkey.import.pasted"),
			Hint: v.text("vaultkey.import.pasted.hint"), Code: true},
	}
	if vault.Premium {
		fields = append(fields, &field{Name: "hsm", Kind: "checkbox", Label: v.text("vaultkey.import.hsm")})
	}
	fields = append(fields, v.newKeyFields()...)
	f := v.form(vaultPagePath(vault.Name, "importkey"), v.text("vaultkey.import"), fields...)
	return v.vaultFormPage(vault, "vaultkeyform", v.text("vaultkey.import"), formPage{
		Intro: []string{v.text("vaultkey.import.intro"), v.text("vaultkey.import.safe")}, Form: f,
	}), f, nil
}

func (c *Console) newImport(v *visit) (*view, error) {
	w, _, err := c.importPage(v)
	return w, err
}

// takeSecret takes a private key out of what was typed, so that no page can show it again; a file goes before text.
func (v *visit) takeSecret(file, pasted string) []byte {
	secret := []byte(v.typed.Get(pasted))
	v.typed.Del(pasted)
	for _, f := range v.files {
		if f.field == file && len(f.data) > 0 {
			clear(secret)
			secret = f.data
		}
	}
	return secret
}

func (c *Console) importVaultKey(v *visit) (*view, error) {
	secret := v.takeSecret("file", "pasted")
	defer clear(secret)
	k, refused := c.bringVaultKey(v, secret)
	if refused == nil {
		return v.done(vaultKeyPath(wholeKey(k), ""), "vaultkey.imported", k.Name), nil
	}
	w, f, err := c.importPage(v)
	return v.newKeyRefused(w, f, err, refused)
}

func (c *Console) bringVaultKey(v *visit, secret []byte) (keyvault.Key, error) {
	name, attributes, tags, err := v.newKeyOf()
	if err != nil {
		return keyvault.Key{}, err
	}
	ref := keyvault.Ref{Vault: v.Path("vault"), Name: name}
	key, err := keyvault.ReadPrivateKey(secret)
	if err != nil {
		return keyvault.Key{}, err
	}
	defer key.Wipe()
	return c.cfg.Vaults.ImportKey(v.Context(), v.Caller(), ref, keyvault.ImportedKey{
		JWK: key, HSM: v.checked("hsm"), Operations: v.tickedOperations(), Attributes: attributes, Tags: tags,
	})
}

func (c *Console) restorePage(v *visit) (*view, *form, error) {
	vault, err := c.cfg.Vaults.Vault(v.Context(), v.Path("vault"))
	if err != nil {
		return nil, nil, err
	}
	f := v.form(vaultPagePath(vault.Name, "restorekey"), v.text("vaultkey.restore"),
		&field{Name: "backup", Kind: "file", Label: v.text("vaultkey.restore.file"), Required: true,
			Hint: v.text("vaultkey.restore.file.hint"), Accept: ".keybackup"})
	return v.vaultFormPage(vault, "vaultform", v.text("vaultkey.restore"), formPage{
		Intro: []string{v.text("vaultkey.restore.intro")}, Form: f,
	}), f, nil
}

func (c *Console) newRestore(v *visit) (*view, error) {
	w, _, err := c.restorePage(v)
	return w, err
}

func (c *Console) restoreVaultKey(v *visit) (*view, error) {
	var blob []byte
	for _, f := range v.files {
		if f.field == "backup" {
			blob = f.data
		}
	}
	var k keyvault.Key
	refused := visage.Refuse(visage.Invalid, "BackupMissing", "There is no backup: choose the file that you "+
		"downloaded from the page of the key.")
	if len(blob) > 0 {
		var err error
		if k, err = c.cfg.Vaults.RestoreKey(v.Context(), v.Caller(), v.Path("vault"), blob); err == nil {
			ref := wholeKey(k)
			return v.done(vaultKeyPath(ref, ""), "vaultkey.restored", k.Name), nil
		}
		w, f, pageErr := c.restorePage(v)
		return v.newKeyRefused(w, f, pageErr, err)
	}
	w, f, err := c.restorePage(v)
	return v.newKeyRefused(w, f, err, refused)
}
