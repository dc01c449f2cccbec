package console

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keyvault"
)

// formPage is a page with a form and what to know before.
type formPage struct {
	Intro []string
	Form  *form
	First *link // what may have to be done before; nil: nothing
}

func (c *Console) newVault(v *visit) (*view, error) {
	w, _, err := c.newVaultPage(v)
	return w, err
}

func (c *Console) newVaultPage(v *visit) (*view, *form, error) {
	locations, err := c.locations(v.Context())
	if err != nil {
		return nil, nil, err
	}
	f := v.form(prefix+"/vaults/-/new", v.text("vault.create"),
		&field{Name: "name", Kind: "text", Label: v.text("vault.name"), Hint: v.text("vault.name.hint"), Required: true,
			Max: 24, Code: true},
		&field{Name: "location", Kind: "text", Label: v.text("vault.location"), Required: true, Value: locations[0],
			Hint: v.text("vault.location.hint", strings.Join(locations, ", ")), Max: 90},
		v.modelField("roles"),
		&field{Name: "mine", Kind: "checkbox", Label: v.text("vault.mine"), Hint: v.text("vault.mine.hint"),
			Checked: true},
		&field{Name: "retention", Kind: "number", Label: v.text("vault.retention.days"), Required: true,
			Hint: v.text("vault.retention.hint"), Value: strconv.Itoa(keyvault.DefaultRetentionDays)},
		&field{Name: "protect", Kind: "checkbox", Label: v.text("vault.purge"), Hint: v.text("vault.purge.hint"),
			Checked: true},
		&field{Name: "sku", Kind: "select", Label: v.text("vault.sku"), Hint: v.text("vault.sku.hint"), Required: true,
			Value: "standard", Options: []option{
				{Value: "standard", Text: v.text("vault.sku.standard")},
				{Value: "premium", Text: v.text("vault.sku.premium")},
			}},
		v.tagsField(nil),
	)
	f.Cancel = prefix + "/vaults"
	w := v.page("vaultform", v.text("vault.create"), formPage{Form: f,
		Intro: []string{v.text("vault.create.intro")}})
	w.crumbs = []link{{v.text("nav.vaults"), prefix + "/vaults"}}
	return w, f, nil
}

// locations are a few locations in use: those of resources and vaults.
func (c *Console) locations(ctx context.Context) ([]string, error) {
	const most = 8
	accounts, err := c.cfg.Accounts.List(ctx)
	if err != nil {
		return nil, err
	}
	vaults, err := c.cfg.Vaults.Vaults(ctx)
	if err != nil {
		return nil, err
	}
	var all []string
	add := func(location string) {
		known := slices.ContainsFunc(all, func(l string) bool { return visage.SameLocation(l, location) })
		if !known && len(all) < most {
			all = append(all, location)
		}
	}
	for _, a := range accounts {
		add(a.Location)
	}
	for _, v := range vaults {
		add(v.Location)
	}
	if len(all) == 0 {
		all = []string{"local"}
	}
	return all, nil
}

// managing are the permissions that the person who makes a vault gets: all but using keys, and purging them.
var managing = []keyvault.Permission{
	keyvault.MayGet, keyvault.MayList, keyvault.MayCreate, keyvault.MayImport, keyvault.MayUpdate, keyvault.MayDelete,
	keyvault.MayRecover, keyvault.MayBackup, keyvault.MayRestore, keyvault.MayRotate, keyvault.MayGetRotationPolicy,
	keyvault.MaySetRotationPolicy,
}

func (c *Console) createVault(v *visit) (*view, error) {
	made, refused := c.makeVault(v)
	if refused == nil {
		return v.done(vaultPagePath(made.Name, ""), "vault.created", made.Name), nil
	}
	w, f, err := c.newVaultPage(v)
	if err != nil {
		return nil, err
	}
	fields := tagFields(map[string]string{
		"VaultNameNotValid": "name", "VaultAlreadyExists": "name", "LocationRequired": "location",
		"InvalidRetention": "retention", "RoleNotAssignable": "mine",
	})
	if !v.refused(f, refused, fields) {
		return nil, refused
	}
	return v.again(w, f.Error), nil
}

// makeVault makes the vault that a form describes.
func (c *Console) makeVault(v *visit) (keyvault.Vault, error) {
	name := strings.TrimSpace(v.field("name"))
	want := keyvault.Vault{
		Name: name, Group: c.cfg.Group, Location: strings.TrimSpace(v.field("location")), Tenant: c.cfg.Tenant,
		Premium: v.field("sku") == "premium", RBAC: v.field("model") != "policies",
		PurgeProtection: v.checked("protect"),
	}
	if want.Location == "" {
		return want, visage.Refuse(visage.Invalid, "LocationRequired", "A vault needs a region: use that of the "+
			"resources whose data its keys are to protect.")
	}
	days, err := strconv.Atoi(strings.TrimSpace(v.field("retention")))
	if err != nil || days < 7 || days > keyvault.DefaultRetentionDays {
		return want, visage.Refuse(visage.Invalid, "InvalidRetention", "Deleted keys are kept for 7 to %d days: write "+
			"a whole number of days.", keyvault.DefaultRetentionDays)
	}
	want.RetentionDays = days
	if want.Tags, err = parseTags(v.field("tags")); err != nil {
		return want, err
	}
	if err := keyvault.CheckVaultName(name); err != nil {
		return want, err
	}
	mine := v.checked("mine")
	switch {
	case mine && !want.RBAC:
		want.Policies = []keyvault.AccessPolicy{{ObjectID: v.Principal.ObjectID, Keys: managing}}
	case mine && !v.may("Microsoft.Authorization/roleAssignments/write", v.c.vaultScope(name)):
		return want, visage.Refuse(visage.Denied, "RoleNotAssignable", "You may not assign roles: leave the box empty "+
			"and ask an owner for a role on the vault, or choose access policies.")
	}
	made, err := c.cfg.Vaults.CreateVault(v.Context(), v.Caller(), want)
	if err != nil || !mine || !want.RBAC {
		return made, err
	}
	_, err = c.cfg.Directory.Assign(v.Context(), "", v.Principal.ObjectID, identity.VaultCryptoOfficer,
		v.c.vaultScope(made.Name))
	return made, err
}
