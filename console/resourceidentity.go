package console

import (
	"cmp"
	"slices"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/identity"
)

// identityRoutes are the pages about the managed identity of a resource.
func (c *Console) identityRoutes() []route {
	const at = oneResource + "/identity"
	return []route{
		page(at, onAccount("read"), c.resourceIdentity),
		send(at+"/on", onAccount("write"), c.switchIdentityOn),
		page(at+"/off", onAccount("write"), c.switchIdentityOffPage),
		send(at+"/off", onAccount("write"), c.switchIdentityOff),
	}
}

// identityData is the page of the managed identity of a resource.
type identityData struct {
	Badge  badge
	Facts  []keyFact
	On     *form  // nil: not offered
	Off    string // the address of the page that asks; empty: not offered
	Access []accessRow
	Hidden int // of the rows that the person may not see
	Uses   bool
}

// accessRow is a permission of the identity somewhere.
type accessRow struct {
	Where, To string // the address of its page; empty: it has none
	How, What string
}

func (c *Console) resourceIdentity(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	return c.identityPage(v, a, nil)
}

func (c *Console) identityPage(v *visit, a account.Account, said *explanation) (*view, error) {
	e, err := c.cfg.Accounts.Encryption(v.Context(), a)
	if err != nil {
		return nil, err
	}
	own := a.Identity.System
	d := &identityData{Badge: badge{"off", "off", v.text("resourceidentity.off")}, Uses: e.Key != visage.KeyRef{}}
	may := v.may("Microsoft.CognitiveServices/accounts/write", c.cfg.AccountPath(a))
	if own == (account.Managed{}) {
		if may {
			d.On = v.button(resourcePath(a.Name, "identity/on"), v.text("resourceidentity.on.submit"), "primary")
			d.On.Fields = append(d.On.Fields, revision(a))
			d.On.Error = said
		}
	} else {
		d.Badge = badge{"ok", "ok", v.text("resourceidentity.on")}
		d.Facts = []keyFact{
			{Name: v.text("resourceidentity.principal"), Text: own.PrincipalID, Code: true},
			{Name: v.text("resourceidentity.client"), Text: own.ClientID, Code: true},
			{Name: v.text("resourceidentity.tenant"), Text: own.Tenant, Code: true},
		}
		if may {
			d.Off = resourcePath(a.Name, "identity/off")
		}
		if d.Access, d.Hidden, err = c.accessOf(v, own.PrincipalID); err != nil {
			return nil, err
		}
	}
	w := v.resourcePage("identity", "identity", a, d)
	if said != nil {
		w = v.again(w, said)
	}
	return w, nil
}

// accessOf returns what a principal may do where, as far as the person may see it, and how many places they may not
// see.
func (c *Console) accessOf(v *visit, principal string) (all []accessRow, hidden int, err error) {
	vaults, err := c.cfg.Vaults.Vaults(v.Context())
	if err != nil {
		return nil, 0, err
	}
	for _, vault := range vaults {
		for _, p := range vault.Policies {
			if vault.RBAC || !strings.EqualFold(p.ObjectID, principal) || len(p.Keys) == 0 {
				continue
			}
			if !v.may("Microsoft.KeyVault/vaults/read", c.cfg.VaultPath(vault)) {
				hidden++
				continue
			}
			var names []string
			for _, k := range p.Keys {
				names = append(names, string(k))
			}
			all = append(all, accessRow{vault.Name, keyPlace(vault.Name, ""), v.text("resourceidentity.policy"),
				strings.Join(names, ", ")})
		}
	}
	for _, assigned := range c.cfg.Directory.Assignments("") {
		if assigned.Principal != principal {
			continue
		}
		scope := cmp.Or(assigned.Spelling, assigned.Scope)
		if !v.may("Microsoft.Authorization/roleAssignments/read", scope) {
			hidden++
			continue
		}
		row := accessRow{Where: scope, How: v.text("resourceidentity.role"), What: roleName(assigned.Role)}
		if _, name, found := strings.Cut(scope, "/Microsoft.KeyVault/vaults/"); found && !strings.Contains(name, "/") {
			row.Where, row.To = name, keyPlace(name, "")
		}
		all = append(all, row)
	}
	return all, hidden, nil
}

// roleName returns the name of a role.
func roleName(id string) string {
	all := identity.Roles()
	i := slices.IndexFunc(all, func(r identity.Role) bool { return r.ID == id })
	if i < 0 {
		return id
	}
	return all[i].Name
}

// switchIdentity switches the system-assigned identity of a resource on or off; its other identities stay.
func (c *Console) switchIdentity(v *visit, name string, on bool) error {
	_, err := c.cfg.Accounts.Update(v.Context(), v.Caller(), name,
		func(now account.Account) (account.Change, error) {
			spec := now.Identity.Spec()
			spec.System = on
			return account.Change{Identity: &spec}, v.unchanged(now)
		})
	return err
}

func (c *Console) switchIdentityOn(v *visit) (*view, error) {
	if err := c.switchIdentity(v, v.Path("account"), true); err != nil {
		return c.identityRefused(v, err)
	}
	return v.done(resourcePath(v.Path("account"), "identity"), "resourceidentity.on.done"), nil
}

// identityRefused shows the page again with a refusal.
func (c *Console) identityRefused(v *visit, err error) (*view, error) {
	said, ok := v.explain(err)
	if !ok {
		return nil, err
	}
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	if a.Identity.System != (account.Managed{}) {
		return c.identityOffPage(v, a, said)
	}
	return c.identityPage(v, a, said)
}

// switchIdentityOffPage asks before the identity is switched off, which takes its access to vaults away.
func (c *Console) switchIdentityOffPage(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	if err := c.needProofToSwitchOff(v, a); err != nil {
		return nil, err
	}
	return c.identityOffPage(v, a, nil)
}

// needProofToSwitchOff asks the person to prove again who they are before the identity of a resource is switched off:
// under a customer's key, that locks the data.
func (c *Console) needProofToSwitchOff(v *visit, a account.Account) error {
	e, err := c.cfg.Accounts.Encryption(v.Context(), a)
	if err != nil || e.Key == (visage.KeyRef{}) {
		return err
	}
	return v.needFresh()
}

func (c *Console) identityOffPage(v *visit, a account.Account, said *explanation) (*view, error) {
	e, err := c.cfg.Accounts.Encryption(v.Context(), a)
	if err != nil {
		return nil, err
	}
	d := confirmData{Consequences: []string{v.text("resourceidentity.off.access"), v.text("resourceidentity.off.new")}}
	if e.Key != (visage.KeyRef{}) {
		d.Consequences = append([]string{v.text("resourceidentity.off.locks")}, d.Consequences...)
	}
	d.Form = v.button(resourcePath(a.Name, "identity/off"), v.text("resourceidentity.off.submit"), "danger")
	d.Form.Fields = append(d.Form.Fields, revision(a))
	d.Form.Cancel, d.Form.Error = resourcePath(a.Name, "identity"), said
	w := v.resourcePage("encryptionconfirm", "identity", a, d)
	w.title = v.text("resource.title", v.text("resourceidentity.off.title"), a.Name)
	if said != nil {
		w = v.again(w, said)
	}
	return w, nil
}

func (c *Console) switchIdentityOff(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	if err := c.needProofToSwitchOff(v, a); err != nil {
		return nil, err
	}
	if err := c.switchIdentity(v, a.Name, false); err != nil {
		return c.identityRefused(v, err)
	}
	return v.done(resourcePath(a.Name, "identity"), "resourceidentity.off.done"), nil
}
