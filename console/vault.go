package console

import (
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keyvault"
)

// vaultRoutes are the key vaults. The name of a vault begins with a letter, so that "-" is none.
func (c *Console) vaultRoutes() []route {
	const (
		all     = prefix + "/vaults"
		deleted = all + "/-/deleted"
	)
	return slices.Concat([]route{
		page(all, signedIn, c.vaults),
		page(all+"/-/new", onGroup("Microsoft.KeyVault/vaults/write"), c.newVault),
		texts(send(all+"/-/new", onGroup("Microsoft.KeyVault/vaults/write"), c.createVault)),
		page(deleted, onSubscription("Microsoft.KeyVault/deletedVaults/read"), c.deletedVaults),
		send(deleted+"/{vault}/recover", onVault("write"), c.recoverVault),
		page(deleted+"/{vault}/purge", freshly(onDeletedVault), c.askPurgeVault),
		send(deleted+"/{vault}/purge", freshly(onDeletedVault), c.purgeVault),

		page(oneVault, onVault("read"), c.vault),
		texts(send(oneVault+"/tags", onVault("write"), c.changeVaultTags)),
		page(oneVault+"/purgeprotection", onVault("write"), c.askPurgeProtection),
		send(oneVault+"/purgeprotection", onVault("write"), c.protectFromPurge),
		page(oneVault+"/model", onVault("write"), c.vaultModel),
		send(oneVault+"/model", onVault("write"), c.changeVaultModel),
		page(oneVault+"/delete", freshly(onVault("delete")), c.askDeleteVault),
		send(oneVault+"/delete", freshly(onVault("delete")), c.deleteVault),

		page(oneVault+"/policies", onVault("read"), c.vaultPolicies),
		page(oneVault+"/policies/edit", onVault("accessPolicies/write"), c.editPolicy),
		texts(send(oneVault+"/policies/edit", onVault("accessPolicies/write"), c.savePolicy)),
		page(oneVault+"/policies/remove", onVault("accessPolicies/write"), c.askRemovePolicy),
		send(oneVault+"/policies/remove", onVault("accessPolicies/write"), c.removePolicy),
		page(oneVault+"/network", onVault("read"), c.vaultNetwork),
		texts(send(oneVault+"/network", onVault("write"), c.changeVaultNetwork)),
	}, c.vaultKeyRoutes())
}

// onDeletedVault needs a role that allows purging the deleted vault that the path names.
var onDeletedVault = onSubscription(purgeVaults)

const purgeVaults = "Microsoft.KeyVault/locations/deletedVaults/purge/action"

// vaultPagePath is the path of a page of a vault; its properties for an empty name.
func vaultPagePath(vault, page string) string {
	path := prefix + "/vaults/" + url.PathEscape(vault)
	if page != "" {
		path += "/" + page
	}
	return path
}

// mayOnVault reports whether the person has a role with an action on a vault.
func (v *visit) mayOnVault(vault, action string) bool {
	return v.may("Microsoft.KeyVault/vaults/"+action, v.c.vaultScope(vault))
}

// vaultTab is a page of a vault.
type vaultTab struct {
	name, key string
	need      need
}

func vaultTabs() []vaultTab {
	return []vaultTab{
		{"", "vault.tab.overview", onVault("read")},
		{"keys", "vault.tab.keys", onVaultKeys},
		{"deletedkeys", "vault.tab.deletedkeys", onVaultKeys},
		{"policies", "vault.tab.policies", onVault("read")},
		{"access", "vault.tab.access", roleScope{scope: (*visit).vaultRoleScope}.need(readRoles)},
		{"network", "vault.tab.network", onVault("read")},
	}
}

// vaultPage shows a page of a vault, beside the others that the person may see. name is that of a vaultTab.
func (v *visit) vaultPage(template, name string, vault keyvault.Vault, data any) *view {
	w := v.page(template, vault.Name, data)
	w.crumbs = []link{{v.text("nav.vaults"), prefix + "/vaults"},
		{vault.Name, vaultPagePath(vault.Name, v.firstVaultPage())}}
	for _, t := range vaultTabs() {
		if allowed, err := t.need.may(v); err != nil || !allowed {
			continue
		}
		w.tabs = append(w.tabs, tab{v.text(t.key), vaultPagePath(vault.Name, t.name), t.name == name})
		if t.name == name && name != "" {
			w.title = v.text("vault.title", v.text(t.key), vault.Name)
		}
	}
	return w
}

// firstVaultPage is the page of a vault to which its name leads: the keys, for people with permissions on them alone.
func (v *visit) firstVaultPage() string {
	if allowed, err := onVault("read").may(v); err != nil || allowed {
		return ""
	}
	return "keys"
}

// vaultRow is a vault in a table.
type vaultRow struct {
	Name, To string
	Location string
	Model    string
	Purge    badge
}

// vaultsData is the list of vaults.
type vaultsData struct {
	table[vaultRow]
	Search  string
	Create  string // the address of the page that creates one; empty: the person may not
	Deleted string // likewise of the deleted ones
}

// vaultOrders are the columns of the table of vaults.
var vaultOrders = []order[vaultRow]{
	{"name", "vault.name", byText(func(r vaultRow) string { return r.Name }), false},
	{"location", "vault.location", byText(func(r vaultRow) string { return r.Location }), false},
	{"model", "vault.model", byText(func(r vaultRow) string { return r.Model }), false},
	{"purge", "vault.purge", byText(func(r vaultRow) string { return r.Purge.Text }), false},
}

// vaults lists the vaults that the person may read, and those whose keys the person may use.
func (c *Console) vaults(v *visit) (*view, error) {
	all, err := c.cfg.Vaults.Vaults(v.Context())
	if err != nil {
		return nil, err
	}
	data := vaultsData{Search: v.field("search")}
	everywhere := v.may("Microsoft.KeyVault/vaults/read", c.subscription())
	var found []vaultRow
	for _, one := range all {
		if !strings.Contains(strings.ToLower(one.Name), strings.ToLower(data.Search)) {
			continue
		}
		to := vaultPagePath(one.Name, "")
		if !everywhere && !v.mayOnVault(one.Name, "read") {
			if uses, err := v.usesVault(one); err != nil {
				return nil, err
			} else if !uses {
				continue
			}
			to = vaultPagePath(one.Name, "keys")
		}
		found = append(found, vaultRow{one.Name, to, one.Location, v.modelText(one), v.purgeBadge(one)})
	}
	data.table = tabled(v, prefix+"/vaults", found, "name", vaultOrders)
	if v.may("Microsoft.KeyVault/vaults/write", c.group()) {
		data.Create = prefix + "/vaults/-/new"
	}
	if v.may("Microsoft.KeyVault/deletedVaults/read", c.subscription()) {
		data.Deleted = prefix + "/vaults/-/deleted"
	}
	return v.page("vaults", v.text("nav.vaults"), data), nil
}

// usesVault reports whether the person may list or get keys of a vault.
func (v *visit) usesVault(vault keyvault.Vault) (bool, error) {
	if !v.hasPolicy(vault) && !vault.RBAC {
		return false, nil
	}
	some := []keyvault.Permission{keyvault.MayGet, keyvault.MayList}
	if vault.RBAC {
		some = some[:1] // one right on data stands for both
	}
	return permits(some, func(p keyvault.Permission) error {
		return v.c.cfg.Vaults.PermitsIn(v.Context(), v.Caller(), vault, p)
	})
}

// hasPolicy reports whether a vault has an access policy for the person.
func (v *visit) hasPolicy(vault keyvault.Vault) bool {
	return slices.ContainsFunc(vault.Policies, func(p keyvault.AccessPolicy) bool {
		return strings.EqualFold(p.ObjectID, v.Principal.ObjectID)
	})
}

// permitted reports whether the person has one of some permissions in a vault.
func (v *visit) permitted(vault string, some ...keyvault.Permission) (bool, error) {
	return permits(some, func(p keyvault.Permission) error {
		return v.c.cfg.Vaults.Permits(v.Context(), v.Caller(), vault, p)
	})
}

// permits reports whether one of some permissions is not refused.
func permits(some []keyvault.Permission, ask func(keyvault.Permission) error) (bool, error) {
	for _, p := range some {
		err := ask(p)
		if err == nil {
			return true, nil
		}
		if _, refused := errors.AsType[*visage.Refusal](err); !refused {
			return false, err
		}
	}
	return false, nil
}

func (v *visit) modelText(vault keyvault.Vault) string {
	if vault.RBAC {
		return v.text("vault.model.roles")
	}
	return v.text("vault.model.policies")
}

func (v *visit) purgeBadge(vault keyvault.Vault) badge {
	if vault.PurgeProtection {
		return badge{"ok", "shield-check", v.text("vault.purge.on")}
	}
	return badge{"warn", "shield-alert", v.text("vault.purge.off")}
}

// vaultData is the first page of a vault.
type vaultData struct {
	Facts   []fact
	Purge   badge
	Protect string // the address of the page that turns purge protection on; empty: it is on, or the person may not
	Model   string // the name of the permission model
	Change  string // the address of the page that changes it; empty: the person may not
	Tags    *form  // nil: the person may not change them
	TagList []fact
	Delete  string // the address of the page that deletes the vault; empty: the person may not
}

func (c *Console) vault(v *visit) (*view, error) {
	vault, err := c.cfg.Vaults.Vault(v.Context(), v.Path("vault"))
	if err != nil {
		return nil, err
	}
	return v.vaultPage("vault", "", vault, c.vaultData(v, vault)), nil
}

func (c *Console) vaultData(v *visit, vault keyvault.Vault) *vaultData {
	sku := v.text("vault.sku.standard")
	if vault.Premium {
		sku = v.text("vault.sku.premium")
	}
	d := &vaultData{
		Facts: []fact{
			{v.text("vault.uri"), c.cfg.VaultAddress(vault.Name), true},
			{v.text("vault.id"), v.c.vaultScope(vault.Name), true},
			{v.text("vault.location"), vault.Location, false},
			{v.text("vault.group"), vault.Group, false},
			{v.text("vault.tenant"), vault.Tenant, true},
			{v.text("vault.sku"), sku, false},
			{v.text("vault.retention"), v.text("time.days", vault.RetentionDays), false},
			{v.text("vault.createdat"), v.lang.when(vault.Created), false},
		},
		Purge: v.purgeBadge(vault), Model: v.modelText(vault),
	}
	for _, name := range sortedKeys(vault.Tags) {
		d.TagList = append(d.TagList, fact{name, vault.Tags[name], false})
	}
	if v.mayOnVault(vault.Name, "write") {
		d.Tags = v.vaultTagsForm(vault)
		if !vault.PurgeProtection {
			d.Protect = vaultPagePath(vault.Name, "purgeprotection")
		}
		if v.may("Microsoft.Authorization/roleAssignments/write", v.c.vaultScope(vault.Name)) {
			d.Change = vaultPagePath(vault.Name, "model")
		}
	}
	if v.mayOnVault(vault.Name, "delete") {
		d.Delete = vaultPagePath(vault.Name, "delete")
	}
	return d
}

// vaultRevision is a hidden field with the state of a vault that a form was made for.
func vaultRevision(vault keyvault.Vault) *field {
	return &field{Name: "revision", Kind: "hidden", Value: vault.ID + "." + strconv.FormatInt(vault.Revision, 10)}
}

// unchangedVault refuses a form that was made for another state of a vault than the present one.
func (v *visit) unchangedVault(vault keyvault.Vault) error {
	if v.field("revision") == vaultRevision(vault).Value {
		return nil
	}
	return visage.Refuse(visage.Conflict, "ChangedMeanwhile",
		"The vault was changed on %s, after you opened the page. The page now shows the vault as it is: check it, and "+
			"send the form again.", vault.Changed.UTC().Format("2006-01-02 15:04:05 UTC"))
}

// updateVault changes a vault as a form asks, if it is as it was when the form was made.
func (c *Console) updateVault(
	v *visit, change func(keyvault.Vault) (keyvault.Vault, error),
) (keyvault.Vault, error) {
	return c.cfg.Vaults.UpdateVault(v.Context(), v.Caller(), v.Path("vault"),
		func(now keyvault.Vault) (keyvault.Vault, error) {
			if err := v.unchangedVault(now); err != nil {
				return now, err
			}
			return change(now)
		})
}

// tagsField is a field for tags, one a line.
func (v *visit) tagsField(tags map[string]string) *field {
	var lines []string
	for _, name := range sortedKeys(tags) {
		lines = append(lines, name+" = "+tags[name])
	}
	return &field{
		Name: "tags", Kind: "textarea", Label: v.text("vault.tags"), Hint: v.text("vault.tags.hint"),
		Value: strings.Join(lines, "\n"),
	}
}

// tagFields are the codes of refusals of tags.
func tagFields(more map[string]string) map[string]string {
	all := map[string]string{}
	for _, code := range []string{"InvalidTags", "TooManyTags", "InvalidTagNameLength", "InvalidTagNameCharacters",
		"InvalidTagValueLength", "DuplicateTagNames"} {
		all[code] = "tags"
	}
	for code, name := range more {
		all[code] = name
	}
	return all
}

func (v *visit) vaultTagsForm(vault keyvault.Vault) *form {
	f := v.form(vaultPagePath(vault.Name, "tags"), v.text("vault.tags.save"), vaultRevision(vault),
		v.tagsField(vault.Tags))
	f.Style = "plain"
	return f
}

func (c *Console) changeVaultTags(v *visit) (*view, error) {
	tags, refused := parseTags(v.field("tags"))
	if refused == nil {
		_, refused = c.updateVault(v, func(now keyvault.Vault) (keyvault.Vault, error) {
			now.Tags = tags
			return now, nil
		})
	}
	if refused == nil {
		return v.done(vaultPagePath(v.Path("vault"), ""), "vault.tags.saved"), nil
	}
	vault, err := c.cfg.Vaults.Vault(v.Context(), v.Path("vault"))
	if err != nil {
		return nil, err
	}
	data := c.vaultData(v, vault)
	if !v.refused(data.Tags, refused, tagFields(nil)) {
		return nil, refused
	}
	return v.again(v.vaultPage("vault", "", vault, data), data.Tags.Error), nil
}

// askData is a page that asks before something is done.
type askData struct {
	Warn         []string // what will be
	Consequences []string // what it means
	Protected    *protected
	Form         *form // nil: it cannot be done now
}

// askVault shows a page that asks before a vault is changed.
func (v *visit) askVault(vault keyvault.Vault, title string, data askData) *view {
	w := v.vaultPage("vaultask", "-", vault, data)
	w.title = title
	data.Form.Cancel = vaultPagePath(vault.Name, "")
	return w
}

// askAgain shows a page that asks again, with the reason for which it was refused.
func (v *visit) askAgain(w *view, f *form, refused error) (*view, error) {
	if f == nil || !v.refused(f, refused, nil) {
		return nil, refused
	}
	return v.again(w, f.Error), nil
}

func (c *Console) purgeProtectionPage(v *visit) (*view, *form, error) {
	vault, err := c.cfg.Vaults.Vault(v.Context(), v.Path("vault"))
	if err != nil {
		return nil, nil, err
	}
	f := v.form(vaultPagePath(vault.Name, "purgeprotection"), v.text("vault.protect.do"), vaultRevision(vault))
	f.Icon = "shield-check"
	return v.askVault(vault, v.text("vault.protect.title", vault.Name), askData{
		Consequences: []string{
			v.text("vault.protect.why"), v.text("vault.protect.means", vault.RetentionDays),
			v.text("vault.protect.never"),
		},
		Form: f,
	}), f, nil
}

func (c *Console) askPurgeProtection(v *visit) (*view, error) {
	w, _, err := c.purgeProtectionPage(v)
	return w, err
}

func (c *Console) protectFromPurge(v *visit) (*view, error) {
	vault, refused := c.updateVault(v, func(now keyvault.Vault) (keyvault.Vault, error) {
		now.PurgeProtection = true
		return now, nil
	})
	if refused == nil {
		return v.done(vaultPagePath(vault.Name, ""), "vault.protect.done"), nil
	}
	w, f, err := c.purgeProtectionPage(v)
	if err != nil {
		return nil, err
	}
	return v.askAgain(w, f, refused)
}

// modelField is the choice of the permission model.
func (v *visit) modelField(value string) *field {
	return &field{
		Name: "model", Kind: "radio", Label: v.text("vault.model"), Value: value, Required: true,
		Options: []option{
			{Value: "roles", Text: v.text("vault.model.roles"), Hint: v.text("vault.model.roles.hint")},
			{Value: "policies", Text: v.text("vault.model.policies"), Hint: v.text("vault.model.policies.hint")},
		},
	}
}

func (c *Console) vaultModelPage(v *visit) (*view, *form, error) {
	vault, err := c.cfg.Vaults.Vault(v.Context(), v.Path("vault"))
	if err != nil {
		return nil, nil, err
	}
	value := "policies"
	if vault.RBAC {
		value = "roles"
	}
	p, err := v.protectedByVault(vault.Name)
	if err != nil {
		return nil, nil, err
	}
	f := v.form(vaultPagePath(vault.Name, "model"), v.text("vault.model.save"), vaultRevision(vault),
		v.modelField(value))
	return v.askVault(vault, v.text("vault.model.title", vault.Name), askData{
		Warn: []string{v.text("vault.model.warn")}, Consequences: []string{v.text("vault.model.kept")},
		Protected: p, Form: f,
	}), f, nil
}

func (c *Console) vaultModel(v *visit) (*view, error) {
	w, _, err := c.vaultModelPage(v)
	return w, err
}

func (c *Console) changeVaultModel(v *visit) (*view, error) {
	if _, err := v.protectedByVault(v.Path("vault")); err != nil {
		return nil, err
	}
	vault, refused := c.updateVault(v, func(now keyvault.Vault) (keyvault.Vault, error) {
		now.RBAC = v.field("model") == "roles"
		return now, nil
	})
	if refused == nil {
		return v.done(vaultPagePath(vault.Name, ""), "vault.model.saved"), nil
	}
	w, f, err := c.vaultModelPage(v)
	if err != nil {
		return nil, err
	}
	return v.askAgain(w, f, refused)
}
