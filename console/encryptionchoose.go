package console

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keyvault"
)

// choice is the key that a person has chosen: by its whole identifier, or by the address of its vault and its name.
type choice struct {
	URI                    string // as it was pasted
	Address, Name, Version string // without a version: new versions are followed
}

// choiceOf returns the choice of a key.
func choiceOf(key visage.KeyRef) choice {
	address := key.Vault
	if key.Scheme() == "https" {
		address += "/"
	}
	return choice{Address: address, Name: key.Name, Version: key.Version}
}

// choice reads the choice that a form or an address carries.
func (v *visit) choice() choice {
	c := choice{URI: strings.TrimSpace(v.field("uri")), Address: v.field("address"), Name: v.field("name"),
		Version: v.field("version")}
	if vault := v.field("vault"); vault != "" {
		c.Address = v.c.cfg.VaultAddress(vault)
	}
	return c
}

// protection returns the settings that the choice stands for. The identity of the resource is switched on and gets
// access on the way, as far as the person may give it.
func (c choice) protection() account.Protection {
	p := account.Protection{Customer: true, VaultURI: c.Address, KeyName: c.Name, KeyVersion: c.Version, Register: true}
	if c.URI != "" {
		p.VaultURI, p.KeyName, p.KeyVersion = c.URI, "", ""
	}
	return p
}

// path is the address of the page that checks the choice.
func (c choice) path(a account.Account) string {
	return encryptionPath(a, "key", "uri", c.URI, "address", c.Address, "name", c.Name, "version", c.Version)
}

// hidden returns the choice as hidden fields.
func (c choice) hidden() []string {
	return []string{"address", c.Address, "name", c.Name, "version", c.Version}
}

// chooser is the form of the article: the type of encryption, and how a key is given.
type chooser struct {
	Action    string
	Type, How *field
	URI       *field
	Problem   string // why no customer's key is possible; empty: it is
	Create    string // the page that creates another resource; empty: the person may not
}

// chooser makes the form for a resource, with what was typed.
func (v *visit) chooser(a account.Account, e account.Encryption, typed choice) *chooser {
	customer := e.Key != visage.KeyRef{} || typed != choice{}
	ch := &chooser{
		Action: encryptionPath(a, "choose"),
		Type: &field{Name: "type", Kind: "radio", Label: v.text("encryption.type"), Value: "service", Options: []option{
			{Value: "service", Text: v.text("encryption.type.service"), Hint: v.text("encryption.type.service.hint")},
			{Value: "customer", Text: v.text("encryption.type.customer"),
				Hint: v.text("encryption.type.customer.hint")},
		}},
		How: &field{Name: "how", Kind: "radio", Label: v.text("encryption.how"), Value: "uri", Options: []option{
			{Value: "uri", Text: v.text("encryption.how.uri")},
			{Value: "vault", Text: v.text("encryption.how.vault"), Hint: v.text("encryption.how.vault.hint")},
		}},
		URI: &field{Name: "uri", Kind: "text", Label: v.text("encryption.uri"), Value: typed.URI, Code: true, Max: 2048,
			Hint: v.text("encryption.uri.hint", v.c.cfg.VaultAddress("my-vault")+"keys/KEY/VERSION")},
	}
	if customer {
		ch.Type.Value = "customer"
	}
	if v.mayCreateVaults() {
		ch.How.Options = append(ch.How.Options,
			option{Value: "new", Text: v.text("encryption.how.new"), Hint: v.text("encryption.how.new.hint")})
	}
	if a.Tier != visage.E0 {
		ch.Problem = v.text("encryption.tier", string(a.Tier))
		if v.may(writeAccount, v.c.group()) {
			ch.Create = prefix + "/create"
		}
	}
	return ch
}

// chooseEncryption shows the form for a resource that is under a customer's key already, and leads on from the form.
func (c *Console) chooseEncryption(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	e, err := c.cfg.Accounts.Encryption(v.Context(), a)
	if err != nil {
		return nil, err
	}
	customer := e.Key != visage.KeyRef{}
	switch {
	case v.field("type") == "service" && customer:
		return v.redirect(encryptionPath(a, "service")), nil
	case v.field("type") == "service":
		return v.done(encryptionPath(a, ""), "encryption.service.already"), nil
	case v.field("type") == "customer" && v.field("how") == "vault":
		return v.redirect(encryptionPath(a, "vault")), nil
	case v.field("type") == "customer" && v.field("how") == "new":
		return v.redirect(encryptionPath(a, "new")), nil
	case v.field("type") == "customer":
		return c.checkKey(v)
	}
	return c.choosePage(v, a, choice{}, "")
}

// choosePage shows the form, with what is wrong with the pasted identifier.
func (c *Console) choosePage(v *visit, a account.Account, typed choice, problem string) (*view, error) {
	e, err := c.cfg.Accounts.Encryption(v.Context(), a)
	if err != nil {
		return nil, err
	}
	d := &encryptionData{Badge: v.keyBadge(e.Status), Choose: v.chooser(a, e, typed)}
	if problem != "" {
		d.Choose.Type.Value, d.Choose.URI.Error = "customer", problem
	}
	w := v.encryptionStep(a, "encryption", v.text("encryption.choose"), d)
	if problem != "" {
		w.status = http.StatusUnprocessableEntity
	}
	return w, nil
}

// encryptionStep shows a page below that of the key of a resource.
func (v *visit) encryptionStep(a account.Account, template, title string, data any) *view {
	w := v.resourcePage(template, "encryption", a, data)
	w.crumbs = append(w.crumbs, link{v.text("resource.tab.encryption"), encryptionPath(a, "")})
	w.title = v.text("resource.title", title, a.Name)
	return w
}

// keyCheck is the page that checks a key before it is saved.
type keyCheck struct {
	Key      []keyFact
	Versions *versionForm // chooses the version; nil: not offered
	Checks   []checked
	InUse    bool
	Save     *form // nil: something must be mended first
	SaveHint string
	Again    string
	Refused  *explanation
}

// versionForm chooses the version of a key.
type versionForm struct {
	Action, Address, Name string
	Version               *field
}

// checked is a precondition with its state, and the forms that mend it.
type checked struct {
	State, Icon, Label, Word string
	Unmet                    *explanation
	Mend                     []*form
	Hint                     string
}

// checkKey takes a key apart and checks every precondition, before anything is saved.
func (c *Console) checkKey(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	return c.keyCheckPage(v, a, v.choice(), nil)
}

// keyCheckPage shows the check of a choice, and why it could not be saved.
func (c *Console) keyCheckPage(v *visit, a account.Account, chosen choice, refused *explanation) (*view, error) {
	if chosen.URI == "" && chosen.Name == "" {
		return c.choosePage(v, a, chosen, v.text("encryption.uri.missing"))
	}
	found, err := c.cfg.Accounts.CheckProtection(v.Context(), v.Caller(), a.Name, chosen.protection())
	if err != nil {
		return nil, err
	}
	if problem := c.uriProblem(v, chosen, found); problem != "" {
		return c.choosePage(v, a, chosen, problem)
	}
	chosen = choiceOf(found.Key)
	e, err := c.cfg.Accounts.Encryption(v.Context(), a)
	if err != nil {
		return nil, err
	}
	d := &keyCheck{Key: c.chosenFacts(v, found.Key), InUse: found.InUse, Again: chosen.path(a), Refused: refused}
	if d.Versions, err = c.versionForm(v, a, found.Key); err != nil {
		return nil, err
	}
	unmet := slices.DeleteFunc(slices.Clone(found.Findings), func(f account.Finding) bool {
		return f.State != account.Unmet
	})
	// The key in use may refuse because access was taken away: then saving it again gives the access back.
	restores := len(unmet) == 1 && unmet[0].Precondition == custody.PresentKeyAnswers && found.Key == e.Key &&
		e.Status.Condition != custody.Locked
	for _, f := range found.Findings {
		d.Checks = append(d.Checks, v.finding(a, chosen, f))
		if last := &d.Checks[len(d.Checks)-1]; restores && f.State == account.Unmet {
			last.Hint = v.text("encryption.restore.hint")
		}
	}
	place := func(x checked) int {
		if x.State == "bad" {
			return 0 // what is to be mended comes first
		}
		return 1
	}
	slices.SortStableFunc(d.Checks, func(a, b checked) int { return cmp.Compare(place(a), place(b)) })
	if !d.InUse && (len(unmet) == 0 || restores) {
		d.Save = v.button(encryptionPath(a, ""), v.text("encryption.save"), "primary", chosen.hidden()...)
		d.Save.Icon = "save"
		d.Save.Cancel = encryptionPath(a, "")
		d.Save.Fields = append(d.Save.Fields, revision(a))
		d.SaveHint = v.text("encryption.save.hint")
		if restores {
			d.Save.Submit, d.SaveHint = v.text("encryption.restore"), v.text("encryption.restore.hint")
		}
	}
	w := v.encryptionStep(a, "encryptionkey", v.text("encryption.check"), d)
	if refused != nil {
		w = v.again(w, refused)
	}
	return w, nil
}

// uriProblem says what is wrong with a pasted identifier; empty: it names a key of a vault that can be used.
func (c *Console) uriProblem(v *visit, chosen choice, found account.Preflight) string {
	first, unmet := found.FirstUnmet()
	byPath := map[account.Precondition]bool{account.KeyNamed: true, custody.VaultKnown: true, custody.KeyExists: true}
	for _, f := range found.Findings {
		if byPath[f.Precondition] && f.State == account.Unmet && f.Remedies == nil {
			first = f
			break
		}
	}
	switch {
	case !unmet || !byPath[first.Precondition] || first.Remedies != nil:
		return ""
	case first.Precondition == account.KeyNamed:
		if key := uriMistake(chosen.URI); key != "" {
			return v.text(key)
		}
	case first.Precondition == custody.VaultKnown && first.Refusal.Code == "InvalidKeyVaultProperties" &&
		found.Key.Scheme() == "https":
		return v.text("encryption.uri.foreign", strings.TrimPrefix(c.cfg.VaultAddress("*"), "https://"))
	case first.Precondition == custody.KeyExists && found.Key.Version != "" && c.hasKey(v, found.Key):
		return v.text("encryption.uri.version", found.Key.Name, found.Key.Version)
	}
	said := v.lang.refusal(first.Refusal)
	return said.Sentence
}

// uriMistake names the message about the mistake in a pasted identifier that names no key; empty: it is another.
func uriMistake(text string) string {
	lower := strings.ToLower(text)
	switch {
	case strings.ContainsFunc(text, unicode.IsSpace):
		return "encryption.uri.space"
	case !strings.Contains(lower, "://"), strings.HasPrefix(lower, "http://"):
		return "encryption.uri.scheme"
	case !strings.HasPrefix(lower, "https://"):
		return "" // of another store, whose own sentence helps
	case strings.Contains(lower, "/secrets/"):
		return "encryption.uri.secret"
	case strings.Contains(lower, "/certificates/"):
		return "encryption.uri.certificate"
	case strings.Contains(lower, "/deletedkeys/"):
		return "encryption.uri.deleted"
	case strings.ContainsAny(text, "?#"):
		return "encryption.uri.query"
	case strings.Contains(lower, "/keys/") && !strings.Contains(text, "/keys/"):
		return "encryption.uri.case"
	case !strings.Contains(lower, "/keys/"):
		return "encryption.uri.nokey"
	}
	return ""
}

// hasKey reports whether the person can see that a vault of this instance has a key, in whatever version.
func (c *Console) hasKey(v *visit, key visage.KeyRef) bool {
	vault, ours := c.vaultOf(key)
	if !ours {
		return false
	}
	_, err := c.cfg.Vaults.Key(v.Context(), v.keyViewer(vault), keyvault.Ref{Vault: vault, Name: key.Name})
	return err == nil
}

// keyViewer returns the visitor as one that reads the keys of a vault: with the roles of the management plane, or else
// with what the vault itself permits.
func (v *visit) keyViewer(vault string) visage.Caller {
	by := v.Caller()
	by.Manager = v.may("Microsoft.KeyVault/vaults/keys/read", v.c.vaultScope(vault))
	return by
}

// vaultScope is the management path of a vault, also of one that does not exist.
func (c *Console) vaultScope(name string) string {
	return c.group() + "/providers/Microsoft.KeyVault/vaults/" + name
}

// chosenFacts shows what a key reference was taken apart into.
func (c *Console) chosenFacts(v *visit, key visage.KeyRef) []keyFact {
	vault, ours := c.vaultOf(key)
	facts := []keyFact{
		{Name: v.text("encryption.vault"), Text: key.Vault, Code: true},
		{Name: v.text("encryption.key"), Text: key.Name},
		{Name: v.text("encryption.version"), Text: v.text("encryption.version.follow")},
		{Name: v.text("encryption.identifier"), Text: key.String(), Code: true},
	}
	if ours {
		facts[0] = keyFact{Name: v.text("encryption.vault"), Text: vault, To: keyPlace(vault, "")}
		facts[1].To = keyPlace(vault, key.Name)
	}
	if key.Version != "" {
		facts[2].Text, facts[2].Code, facts[2].Hint = key.Version, true, v.text("encryption.version.pinned")
	}
	return facts
}

// maxVersions is how many versions of a key the form offers.
const maxVersions = 100

// versionForm offers the versions of a key that the person can see.
func (c *Console) versionForm(v *visit, a account.Account, key visage.KeyRef) (*versionForm, error) {
	chosen := choiceOf(key)
	f := &versionForm{Action: encryptionPath(a, "key"), Address: chosen.Address, Name: chosen.Name, Version: &field{
		Name: "version", Kind: "select", Label: v.text("encryption.version"), Value: key.Version, Required: true,
		Options: []option{{Text: v.text("encryption.version.follow")}},
	}}
	known := key.Version == ""
	if vault, ours := c.vaultOf(key); ours {
		page, err := c.cfg.Vaults.KeyVersions(v.Context(), v.keyViewer(vault),
			keyvault.Ref{Vault: vault, Name: key.Name}, "", maxVersions)
		if err != nil {
			if said, _ := v.explain(err); said == nil {
				return nil, err
			}
		}
		for i := len(page.Keys) - 1; i >= 0; i-- {
			k := page.Keys[i]
			text := v.text("encryption.version.of", k.Version, v.lang.when(k.Created))
			f.Version.Options = append(f.Version.Options, option{Value: k.Version, Text: text, Disabled: !k.Enabled})
			known = known || k.Version == key.Version
		}
	}
	if !known {
		f.Version.Options = append(f.Version.Options, option{Value: key.Version, Text: key.Version})
	}
	if len(f.Version.Options) == 1 {
		return nil, nil
	}
	return f, nil
}

// unchangeable are the preconditions that no right mends: what they are about is fixed when a vault or a key is made.
var unchangeable = map[account.Precondition]bool{
	account.SameRegion: true, account.SameTenant: true, custody.KeyType: true,
}

// unsupportedKey is the code of what is refused because of the type of a key.
const unsupportedKey = "KeyVaultKeyTypeNotSupported"

// finding describes the finding of a precondition.
func (v *visit) finding(a account.Account, chosen choice, f account.Finding) checked {
	c := checked{Label: v.text("encryption.check." + string(f.Precondition))}
	switch f.State {
	case account.Met:
		c.State, c.Icon, c.Word = "ok", "ok", v.text("encryption.met")
	case account.WillBeMet:
		c.State, c.Icon, c.Word = "ok", "play", v.text("encryption.willbemet")
	case account.NotKnown:
		c.State, c.Icon, c.Word = "off", "todo", v.text("encryption.notknown")
	case account.Unmet:
		c.State, c.Icon, c.Word = "bad", "bad", v.text("encryption.unmet")
		c.Unmet = v.lang.refusal(f.Refusal)
		for _, r := range f.Remedies {
			c.Mend = append(c.Mend, v.mendForm(a, chosen, f.Precondition, r))
		}
		if len(f.Remedies) == 0 {
			c.Hint = v.text("encryption.nomend")
		}
		if f.Precondition == account.AccessApproved && len(f.Remedies) == 0 {
			c.Hint = v.text("encryption.decides")
		}
		if unchangeable[f.Precondition] || f.Refusal.Code == unsupportedKey {
			c.Hint = v.text("encryption.nochange")
		}
	}
	return c
}

// saveKey puts the resource under the chosen key.
func (c *Console) saveKey(v *visit) (*view, error) {
	chosen := v.choice()
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err == nil {
		err = c.needProofToRestore(v, a, chosen)
	}
	if errors.Is(err, errStale) {
		return nil, err
	}
	if err == nil {
		a, err = c.cfg.Accounts.Update(v.Context(), v.Caller(), a.Name,
			func(now account.Account) (account.Change, error) {
				p := chosen.protection()
				return account.Change{Protection: &p}, v.unchanged(now)
			})
	}
	if err == nil {
		return v.done(encryptionPath(a, ""), "encryption.saved"), nil
	}
	said, ok := v.explain(err)
	if !ok {
		return nil, err
	}
	if a, err = c.cfg.Accounts.Get(v.Context(), v.Path("account")); err != nil {
		return nil, err
	}
	if said.Code == "RequestConflict" { // the check cannot look while a change runs
		return c.conflictPage(v, a, said)
	}
	return c.keyCheckPage(v, a, chosen, said)
}

// needProofToRestore asks for a fresh proof of the person before the identity of a resource gets back the access that
// it had to the vault of its key: somebody has taken it away, perhaps to lock the data.
func (c *Console) needProofToRestore(v *visit, a account.Account, chosen choice) error {
	e, err := c.cfg.Accounts.Encryption(v.Context(), a)
	if err != nil || e.Key == (visage.KeyRef{}) {
		return err
	}
	found, err := c.cfg.Accounts.CheckProtection(v.Context(), v.Caller(), a.Name, chosen.protection())
	if err != nil || found.Key.Vault != e.Key.Vault {
		return err
	}
	for _, f := range found.Findings {
		if slices.Contains(keyAccess, f.Precondition) && f.State == account.WillBeMet {
			return v.needFresh()
		}
	}
	return nil
}

// keyAccess is what the identity of a resource needs in the vault of its key.
var keyAccess = []account.Precondition{custody.MayGet, custody.MayWrap, custody.MayUnwrap}

// conflictPage shows the state of the key together with why a form was refused.
func (c *Console) conflictPage(v *visit, a account.Account, said *explanation) (*view, error) {
	w, err := c.encryptionPage(v, a)
	if err != nil {
		return nil, err
	}
	if d, ok := w.data.(*encryptionData); ok {
		d.Alerts = append([]keyAlert{{"bad", said.Sentence, said.Detail}}, d.Alerts...)
	}
	w.refresh = 0 // of a POST's address
	return v.again(w, said), nil
}

// keyDates reads the dates of a form for a key; an empty one is none.
func (v *visit) keyDates() (change keyvault.KeyChange, err error) {
	for _, f := range []struct {
		name string
		into **time.Time
	}{{"notbefore", &change.NotBefore}, {"expires", &change.Expires}} {
		var date time.Time
		if text := v.field(f.name); text != "" {
			if date, err = time.Parse(time.DateOnly, text); err != nil {
				return change, visage.Refuse(visage.Invalid, "BadParameter",
					"The date %q is not valid: write it as 2027-01-31.", cut(text, 40))
			}
		}
		*f.into = &date
	}
	return change, nil
}
