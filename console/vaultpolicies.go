package console

import (
	"cmp"
	"slices"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keyvault"
)

// permissionGroups are the permissions on keys, as pages show them.
var permissionGroups = []struct {
	key string
	all []keyvault.Permission
}{
	{"vault.policy.managing", []keyvault.Permission{
		keyvault.MayGet, keyvault.MayList, keyvault.MayCreate, keyvault.MayImport, keyvault.MayUpdate,
		keyvault.MayDelete, keyvault.MayRecover, keyvault.MayBackup, keyvault.MayRestore,
	}},
	{"vault.policy.using", []keyvault.Permission{
		keyvault.MayEncrypt, keyvault.MayDecrypt, keyvault.MaySign, keyvault.MayVerify, keyvault.MayWrap,
		keyvault.MayUnwrap,
	}},
	{"vault.policy.rotating", []keyvault.Permission{
		keyvault.MayRotate, keyvault.MayGetRotationPolicy, keyvault.MaySetRotationPolicy,
	}},
	{"vault.policy.privileged", []keyvault.Permission{keyvault.MayPurge, keyvault.MayRelease, keyvault.All}},
}

// forResources are the permissions that the identity of a resource needs to use a customer-managed key.
var forResources = []keyvault.Permission{keyvault.MayGet, keyvault.MayWrap, keyvault.MayUnwrap}

// policyRow is an access policy in a table.
type policyRow struct {
	Holder      holder
	Permissions []string
	Edit        string // the address of the page that changes it; empty: the person may not
	Remove      string // likewise
}

// holder is whom an access policy or a role is for.
type holder struct {
	Name     string // empty: the directory has no such identity
	ObjectID string
	AppID    string
}

// shown is the name of the holder, or the id.
func (h holder) shown() string { return cmp.Or(h.Name, h.ObjectID) }

// vaultRoleRow is a role on a vault, in a table.
type vaultRoleRow struct {
	Holder holder
	Role   string
	Scope  string
}

// policiesData is the page with who may use the keys of a vault.
type policiesData struct {
	Roles    bool // roles decide, and not policies
	Policies table[policyRow]
	Add      string // the address of the page that adds a policy; empty: the person may not
	Assigned table[vaultRoleRow]
	Control  string // the address of the page that assigns roles; empty: the person may not see them
}

// mayReadDirectory reports whether the person may see the names of all identities, as on the directory plane.
func (v *visit) mayReadDirectory() bool {
	return v.may("Visage.Identity/servicePrincipals/read", v.c.subscription())
}

func (v *visit) holderOf(objectID, appID string) holder {
	h := holder{ObjectID: objectID, AppID: appID}
	if !v.mayReadDirectory() && !strings.EqualFold(objectID, v.Principal.ObjectID) {
		return h
	}
	if p, err := v.c.cfg.Directory.Principal(objectID); err == nil {
		h.Name = p.Name
	}
	return h
}

// mayWritePolicies reports whether the person may change the access policies of a vault.
func (v *visit) mayWritePolicies(vault keyvault.Vault) bool {
	return v.mayOnVault(vault.Name, "accessPolicies/write") &&
		(!vault.RBAC || v.may("Microsoft.Authorization/roleAssignments/write", v.c.vaultScope(vault.Name)))
}

func policyPath(vault, page, object, app string) string {
	return vaultPagePath(vault, "policies/"+page) + "?" + query("object", object, "app", app)
}

func (c *Console) vaultPolicies(v *visit) (*view, error) {
	vault, err := c.cfg.Vaults.Vault(v.Context(), v.Path("vault"))
	if err != nil {
		return nil, err
	}
	data := policiesData{Roles: vault.RBAC}
	change := v.mayWritePolicies(vault)
	if change {
		data.Add = vaultPagePath(vault.Name, "policies/edit")
	}
	key := func(p keyvault.AccessPolicy) string { return strings.ToLower(p.ObjectID + "/" + p.AppID) }
	slices.SortFunc(vault.Policies, func(a, b keyvault.AccessPolicy) int { return cmp.Compare(key(a), key(b)) })
	var all []policyRow
	for _, p := range vault.Policies {
		row := policyRow{Holder: v.holderOf(p.ObjectID, p.AppID)}
		for _, k := range p.Keys {
			row.Permissions = append(row.Permissions, string(k))
		}
		if change {
			row.Edit = policyPath(vault.Name, "edit", p.ObjectID, p.AppID)
			row.Remove = policyPath(vault.Name, "remove", p.ObjectID, p.AppID)
		}
		all = append(all, row)
	}
	data.Policies = tabled(v, vaultPagePath(vault.Name, "policies"), all, "", policyOrders)
	if v.may("Microsoft.Authorization/roleAssignments/read", v.c.vaultScope(vault.Name)) {
		data.Control = vaultPagePath(vault.Name, "access")
		data.Assigned = v.rolesOnKeys(vault)
	}
	return v.vaultPage("vaultpolicies", "policies", vault, data), nil
}

// policyOrders are the columns of the table of access policies.
var policyOrders = []order[policyRow]{
	{"holder", "vault.policy.holder", byText(func(p policyRow) string { return p.Holder.shown() }), false},
	{"permissions", "vault.policy.permissions", nil, false},
}

// vaultRoleOrders are the columns of the table of roles.
var vaultRoleOrders = []order[vaultRoleRow]{
	{"principal", "vault.policy.holder", byText(func(r vaultRoleRow) string { return r.Holder.shown() }), false},
	{"role", "vault.roles.role", byText(func(r vaultRoleRow) string { return r.Role }), false},
	{"scope", "vault.roles.scope", byText(func(r vaultRoleRow) string { return r.Scope }), false},
}

// rolesOnKeys are the assignments of roles that allow something with the keys of a vault, at most a page of them.
func (v *visit) rolesOnKeys(vault keyvault.Vault) table[vaultRoleRow] {
	roles := map[string]identity.Role{}
	for _, r := range identity.Roles() {
		if slices.ContainsFunc(r.DataActions, func(action string) bool {
			return strings.HasPrefix(action, "Microsoft.KeyVault/")
		}) {
			roles[r.ID] = r
		}
	}
	var found []vaultRoleRow
	for _, a := range v.c.cfg.Directory.Assignments(v.c.vaultScope(vault.Name)) {
		r, about := roles[a.Role]
		if about {
			found = append(found, vaultRoleRow{v.holderOf(a.Principal, ""), r.Name, cmp.Or(a.Spelling, a.Scope)})
		}
	}
	columns := sortRows(v, vaultPagePath(vault.Name, "policies"), found, "", vaultRoleOrders)
	return table[vaultRoleRow]{Columns: columns, Rows: found[:min(len(found), rows)]} // the page of roles has all
}

// policyData is the page with the form of one access policy.
type policyData struct {
	New      bool
	Holder   holder
	Groups   []permissionGroup
	Form     *form
	Preset   []link // to the same page, with boxes ticked
	Searches bool   // the person may search
	Search   string
	Found    []link // identities that the search found
	Looked   bool   // there was a search
	Warning  *protected
}

type permissionGroup struct {
	Text   string
	Fields []*field
}

func permissionField(p keyvault.Permission) string { return "may-" + strings.ToLower(string(p)) }

// policyAt finds the access policy that a form or an address names.
func (v *visit) policyAt(vault keyvault.Vault) (keyvault.AccessPolicy, bool) {
	object, app := strings.TrimSpace(v.field("object")), strings.TrimSpace(v.field("app"))
	i := slices.IndexFunc(vault.Policies, func(p keyvault.AccessPolicy) bool {
		return strings.EqualFold(p.ObjectID, object) && strings.EqualFold(p.AppID, app)
	})
	if i < 0 {
		return keyvault.AccessPolicy{ObjectID: strings.ToLower(object), AppID: strings.ToLower(app)}, false
	}
	return vault.Policies[i], true
}

func (c *Console) editPolicy(v *visit) (*view, error) {
	w, _, err := c.policyPage(v)
	return w, err
}

func (c *Console) policyPage(v *visit) (*view, *policyData, error) {
	vault, err := c.cfg.Vaults.Vault(v.Context(), v.Path("vault"))
	if err != nil {
		return nil, nil, err
	}
	p, found := v.policyAt(vault)
	title := v.text("vault.policy.edit")
	data := &policyData{New: !found, Holder: v.holderOf(p.ObjectID, p.AppID), Searches: v.mayReadDirectory()}
	given := p.Keys
	if !found {
		title = v.text("vault.policy.add")
		presets := map[string][]keyvault.Permission{"resource": forResources, "manage": managing}
		given = presets[v.field("preset")]
		for _, preset := range []link{
			{v.text("vault.policy.preset.resource"), "resource"}, {v.text("vault.policy.preset.manage"), "manage"},
		} {
			data.Preset = append(data.Preset, link{preset.Text, vaultPagePath(vault.Name, "policies/edit") + "?" +
				query("object", p.ObjectID, "preset", preset.To)})
		}
		c.searchIdentities(v, vault, data)
	}
	action := vaultPagePath(vault.Name, "policies/edit")
	data.Form = v.form(action, v.text("vault.policy.save"), vaultRevision(vault))
	if found {
		data.Form.Fields = append(data.Form.Fields, &field{Name: "object", Kind: "hidden", Value: p.ObjectID},
			&field{Name: "app", Kind: "hidden", Value: p.AppID})
	} else {
		data.Form.Fields = append(data.Form.Fields,
			&field{Name: "object", Kind: "text", Label: v.text("vault.policy.object"), Value: p.ObjectID, Code: true,
				Hint: v.text("vault.policy.object.hint"), Required: true, Max: 36},
			&field{Name: "app", Kind: "text", Label: v.text("vault.policy.app"), Value: p.AppID, Code: true,
				Hint: v.text("vault.policy.app.hint"), Max: 36})
	}
	for _, g := range permissionGroups {
		group := permissionGroup{Text: v.text(g.key)}
		for _, k := range g.all {
			x := &field{Name: permissionField(k), Kind: "checkbox", Label: string(k),
				Checked: slices.Contains(given, k)}
			if k == keyvault.All {
				x.Hint = v.text("vault.policy.all.hint")
			}
			data.Form.Fields = append(data.Form.Fields, x)
			group.Fields = append(group.Fields, x)
		}
		data.Groups = append(data.Groups, group)
	}
	data.Form.Cancel = vaultPagePath(vault.Name, "policies")
	w := v.vaultPage("vaultpolicy", "policies", vault, data)
	w.title = title
	return w, data, nil
}

// searchIdentities finds identities by a part of their name, for people who may read the directory.
func (c *Console) searchIdentities(v *visit, vault keyvault.Vault, data *policyData) {
	const most, shortest = 20, 2
	if data.Search = v.field("search"); !v.mayReadDirectory() || len(data.Search) < shortest {
		return
	}
	data.Looked = true
	for _, p := range c.cfg.Directory.Principals() {
		if len(data.Found) < most && strings.Contains(strings.ToLower(p.Name), strings.ToLower(data.Search)) {
			data.Found = append(data.Found, link{p.Name, vaultPagePath(vault.Name, "policies/edit") + "?" +
				query("object", p.ID, "preset", v.field("preset"))})
		}
	}
}

// savePolicy adds or changes an access policy. What it has of permissions on things that are not kept here stays.
func (c *Console) savePolicy(v *visit) (*view, error) {
	var keys []keyvault.Permission
	for _, g := range permissionGroups {
		for _, k := range g.all {
			if v.checked(permissionField(k)) {
				keys = append(keys, k)
			}
		}
	}
	p, refused := c.writePolicy(v, keys)
	if refused == nil {
		return v.done(vaultPagePath(v.Path("vault"), "policies"), "vault.policy.saved"), nil
	}
	w, data, err := c.policyPage(v)
	if err != nil {
		return nil, err
	}
	data.Warning = p
	v.mayConfirm(data.Form, p)
	fields := map[string]string{"InvalidPrincipal": "object", "PermissionsRequired": permissionField(keyvault.MayGet)}
	if !v.refused(data.Form, refused, fields) {
		return nil, refused
	}
	return v.again(w, data.Form.Error), nil
}

func (c *Console) writePolicy(v *visit, keys []keyvault.Permission) (*protected, error) {
	vault, err := c.cfg.Vaults.Vault(v.Context(), v.Path("vault"))
	if err != nil {
		return nil, err
	}
	p, found := v.policyAt(vault)
	for _, id := range []string{p.ObjectID, p.AppID} {
		if !found && !(visage.IsUUID(id) || id == "" && p.ObjectID != "") {
			return nil, visage.Refuse(visage.Invalid, "InvalidPrincipal", "An object id or application id is a UUID, "+
				"such as 00000000-0000-0000-0000-000000000000: copy it from the page of the identity.")
		}
	}
	if len(keys) == 0 {
		return nil, visage.Refuse(visage.Invalid, "PermissionsRequired", "An access policy gives at least one "+
			"permission: tick one, or remove the policy.")
	}
	more := func(k keyvault.Permission) bool { return !gives(p.Keys, k) }
	if !found || slices.ContainsFunc(keys, more) {
		if err := v.needFresh(); err != nil {
			return nil, err // a browser that was left open must not be enough to give somebody access
		}
	}
	locks := found && slices.ContainsFunc(forResources, func(k keyvault.Permission) bool {
		return gives(p.Keys, k) && !gives(keys, k)
	})
	if w, err := v.policyWouldLock(locks, vault, p); err != nil {
		return w, err
	}
	_, err = c.updateVault(v, func(now keyvault.Vault) (keyvault.Vault, error) {
		p, found := v.policyAt(now)
		p.Keys = keys
		if !found {
			now.Policies = append(now.Policies, p)
			return now, nil
		}
		for i, q := range now.Policies {
			if q.ObjectID == p.ObjectID && q.AppID == p.AppID {
				now.Policies[i] = p
			}
		}
		return now, nil
	})
	return nil, err
}

// gives reports whether the permissions of a policy include one that resources need.
func gives(all []keyvault.Permission, one keyvault.Permission) bool {
	return slices.Contains(all, one) || slices.Contains(all, keyvault.All)
}

// policyWouldLock is wouldLock for a change of the policy of one identity.
func (v *visit) policyWouldLock(locks bool, vault keyvault.Vault, p keyvault.AccessPolicy) (*protected, error) {
	if vault.RBAC {
		return nil, nil
	}
	return v.wouldLockFor(locks, visage.KeyRef{Vault: v.keyStore(vault.Name)}, p.ObjectID)
}

// policyProtects returns the resources that need the policy that is to be removed, after a fresh proof of the person;
// nil: none.
func (v *visit) policyProtects(vault keyvault.Vault) (*protected, error) {
	p, found := v.policyAt(vault)
	needed := func(k keyvault.Permission) bool { return gives(p.Keys, k) }
	if !found || vault.RBAC || !slices.ContainsFunc(forResources, needed) {
		return nil, nil
	}
	locked, err := v.protectedFor(p.ObjectID, visage.KeyRef{Vault: v.keyStore(vault.Name)})
	if err != nil {
		return nil, err
	}
	return locked, v.needProof(locked)
}

func (c *Console) removePolicyPage(v *visit) (*view, *form, error) {
	vault, err := c.cfg.Vaults.Vault(v.Context(), v.Path("vault"))
	if err != nil {
		return nil, nil, err
	}
	locked, err := v.policyProtects(vault)
	if err != nil {
		return nil, nil, err
	}
	p, found := v.policyAt(vault)
	if !found {
		return nil, nil, visage.Refuse(visage.NotFound, "AccessPolicyNotFound",
			"The vault has no access policy for this identity: choose one from the list.")
	}
	f := v.button(vaultPagePath(vault.Name, "policies/remove"), v.text("vault.policy.remove"), "danger",
		"object", p.ObjectID, "app", p.AppID)
	f.Fields = append(f.Fields, vaultRevision(vault))
	f.Icon = "trash"
	h := v.holderOf(p.ObjectID, p.AppID)
	w := v.askVault(vault, v.text("vault.policy.removing", cmp.Or(h.Name, h.ObjectID)), askData{
		Protected: locked, Form: f, Consequences: []string{v.text("vault.policy.removing.means")},
	})
	f.Cancel = vaultPagePath(vault.Name, "policies")
	return w, f, nil
}

func (c *Console) askRemovePolicy(v *visit) (*view, error) {
	w, _, err := c.removePolicyPage(v)
	return w, err
}

func (c *Console) removePolicy(v *visit) (*view, error) {
	vault, err := c.cfg.Vaults.Vault(v.Context(), v.Path("vault"))
	if err != nil {
		return nil, err
	}
	if _, err := v.policyProtects(vault); err != nil {
		return nil, err
	}
	_, refused := c.updateVault(v, func(now keyvault.Vault) (keyvault.Vault, error) {
		p, _ := v.policyAt(now)
		now.Policies = slices.DeleteFunc(now.Policies, func(q keyvault.AccessPolicy) bool {
			return q.ObjectID == p.ObjectID && q.AppID == p.AppID
		})
		return now, nil
	})
	if refused == nil {
		return v.done(vaultPagePath(v.Path("vault"), "policies"), "vault.policy.removed"), nil
	}
	w, f, err := c.removePolicyPage(v)
	if err != nil {
		return nil, err
	}
	return v.askAgain(w, f, refused)
}
