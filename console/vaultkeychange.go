package console

import (
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/keyvault"
)

// vaultKeyOperations are the operations of keys, as forms show them.
var vaultKeyOperations = []keyvault.Operation{
	keyvault.Encrypt, keyvault.Decrypt, keyvault.Sign, keyvault.Verify, keyvault.Wrap, keyvault.Unwrap,
}

func operationField(op keyvault.Operation) string { return "op-" + strings.ToLower(string(op)) }

// operationFields are boxes for the operations of a key. Keys on curves only sign and verify.
func (v *visit) operationFields(ticked []keyvault.Operation, offered []keyvault.Operation) []*field {
	var all []*field
	for _, op := range offered {
		all = append(all, &field{Name: operationField(op), Kind: "checkbox", Label: string(op),
			Checked: slices.Contains(ticked, op)})
	}
	return all
}

// The fields of a form before, of and after the operations of a key, for the template "keyform".

func (f *form) operationsAt() (begin, end int) {
	is := func(x *field) bool { return strings.HasPrefix(x.Name, "op-") }
	begin = max(0, slices.IndexFunc(f.Fields, is))
	for end = begin; end < len(f.Fields) && is(f.Fields[end]); end++ {
	}
	return begin, end
}

// AboveOperations are the fields before those of the operations.
func (f *form) AboveOperations() []*field {
	begin, _ := f.operationsAt()
	return f.Fields[:begin]
}

// Operations are the fields of the operations.
func (f *form) Operations() []*field {
	begin, end := f.operationsAt()
	return f.Fields[begin:end]
}

// BelowOperations are the fields after those of the operations.
func (f *form) BelowOperations() []*field {
	_, end := f.operationsAt()
	return f.Fields[end:]
}

// tickedOperations are the operations whose boxes are ticked.
func (v *visit) tickedOperations() []keyvault.Operation {
	all := []keyvault.Operation{}
	for _, op := range vaultKeyOperations {
		if v.checked(operationField(op)) {
			all = append(all, op)
		}
	}
	return all
}

// minute is how forms write a time: to the minute, in UTC.
const minute = "2006-01-02T15:04"

func (v *visit) dateField(name, label string, t time.Time) *field {
	x := &field{Name: name, Kind: "datetime-local", Label: label, Hint: v.text("vaultkey.utc")}
	if !t.IsZero() {
		x.Value = t.UTC().Format(minute)
	}
	return x
}

// typedDate reads a time of a form; before is what the form was made with, seconds included. Empty: the zero time.
func (v *visit) typedDate(name string, before time.Time) (time.Time, error) {
	text := strings.TrimSpace(v.field(name))
	if text == "" {
		return time.Time{}, nil
	}
	if !before.IsZero() && text == before.UTC().Format(minute) {
		return before, nil
	}
	for _, layout := range []string{minute, "2006-01-02T15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil && t.Year() >= 1970 {
			return t, nil
		}
	}
	code := map[string]string{"notbefore": "InvalidActivationDate", "expires": "InvalidExpirationDate"}[name]
	return time.Time{}, visage.Refuse(visage.Invalid, code, "A date must be between 1970 and 9999, in UTC: write it "+
		"as 2027-01-31T09:00.")
}

// keyFields are where refusals of what is said about a key are shown.
func keyFields(more map[string]string) map[string]string {
	all := tagFields(more)
	all["InvalidActivationDate"], all["InvalidExpirationDate"] = "notbefore", "expires"
	return all
}

// vaultKeyForm is the form that changes a version of a key.
func (v *visit) vaultKeyForm(k keyvault.Key) *form {
	offered := vaultKeyOperations
	if k.Public.Bits() == 0 {
		offered = []keyvault.Operation{keyvault.Sign, keyvault.Verify}
	}
	fields := []*field{
		v.dateField("notbefore", v.text("vaultkey.notbefore"), k.NotBefore),
		v.dateField("expires", v.text("vaultkey.expires"), k.Expires),
	}
	fields = append(fields, v.operationFields(k.Operations, offered)...)
	fields = append(fields, v.tagsField(k.Tags), &field{Name: "state", Kind: "hidden", Value: vaultKeyState(k)})
	f := v.form(vaultKeyPath(k.Ref, ""), v.text("vaultkey.save"), fields...)
	return f
}

// vaultKeyState says in which state of a version a form was made. Time is all that tells one state from another; so
// all that a person can change is part of it.
func vaultKeyState(k keyvault.Key) string {
	h := []string{k.Version, k.Updated.Format(time.RFC3339), k.NotBefore.Format(time.RFC3339),
		k.Expires.Format(time.RFC3339), operationsText(k.Operations)}
	return strings.Join(h, " ")
}

// changeVaultKey changes a version of a key as its form says.
func (c *Console) changeVaultKey(v *visit) (*view, error) {
	k, err := c.keyOfPath(v)
	if err != nil {
		return nil, err
	}
	p, refused := c.updateVaultKey(v, k.Key)
	if refused == nil {
		return v.done(vaultKeyPath(k.Ref, ""), "vaultkey.saved"), nil
	}
	w, d, err := c.vaultKeyPage(v, k)
	if err != nil {
		return nil, err
	}
	d.Locked = p
	v.mayConfirm(d.Change, p)
	if !v.refused(d.Change, refused, keyFields(nil)) {
		return nil, refused
	}
	return v.again(w, d.Change.Error), nil
}

func (c *Console) updateVaultKey(v *visit, k keyvault.Key) (*protected, error) {
	if v.field("state") != vaultKeyState(k) {
		return nil, visage.Refuse(visage.Conflict, "ChangedMeanwhile",
			"The key was changed on %s, after you opened the page. The page now shows the key as it is: check it, and "+
				"send the form again.", k.Updated.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	change := keyvault.KeyChange{Operations: v.tickedOperations()}
	for _, op := range k.Operations { // those that the form has no box for stay
		if !slices.Contains(vaultKeyOperations, op) {
			change.Operations = append(change.Operations, op)
		}
	}
	notBefore, err := v.typedDate("notbefore", k.NotBefore)
	if err != nil {
		return nil, err
	}
	expires, err := v.typedDate("expires", k.Expires)
	if err != nil {
		return nil, err
	}
	change.NotBefore, change.Expires = &notBefore, &expires
	if change.Tags, err = parseTags(v.field("tags")); err != nil {
		return nil, err
	}
	after := keyvault.Attributes{Enabled: true, NotBefore: notBefore, Expires: expires}
	before := k.Attributes
	before.Enabled = true
	locks := usable(before, 0) && !usable(after, 0) || usable(before, soon) && !usable(after, soon)
	for _, op := range []keyvault.Operation{keyvault.Wrap, keyvault.Unwrap} {
		locks = locks || slices.Contains(k.Operations, op) && !slices.Contains(change.Operations, op)
	}
	if p, err := v.wouldLock(locks, v.keyRef(k.Ref, false)); err != nil {
		return p, err
	}
	_, err = c.cfg.Vaults.UpdateKey(v.Context(), v.Caller(), k.Ref, change)
	return nil, err
}

// soon is how near an end of a version counts like one that has come: so near that nobody replaces the version before.
const soon = 24 * time.Hour

// usable reports whether a version can wrap after a time.
func usable(a keyvault.Attributes, after time.Duration) bool {
	now := time.Now().Add(after)
	return a.Enabled && (a.NotBefore.IsZero() || !now.Before(a.NotBefore)) &&
		(a.Expires.IsZero() || now.Before(a.Expires))
}

// askVaultKey shows a page that asks before a key is changed.
func (v *visit) askVaultKey(k keyvault.Key, title string, data askData) *view {
	w := v.vaultPage("vaultask", "keys", k.Vault, data)
	unversioned := wholeKey(k)
	w.crumbs = append(w.crumbs, link{v.text("vault.tab.keys"), vaultPagePath(k.Vault.Name, "keys")},
		link{k.Name, vaultKeyPath(unversioned, "")})
	w.title = title
	if data.Form.Cancel == "" {
		data.Form.Cancel = vaultKeyPath(unversioned, "")
	}
	return w
}

func (c *Console) disablePage(v *visit) (*view, *form, error) {
	k, err := c.keyOfPath(v)
	if err != nil {
		return nil, nil, err
	}
	p, err := v.protectedBy(v.keyRef(k.Ref, false))
	if err != nil {
		return nil, nil, err
	}
	f := v.button(vaultKeyPath(k.Ref, "disable"), v.text("vaultkey.disable"), "danger")
	f.Cancel = vaultKeyPath(k.Ref, "")
	return v.askVaultKey(k.Key, v.text("vaultkey.disabling", k.Name), askData{
		Protected: p, Form: f,
		Consequences: []string{v.text("vaultkey.disabling.means", k.Version), v.text("vaultkey.disabling.undo")},
	}), f, nil
}

func (c *Console) askDisableVaultKey(v *visit) (*view, error) {
	w, _, err := c.disablePage(v)
	return w, err
}

func (c *Console) disableVaultKey(v *visit) (*view, error) {
	off := false
	_, refused := c.cfg.Vaults.UpdateKey(v.Context(), v.Caller(), v.pathRef(), keyvault.KeyChange{Enabled: &off})
	if refused == nil {
		return v.done(vaultKeyPath(v.pathRef(), ""), "vaultkey.disabled"), nil
	}
	w, f, err := c.disablePage(v)
	if err != nil {
		return nil, refused
	}
	return v.askAgain(w, f, refused)
}

func (c *Console) enableVaultKey(v *visit) (*view, error) {
	on := true
	if _, err := c.cfg.Vaults.UpdateKey(v.Context(), v.Caller(), v.pathRef(),
		keyvault.KeyChange{Enabled: &on}); err != nil {
		return nil, err
	}
	return v.done(vaultKeyPath(v.pathRef(), ""), "vaultkey.enabled"), nil
}

// rotateVaultKey makes a new version, unless there is one that the page did not show.
func (c *Console) rotateVaultKey(v *visit) (*view, error) {
	k, err := c.keyOfPath(v)
	if err != nil {
		return nil, err
	}
	permitted, err := v.permitted(k.Vault.Name, keyvault.MayRotate)
	if err != nil {
		return nil, err
	}
	if permitted && k.versions[0].Version != v.field("current") {
		w, _, err := c.vaultKeyPage(v, k)
		if err != nil {
			return nil, err
		}
		w.notices, w.status = []notice{{"warn", v.text("vaultkey.rotated.already")}}, 409
		return w, nil
	}
	made, err := c.cfg.Vaults.RotateKey(v.Context(), v.Caller(), v.pathRef())
	if err != nil {
		return nil, err
	}
	return v.done(vaultKeyPath(v.pathRef(), ""), "vaultkey.rotated", made.Version), nil
}

// backUpVaultKey answers with a backup of a key, which this instance alone can restore.
func (c *Console) backUpVaultKey(v *visit) (*view, error) {
	blob, err := c.cfg.Vaults.BackupKey(v.Context(), v.Caller(), v.pathRef())
	if err != nil {
		return nil, err
	}
	name := v.Path("vault") + "-" + v.Path("key") + ".keybackup"
	return &view{download: &download{name: plainName(name), contentType: "application/octet-stream", data: blob}}, nil
}

// plainName leaves out of the name of a file what names of vaults and keys do not have.
func plainName(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, name)
}

// useData is the page on which a person chooses the resource that shall use a key.
type useData struct {
	ID        string
	Resources []useRow
	Columns   []column
	Search    string
	More      string // the address of the next page; empty: this is the last
	Version   string
}

type useRow struct {
	Name, To string
	Location string
	Key      badge
}

// useVaultKey lists the resources that can use a key: those of tier E0 in the region of the vault that the person may
// change.
func (c *Console) useVaultKey(v *visit) (*view, error) {
	ref := v.pathRef()
	ref.Version = v.field("version")
	k, err := c.keyOfPath(v)
	if err != nil {
		return nil, err
	}
	all, err := c.cfg.Accounts.List(v.Context())
	if err != nil {
		return nil, err
	}
	data := useData{ID: c.cfg.Vaults.KeyID(ref), Search: v.field("search"), Version: ref.Version}
	search := strings.ToLower(data.Search)
	all = slices.DeleteFunc(all, func(a account.Account) bool {
		return !strings.Contains(strings.ToLower(a.Name), search) || a.Tier != visage.E0 ||
			!visage.SameLocation(a.Location, k.Vault.Location) || !v.may(writeAccount, c.cfg.AccountPath(a))
	})
	page := withQuery(vaultKeyPath(wholeKey(k.Key), "use"), "version", ref.Version)
	t := tabled(v, page, all, "name", []order[account.Account]{
		{"name", "vaultkey.use.resource", byText(func(a account.Account) string { return a.Name }), false},
		{"key", "vaultkey.use.key", byText(v.keyText), false},
		{"location", "vaultkey.use.location", nil, false}, // that of the vault
	})
	data.Columns, data.More = t.Columns, t.More
	for _, a := range t.Rows {
		row, err := c.useRow(v, a, data.ID)
		if err != nil {
			return nil, err
		}
		data.Resources = append(data.Resources, row)
	}
	w := v.vaultPage("vaultkeyuse", "keys", k.Vault, data)
	w.crumbs = append(w.crumbs, link{v.text("vault.tab.keys"), vaultPagePath(k.Vault.Name, "keys")},
		link{k.Name, vaultKeyPath(wholeKey(k.Key), "")})
	w.title = v.text("vaultkey.use.title", k.Name)
	return w, nil
}

func (c *Console) useRow(v *visit, a account.Account, key string) (useRow, error) {
	e, err := c.cfg.Accounts.Encryption(v.Context(), a)
	if err != nil {
		return useRow{}, err
	}
	return useRow{a.Name, choice{URI: key}.path(a), a.Location, v.keyBadge(e.Status)}, nil
}
