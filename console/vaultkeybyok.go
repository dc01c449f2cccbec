package console

import (
	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keyvault"
)

// transferPage has the form that imports a key which was wrapped for a key exchange key of the vault.
func (c *Console) transferPage(v *visit) (*view, *form, error) {
	vault, err := c.cfg.Vaults.Vault(v.Context(), v.Path("vault"))
	if err != nil {
		return nil, nil, err
	}
	kinds := []option{{Value: "RSA", Text: "RSA"}, {Value: "EC", Text: "EC"}}
	if vault.Premium {
		kinds = append(kinds, option{Value: "RSA-HSM", Text: "RSA-HSM"}, option{Value: "EC-HSM", Text: "EC-HSM"})
	}
	fields := append([]*field{
		v.nameField(""),
		{Name: "blob", Kind: "file", Label: v.text("vaultkey.byok.file"), Hint: v.text("vaultkey.byok.file.hint"),
			Accept: ".byok,.json,application/json", Required: true},
		{Name: "kind", Kind: "select", Label: v.text("vaultkey.byok.kind"), Value: "RSA", Options: kinds,
			Required: true},
	}, v.newKeyFields()...)
	f := v.form(vaultPagePath(vault.Name, "importbyok"), v.text("vaultkey.byok"), fields...)
	data := formPage{Intro: []string{v.text("vaultkey.byok.intro"), v.text("vaultkey.byok.first")}, Form: f}
	mayCreate, err := mayCreateVaultKey.may(v)
	if err != nil {
		return nil, nil, err
	}
	if mayCreate {
		data.First = &link{v.text("vaultkey.byok.exchange"),
			withQuery(vaultPagePath(vault.Name, "newkey"), "exchange", "1")}
	}
	return v.vaultFormPage(vault, "vaultkeyform", v.text("vaultkey.byok"), data), f, nil
}

func (c *Console) newTransfer(v *visit) (*view, error) {
	w, _, err := c.transferPage(v)
	return w, err
}

func (c *Console) importTransfer(v *visit) (*view, error) {
	k, refused := c.openTransfer(v)
	if refused == nil {
		return v.done(vaultKeyPath(wholeKey(k), ""), "vaultkey.imported", k.Name), nil
	}
	w, f, err := c.transferPage(v)
	return v.newKeyRefused(w, f, err, refused)
}

func (c *Console) openTransfer(v *visit) (keyvault.Key, error) {
	name, attributes, tags, err := v.newKeyOf()
	if err != nil {
		return keyvault.Key{}, err
	}
	var blob []byte
	for _, f := range v.files {
		if f.field == "blob" {
			blob = f.data
		}
	}
	if len(blob) == 0 {
		return keyvault.Key{}, visage.Refuse(visage.Invalid, "WrappedKeyMissing", "There is no wrapped key: choose "+
			"the file that the BYOK tool wrote.")
	}
	kind := v.field("kind")
	return c.cfg.Vaults.ImportKey(v.Context(), v.Caller(), keyvault.Ref{Vault: v.Path("vault"), Name: name},
		keyvault.ImportedKey{
			JWK: keyvault.JWK{Type: kind}, Blob: blob, HSM: kind == "RSA-HSM" || kind == "EC-HSM",
			Operations: v.tickedOperations(), Attributes: attributes, Tags: tags,
		})
}
