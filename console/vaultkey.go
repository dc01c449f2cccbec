package console

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keyvault"
)

const (
	oneVaultKey        = oneVault + "/keys/{key}"
	oneVaultKeyVersion = oneVaultKey + "/{version}"
	oneDeletedVaultKey = oneVault + "/deletedkeys/{key}"
)

// vaultKeyRoutes are the keys of a vault.
func (c *Console) vaultKeyRoutes() []route {
	restore := send(oneVault+"/restorekey", vaultDecides(keyvault.MayRestore), c.restoreVaultKey)
	restore.body = maxBackupForm
	return []route{
		page(oneVault+"/keys", onVaultKeys, c.vaultKeys),
		page(oneVault+"/newkey", mayCreateVaultKey, c.newVaultKey),
		texts(send(oneVault+"/newkey", createsVaultKey, c.generateVaultKey)),
		page(oneVault+"/importkey", permittedInVault(keyvault.MayImport), c.newImport),
		send(oneVault+"/importkey", vaultDecides(keyvault.MayImport), c.importVaultKey),
		page(oneVault+"/importbyok", permittedInVault(keyvault.MayImport), c.newTransfer),
		send(oneVault+"/importbyok", vaultDecides(keyvault.MayImport), c.importTransfer),
		page(oneVault+"/restorekey", permittedInVault(keyvault.MayRestore), c.newRestore),
		restore,

		page(oneVaultKey, onVaultKeys, c.vaultKey),
		page(oneVaultKey+"/use", onVaultKeys, c.useVaultKey),
		send(oneVaultKey+"/rotate", vaultDecides(keyvault.MayRotate), c.rotateVaultKey),
		page(oneVaultKey+"/rotationpolicy", permittedInVault(keyvault.MayGetRotationPolicy), c.rotationPolicy),
		send(oneVaultKey+"/rotationpolicy", vaultDecides(keyvault.MaySetRotationPolicy), c.setRotationPolicy),
		send(oneVaultKey+"/backup", vaultDecides(keyvault.MayBackup), c.backUpVaultKey),
		page(oneVaultKey+"/delete", freshly(permittedInVault(keyvault.MayDelete)), c.askDeleteVaultKey),
		send(oneVaultKey+"/delete", freshly(vaultDecides(keyvault.MayDelete)), c.deleteVaultKey),

		page(oneVaultKeyVersion, onVaultKeys, c.vaultKeyVersion),
		texts(send(oneVaultKeyVersion, vaultDecides(keyvault.MayUpdate), c.changeVaultKey)),
		page(oneVaultKeyVersion+"/disable", freshly(permittedInVault(keyvault.MayUpdate)), c.askDisableVaultKey),
		send(oneVaultKeyVersion+"/disable", freshly(vaultDecides(keyvault.MayUpdate)), c.disableVaultKey),
		send(oneVaultKeyVersion+"/enable", vaultDecides(keyvault.MayUpdate), c.enableVaultKey),

		page(oneVault+"/deletedkeys", onVaultKeys, c.deletedVaultKeys),
		send(oneDeletedVaultKey+"/recover", vaultDecides(keyvault.MayRecover), c.recoverVaultKey),
		page(oneDeletedVaultKey+"/purge", freshly(permittedInVault(keyvault.MayPurge)), c.askPurgeVaultKey),
		send(oneDeletedVaultKey+"/purge", freshly(vaultDecides(keyvault.MayPurge)), c.purgeVaultKey),
	}
}

// readVaultKeys is the action of the management plane that allows seeing the keys of a vault, without their use.
const readVaultKeys = "keys/read"

// onVaultKeys needs to see the keys of the vault that the path names: by a role of the management plane, or by the
// vault's own permissions.
var onVaultKeys = need{may: func(v *visit) (bool, error) {
	if v.mayOnVault(v.Path("vault"), readVaultKeys) {
		return true, nil
	}
	return v.permitted(v.Path("vault"), keyvault.MayList, keyvault.MayGet)
}}

// mayCreateVaultKey needs to create a key in the vault that the path names: by its permissions, or by a role of the
// management plane, which creates new keys but no versions.
var mayCreateVaultKey = need{may: func(v *visit) (bool, error) {
	if v.mayOnVault(v.Path("vault"), "keys/write") {
		return true, nil
	}
	return v.permitted(v.Path("vault"), keyvault.MayCreate)
}}

// permittedInVault needs a permission in the vault that the path names.
func permittedInVault(one keyvault.Permission) need {
	return need{may: func(v *visit) (bool, error) {
		permitted, err := v.permitted(v.Path("vault"), one)
		if err != nil || permitted {
			return permitted, err
		}
		return v.learnsThatVaultIsMissing()
	}}
}

// vaultDecides is for forms about keys that need a permission: the vault itself refuses who lacks it, and records that.
// Only people who may see something of the vault get its own refusal: to all others a vault that exists and one that
// does not are the same.
func vaultDecides(one keyvault.Permission) need {
	return need{may: func(v *visit) (bool, error) {
		ref := keyvault.Ref{Vault: v.Path("vault")}
		if strings.Contains(v.Route().Pattern, "{key}") {
			ref = v.pathRef()
		}
		err := v.c.cfg.Vaults.Admit(v.Context(), v.Caller(), ref, one)
		if _, refused := errors.AsType[*visage.Refusal](err); !refused {
			return err == nil, err
		}
		seen, failed := v.seesVault()
		if seen || failed != nil {
			return false, cmp.Or(failed, err)
		}
		v.Recorded = v.Recorded || keyvault.Recorded(err)
		return false, nil
	}}
}

// createsVaultKey is for the form that makes a key: see mayCreateVaultKey.
var createsVaultKey = need{may: func(v *visit) (bool, error) {
	if v.mayOnVault(v.Path("vault"), "keys/write") {
		return true, nil
	}
	return vaultDecides(keyvault.MayCreate).may(v)
}}

// seesVault reports whether the person may see the vault that the path names, its keys, or that it does not exist.
func (v *visit) seesVault() (bool, error) {
	name := v.Path("vault")
	if v.mayOnVault(name, "read") || v.mayOnVault(name, readVaultKeys) {
		return true, nil
	}
	vault, err := v.c.cfg.Vaults.Vault(v.Context(), name)
	if _, refused := errors.AsType[*visage.Refusal](err); err != nil {
		if refused {
			err = nil
		}
		return false, err
	}
	if v.hasPolicy(vault) {
		return true, nil
	}
	var all []keyvault.Permission
	for _, g := range permissionGroups {
		all = append(all, g.all...)
	}
	return v.permitted(name, all...)
}

// learnsThatVaultIsMissing reports whether the vault that the path names does not exist and the person may know.
func (v *visit) learnsThatVaultIsMissing() (bool, error) {
	_, err := v.c.cfg.Vaults.Vault(v.Context(), v.Path("vault"))
	if _, refused := errors.AsType[*visage.Refusal](err); !refused {
		return false, err
	}
	return v.mayOnVault(v.Path("vault"), "read"), nil
}

// vaultKeyPath is the path of a page of a key or, with a version, of a version of it.
func vaultKeyPath(ref keyvault.Ref, page string) string {
	path := vaultPagePath(ref.Vault, "keys/"+url.PathEscape(ref.Name))
	for _, part := range []string{ref.Version, page} {
		if part != "" {
			path += "/" + part
		}
	}
	return path
}

// wholeKey names a key without its version.
func wholeKey(k keyvault.Key) keyvault.Ref { return keyvault.Ref{Vault: k.Vault.Name, Name: k.Name} }

// pathRef is the key, or version, that the path of a request names.
func (v *visit) pathRef() keyvault.Ref {
	ref := keyvault.Ref{Vault: v.Path("vault"), Name: v.Path("key")}
	if strings.Contains(v.Route().Pattern, "{version}") {
		ref.Version = strings.ToLower(v.Path("version"))
	}
	return ref
}

// vaultKeyReader is the caller as whom keys of a vault are shown: the person; or, where the vault does not permit that,
// the person with what a role of the management plane allows. blocked says why the vault does not.
func (v *visit) vaultKeyReader(vault string) (who visage.Caller, blocked *visage.Refusal, err error) {
	who = v.Caller()
	err = v.c.cfg.Vaults.Permits(v.Context(), who, vault, keyvault.MayList)
	blocked, refused := errors.AsType[*visage.Refusal](err)
	if err == nil || !refused || blocked.Kind != visage.Denied {
		return who, nil, err
	}
	if v.mayOnVault(vault, readVaultKeys) {
		who.Manager = true
		return who, blocked, nil
	}
	return who, blocked, err
}

// vaultKeyRow is a key, or a version of one, in a table.
type vaultKeyRow struct {
	Name, To string
	Current  bool // the version is the newest
	Kind     string
	State    badge
	Created  time.Time
	Expires  time.Time
}

// vaultKeyOrders are the columns that tables of keys and of versions have in common.
var vaultKeyOrders = []order[vaultKeyRow]{
	{"state", "vaultkey.state", byText(func(k vaultKeyRow) string { return k.State.Text }), false},
	{"kind", "vaultkey.kind", byText(func(k vaultKeyRow) string { return k.Kind }), false},
	{"created", "vaultkey.created", byTime(func(k vaultKeyRow) time.Time { return k.Created }), false},
	{"expires", "vaultkey.expires", byEnd(func(k vaultKeyRow) time.Time { return k.Expires }), false},
}

// kindOf says of what kind a key is, for example "RSA 2048".
func kindOf(p keyvault.Public) string {
	if bits := p.Bits(); bits > 0 {
		return fmt.Sprintf("%s %d", p.Type, bits)
	}
	return p.Type + " " + p.Curve
}

// stateOf says whether a version can be used now.
func (v *visit) stateOf(a keyvault.Attributes) badge {
	now := time.Now()
	switch {
	case !a.Enabled:
		return badge{"bad", "off", v.text("vaultkey.state.disabled")}
	case !a.NotBefore.IsZero() && now.Before(a.NotBefore):
		return badge{"warn", "clock", v.text("vaultkey.state.early")}
	case !a.Expires.IsZero() && !now.Before(a.Expires):
		return badge{"warn", "clock", v.text("vaultkey.state.expired")}
	}
	return badge{"ok", "ok", v.text("vaultkey.state.enabled")}
}

// vaultKeysData is the list of keys of a vault.
type vaultKeysData struct {
	table[vaultKeyRow]
	Search   string
	Create   string // the address of the page that creates one; empty: the person may not
	Import   string // likewise
	Transfer string // likewise
	Restore  string // likewise
	Blocked  string // why the person may not use the keys, but see them; empty: they may
	Give     string // the address of the page that gives the person permissions; empty: they may not
}

// vaultKeys lists the keys of a vault whose names begin with what is searched for.
func (c *Console) vaultKeys(v *visit) (*view, error) {
	vault, err := c.cfg.Vaults.Vault(v.Context(), v.Path("vault"))
	if err != nil {
		return nil, err
	}
	who, blocked, err := v.vaultKeyReader(vault.Name)
	if err != nil {
		return nil, err
	}
	data := vaultKeysData{Search: v.field("search")}
	all, err := c.cfg.Vaults.Keys(v.Context(), who, vault.Name, "", math.MaxInt)
	if err != nil {
		return nil, err
	}
	begin := strings.ToLower(data.Search)
	var found []vaultKeyRow
	for _, k := range all.Keys {
		if !strings.HasPrefix(strings.ToLower(k.Name), begin) {
			continue
		}
		found = append(found, vaultKeyRow{
			Name: k.Name, To: vaultKeyPath(keyvault.Ref{Vault: vault.Name, Name: k.Name}, ""),
			Kind: kindOf(k.Public), State: v.stateOf(k.Attributes), Created: k.Created, Expires: k.Expires,
		})
	}
	data.table = tabled(v, vaultPagePath(vault.Name, "keys"), found, "name", slices.Concat([]order[vaultKeyRow]{
		{"name", "vaultkey.name", byText(func(k vaultKeyRow) string { return k.Name }), false},
	}, vaultKeyOrders))
	if blocked != nil {
		data.Blocked = v.refusalText(blocked)
		if blocked.InnerCode == "AccessDenied" && v.mayWritePolicies(vault) {
			data.Give = policyPath(vault.Name, "edit", v.Principal.ObjectID, "")
		}
	}
	for _, action := range []struct {
		need need
		page string
		to   *string
	}{
		{mayCreateVaultKey, "newkey", &data.Create}, {permittedInVault(keyvault.MayImport), "importkey", &data.Import},
		{permittedInVault(keyvault.MayImport), "importbyok", &data.Transfer},
		{permittedInVault(keyvault.MayRestore), "restorekey", &data.Restore},
	} {
		allowed, err := action.need.may(v)
		if err != nil {
			return nil, err
		}
		if allowed {
			*action.to = vaultPagePath(vault.Name, action.page)
		}
	}
	return v.vaultPage("vaultkeys", "keys", vault, data), nil
}

// refusalText is what a refusal says to people, in one sentence.
func (v *visit) refusalText(r *visage.Refusal) string {
	said, ok := v.explain(r)
	if !ok {
		return r.Message
	}
	return said.Sentence
}

// vaultKeyData is the page of a key, or of one version of it.
type vaultKeyData struct {
	Facts    []fact
	State    badge
	ID       string // the identifier with the version
	Newest   string // the identifier without it; empty on the page of a version that is not the newest
	Tags     []fact
	Use      string // the address of the page that uses it for a resource; empty: it cannot be
	Exchange string // the command that prints a key exchange key for a BYOK tool; empty: it is another key
	Transfer string // the address of the page that imports what was wrapped for it; empty: the person may not
	Blocked  string // why the person may not use the key, but see it; empty: they may
	Versions table[vaultKeyRow]

	// What the person may do; nil or empty: they may not.
	Disable, Policy, Delete        string // addresses of pages
	Enable, Rotate, Backup, Change *form
	IsVersion, HasActions          bool

	Protected *protected // the resources that depend on the key
	Locked    *protected // those that a change would lock
}

// versionsOf returns the versions of a key that a page shows, the newest first.
func (c *Console) versionsOf(v *visit, who visage.Caller, ref keyvault.Ref) ([]keyvault.Key, error) {
	all, err := c.cfg.Vaults.KeyVersions(v.Context(), who, ref, "", math.MaxInt)
	if err != nil {
		return nil, err
	}
	slices.Reverse(all.Keys)
	return all.Keys, nil
}

// shownKey is a key with what there is to know about it.
type shownKey struct {
	keyvault.Key
	versions []keyvault.Key // the newest first
	blocked  *visage.Refusal
}

// keyOfPath returns the version that the path names, or the newest. People who may get it and not list them see that
// one alone.
func (c *Console) keyOfPath(v *visit) (shownKey, error) {
	ref := v.pathRef()
	who, blocked, err := v.vaultKeyReader(ref.Vault)
	if err != nil && blocked != nil {
		k, err := c.cfg.Vaults.Key(v.Context(), who, ref)
		return shownKey{k, []keyvault.Key{k}, blocked}, err
	}
	if err != nil {
		return shownKey{}, err
	}
	versions, err := c.versionsOf(v, who, ref)
	if err != nil {
		return shownKey{}, err
	}
	i := slices.IndexFunc(versions, func(k keyvault.Key) bool { return ref.Version == "" || k.Version == ref.Version })
	if i < 0 {
		_, err := c.cfg.Vaults.Key(v.Context(), who, ref) // its refusal says what is wrong
		if err == nil {
			err = fmt.Errorf("key %s is not among its versions", ref.Name)
		}
		return shownKey{}, err
	}
	return shownKey{versions[i], versions, blocked}, nil
}

func (c *Console) vaultKey(v *visit) (*view, error) {
	k, err := c.keyOfPath(v)
	if err != nil {
		return nil, err
	}
	w, _, err := c.vaultKeyPage(v, k)
	return w, err
}

func (c *Console) vaultKeyVersion(v *visit) (*view, error) { return c.vaultKey(v) }

// vaultKeyPage shows a key or a version of it, as the path says.
func (c *Console) vaultKeyPage(v *visit, k shownKey) (*view, *vaultKeyData, error) {
	ref := v.pathRef()
	newest := k.versions[0].Version == k.Version
	unversioned := wholeKey(k.Key)
	d := &vaultKeyData{
		IsVersion: ref.Version != "", State: v.stateOf(k.Attributes), ID: c.cfg.Vaults.KeyID(k.Ref),
		Facts: []fact{
			{v.text("vaultkey.kind"), kindOf(k.Public), false},
			{v.text("vaultkey.version"), k.Version, true},
			{v.text("vaultkey.operations"), operationsText(k.Operations), false},
			{v.text("vaultkey.created"), v.lang.when(k.Created), false},
			{v.text("vaultkey.updated"), v.lang.when(k.Updated), false},
			{v.text("vaultkey.notbefore"), v.dateText(k.NotBefore), false},
			{v.text("vaultkey.expires"), v.dateText(k.Expires), false},
		},
	}
	for _, name := range sortedKeys(k.Tags) {
		d.Tags = append(d.Tags, fact{name, k.Tags[name], false})
	}
	if k.blocked != nil {
		d.Blocked = v.refusalText(k.blocked)
	}
	if newest {
		d.Newest = c.cfg.Vaults.KeyID(unversioned)
	}
	exchange := slices.Equal(k.Operations, []keyvault.Operation{keyvault.Import})
	if exchange && ref.Version == "" {
		d.Exchange = "visage key public " + k.Name + " --vault " + k.Vault.Name
	}
	if k.Enabled && k.Public.Bits() == 2048 && !exchange {
		d.Use = vaultKeyPath(unversioned, "use")
		if ref.Version != "" {
			d.Use += "?" + query("version", k.Version)
		}
	}
	if err := c.offerVaultKey(v, k, d); err != nil {
		return nil, nil, err
	}
	if ref.Version == "" {
		c.versionRows(v, k, d)
	}
	var err error
	if d.Protected, err = v.protectedBy(v.keyRef(k.Ref, ref.Version == "")); err != nil {
		return nil, nil, err
	}
	w := v.vaultPage("vaultkey", "keys", k.Vault, d)
	w.crumbs = append(w.crumbs, link{v.text("vault.tab.keys"), vaultPagePath(k.Vault.Name, "keys")})
	w.title = k.Name
	if ref.Version != "" {
		w.crumbs = append(w.crumbs, link{k.Name, vaultKeyPath(unversioned, "")})
		w.title = v.text("vaultkey.title.version", k.Name, k.Version)
	}
	return w, d, nil
}

// keyRef is a key as resources name it; whole leaves the version out.
func (v *visit) keyRef(ref keyvault.Ref, whole bool) visage.KeyRef {
	r := visage.KeyRef{Vault: v.keyStore(ref.Vault), Name: ref.Name, Version: ref.Version}
	if whole {
		r.Version = ""
	}
	return r
}

func (v *visit) dateText(t time.Time) string {
	if t.IsZero() {
		return v.text("vaultkey.nodate")
	}
	return v.lang.when(t)
}

func operationsText(all []keyvault.Operation) string {
	names := make([]string, len(all))
	for i, op := range all {
		names[i] = string(op)
	}
	return strings.Join(names, ", ")
}

// offerVaultKey adds what the person may do with a key to its page.
func (c *Console) offerVaultKey(v *visit, k shownKey, d *vaultKeyData) error {
	may := map[keyvault.Permission]bool{}
	for _, p := range []keyvault.Permission{keyvault.MayUpdate, keyvault.MayRotate, keyvault.MayBackup,
		keyvault.MayDelete, keyvault.MayGetRotationPolicy, keyvault.MayImport} {
		allowed, err := v.permitted(k.Vault.Name, p)
		if err != nil {
			return err
		}
		may[p] = allowed
	}
	unversioned := wholeKey(k.Key)
	if d.Exchange != "" && may[keyvault.MayImport] {
		d.Transfer = vaultPagePath(k.Vault.Name, "importbyok")
	}
	if may[keyvault.MayUpdate] {
		d.Change = v.vaultKeyForm(k.Key)
		if k.Enabled {
			d.Disable = vaultKeyPath(k.Ref, "disable")
		} else {
			d.Enable = v.button(vaultKeyPath(k.Ref, "enable"), v.text("vaultkey.enable"), "primary")
		}
	}
	if d.IsVersion {
		return nil
	}
	if may[keyvault.MayRotate] {
		d.Rotate = v.button(vaultKeyPath(unversioned, "rotate"), v.text("vaultkey.rotate"), "plain",
			"current", k.versions[0].Version)
		d.Rotate.Icon = "rotate"
	}
	if may[keyvault.MayGetRotationPolicy] {
		d.Policy = vaultKeyPath(unversioned, "rotationpolicy")
	}
	if may[keyvault.MayBackup] {
		d.Backup = v.button(vaultKeyPath(unversioned, "backup"), v.text("vaultkey.backup"), "plain")
		d.Backup.Icon = "download"
	}
	if may[keyvault.MayDelete] {
		d.Delete = vaultKeyPath(unversioned, "delete")
	}
	d.HasActions = d.Rotate != nil || d.Policy != "" || d.Backup != nil || d.Delete != ""
	return nil
}

// versionRows adds a page of the versions of a key.
func (c *Console) versionRows(v *visit, k shownKey, d *vaultKeyData) {
	all := make([]vaultKeyRow, len(k.versions))
	for i, one := range k.versions {
		all[i] = vaultKeyRow{
			Name: one.Version, To: vaultKeyPath(one.Ref, ""), Current: i == 0, Kind: kindOf(one.Public),
			State: v.stateOf(one.Attributes), Created: one.Created, Expires: one.Expires,
		}
	}
	d.Versions = tabled(v, vaultKeyPath(wholeKey(k.Key), ""), all, "-created", slices.Concat([]order[vaultKeyRow]{
		{"version", "vaultkey.version", byText(func(k vaultKeyRow) string { return k.Name }), false},
	}, vaultKeyOrders))
}
