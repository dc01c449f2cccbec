package console

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
)

// KeyStores manages the stores of customers' keys beside key vaults, for operators.
type KeyStores interface {
	// Kinds returns the kinds of stores there are.
	Kinds() []KeyStoreKind
	// Azure returns the application as which resources use vaults of Azure that are not among the stores; nil: none.
	Azure() *AzureApplication
	// Stores returns the configured stores, in the order of their addresses.
	Stores(ctx context.Context, by visage.Caller) ([]KeyStore, error)
	// Add adds the store at an address; fields has its description. Refusals: InvalidKeyStore, KeyStoreExists.
	Add(ctx context.Context, by visage.Caller, address string, fields map[string]string) (KeyStore, error)
	// Change changes fields of the description of a store, by their names; an empty value takes a field away. Refusals:
	// KeyStoreNotFound, KeyStoreFromSettings, InvalidKeyStore, KeyStoreInUse, RequestConflict.
	Change(ctx context.Context, by visage.Caller, id string, fields map[string]string) error
	// Remove removes a store. Refusals: KeyStoreNotFound, KeyStoreFromSettings, KeyStoreInUse.
	Remove(ctx context.Context, by visage.Caller, id string) error
	// Try connects to a store and, if a key is named, describes it as the identity of a resource; nothing changes.
	// Refusals: KeyStoreNotFound, KeyStoreNotUsable, TrialIncomplete, ResourceNotFound, IdentityRequired,
	// InvalidKeyVaultProperties.
	Try(ctx context.Context, by visage.Caller, id, resource, key string) (KeyStoreTrial, error)
}

// KeyStoreKind is a kind of stores.
type KeyStoreKind struct {
	Scheme   string // of its addresses
	About    string // the form of an address, and what it is the address of
	Settings bool   // such stores are described in the settings alone
	Methods  []KeyStoreMethod
}

// KeyStoreMethod is a method of login of a kind of stores.
type KeyStoreMethod struct {
	Name   string
	Fields []string // that a description has with it, besides the address and the method, in the order of forms
	Needs  []string // those of them that must not be empty
}

// AzureApplication is an application in Azure, and the resources that may use it, by their management paths, or "*" for
// all; none: those that have a key in Azure already.
type AzureApplication struct {
	ClientID  string
	Resources []string
}

// KeyStore is a configured store.
type KeyStore struct {
	ID, Address, Kind, Login string
	Settings                 bool              // it comes from the settings, and cannot be removed
	Added                    time.Time         // zero for those of the settings
	Fault                    string            // why it cannot be used, in English; empty: it can
	Unnamed                  bool              // it should name the resources that may use it, and does not
	Fields                   map[string]string // of its description, by the names of KeyStoreMethod.Fields
	Resources                []string          // that have a key in it, of those that the caller may see
	Others                   int               // the number of the others
	Answer                   string            // the class of its last answer; empty: none since the start
	Answered                 time.Time
	Expires                  time.Time // when the first of the keys in it that resources use expires; zero: none does
	Took                     time.Duration
}

// KeyStoreTrial is the result of a trial.
type KeyStoreTrial struct {
	Passed bool
	Steps  []KeyStoreStep
	Key    string        // what the store says of the key; empty: nothing
	Unfit  []string      // why the key may not protect a resource, each a sentence in English
	Took   time.Duration // until the key was described; zero: it was not asked
}

// KeyStoreStep is one step of a trial.
type KeyStoreStep struct {
	Name  string // reachable, certificate, login or key
	State string // yes, no or unknown
	Says  string // the answer of the store, in its words; may be empty
}

const (
	storesPath = prefix + "/stores"
	oneStore   = storesPath + "/{store}"
	newStore   = storesPath + "/-/new/{kind}"
)

func (c *Console) keyStoreRoutes() []route {
	return []route{
		page(storesPath, operator, c.keyStores),
		page(newStore, freshly(operator), c.newKeyStore),
		send(newStore, freshly(operator), c.addKeyStore),
		page(oneStore, operator, c.keyStore),
		send(oneStore+"/test", operator, c.testKeyStore),
		page(oneStore+"/change", freshly(operator), c.changeKeyStorePage),
		send(oneStore+"/change", freshly(operator), c.changeKeyStore),
		page(oneStore+"/remove", freshly(operator), c.removeKeyStorePage),
		send(oneStore+"/remove", freshly(operator), c.removeKeyStore),
	}
}

func storePath(id, action string) string {
	path := storesPath + "/" + url.PathEscape(id)
	if action != "" {
		path += "/" + action
	}
	return path
}

func newStorePath(kind string) string { return storesPath + "/-/new/" + url.PathEscape(kind) }

// keyStoreRow is a store in the table.
type keyStoreRow struct {
	KeyStore
	To    string
	Badge badge
	From  string
	Users int
	Ends  *badge // nil: no key in it has an expiry date
}

// keyStoresData is the page of all stores.
type keyStoresData struct {
	table[keyStoreRow]
	Create []link   // one for each kind
	Alone  []string // the kinds that are described in the settings alone
	Azure  *AzureApplication
}

var keyStoreOrders = []order[keyStoreRow]{
	{"address", "stores.address", byText(func(r keyStoreRow) string { return r.Address }), false},
	{"login", "stores.login", byText(func(r keyStoreRow) string { return r.Login }), false},
	{"from", "stores.from", byText(func(r keyStoreRow) string { return r.From }), false},
	{"resources", "stores.resources", byNumber(func(r keyStoreRow) int { return r.Users }), true},
	{"expires", "stores.expires", byTime(func(r keyStoreRow) time.Time { return r.Expires }), false},
	{"answer", "stores.answer", byTime(func(r keyStoreRow) time.Time { return r.Answered }), false},
}

func (c *Console) keyStores(v *visit) (*view, error) {
	all, err := c.cfg.KeyStores.Stores(v.Context(), v.Caller())
	if err != nil {
		return nil, err
	}
	d := keyStoresData{Azure: c.cfg.KeyStores.Azure()}
	var rows []keyStoreRow
	for _, s := range all {
		rows = append(rows, keyStoreRow{s, storePath(s.ID, ""), v.answerBadge(s), v.storeOrigin(s),
			len(s.Resources) + s.Others, v.keyEnds(s.Expires)})
	}
	d.table = tabled(v, storesPath, rows, "address", keyStoreOrders)
	for _, k := range c.cfg.KeyStores.Kinds() {
		name := v.text("stores.kind." + k.Scheme)
		if k.Settings {
			d.Alone = append(d.Alone, name)
			continue
		}
		d.Create = append(d.Create, link{name, newStorePath(k.Scheme)})
	}
	return v.page("keystores", v.text("stores.title"), d), nil
}

// answerBadge says how a store has answered last.
func (v *visit) answerBadge(s KeyStore) badge {
	switch {
	case s.Fault != "":
		return badge{"bad", "bad", v.text("stores.fault")}
	case s.Answer == "":
		return badge{"off", "off", v.text("stores.answer.none")}
	case s.Answer == "ok":
		return badge{"ok", "ok", v.text("stores.answer.ok")}
	case s.Answer == "unknown":
		return badge{"warn", "warn", v.text("stores.answer.unknown")}
	}
	return badge{"bad", "lock", v.text("stores.answer." + s.Answer)}
}

func (v *visit) storeOrigin(s KeyStore) string {
	if s.Settings {
		return v.text("stores.from.settings")
	}
	return v.text("stores.from.operator")
}

// keyStoreData is the page of one store.
type keyStoreData struct {
	KeyStore
	Badge  badge
	Facts  []fact
	Users  []link
	Try    *form
	Trial  *KeyStoreTrial // nil: none was made
	Steps  []trialStep
	Took   string
	Change string // the page that changes its description; empty: it cannot be changed here
	Remove string // the page that asks; empty: the store cannot be removed here
}

// trialStep is one step of a trial in the list.
type trialStep struct {
	Name, Says string
	Badge      badge
}

// storeOf finds the store that the path names.
func (c *Console) storeOf(v *visit) (KeyStore, error) {
	all, err := c.cfg.KeyStores.Stores(v.Context(), v.Caller())
	if err != nil {
		return KeyStore{}, err
	}
	i := slices.IndexFunc(all, func(s KeyStore) bool { return s.ID == v.Path("store") })
	if i < 0 {
		return KeyStore{}, refuseUnknownPage()
	}
	return all[i], nil
}

func (c *Console) keyStore(v *visit) (*view, error) {
	s, err := c.storeOf(v)
	if err != nil {
		return nil, err
	}
	return v.keyStorePage(c.keyStoreData(v, s)), nil
}

func (v *visit) keyStorePage(d *keyStoreData) *view {
	w := v.page("keystore", v.text("stores.one", v.text("stores.kind."+d.Kind)), d)
	w.crumbs = []link{{v.text("stores.title"), storesPath}}
	return w
}

func (c *Console) keyStoreData(v *visit, s KeyStore) *keyStoreData {
	d := &keyStoreData{KeyStore: s, Badge: v.answerBadge(s), Facts: []fact{
		{v.text("stores.address"), s.Address, true}, {v.text("stores.from"), v.storeOrigin(s), false},
		{v.text("stores.login"), s.Login, false},
	}}
	if !s.Expires.IsZero() {
		d.Facts = append(d.Facts, fact{v.text("stores.expires"), v.lang.day(s.Expires) + " · " +
			v.keyEnds(s.Expires).Text, false})
	}
	if !s.Added.IsZero() {
		d.Facts = append(d.Facts, fact{v.text("stores.added"), v.lang.when(s.Added), false})
	}
	for _, k := range c.cfg.KeyStores.Kinds() {
		i := slices.IndexFunc(k.Methods, func(m KeyStoreMethod) bool { return m.Name == s.Login })
		if k.Scheme != s.Kind || i < 0 {
			continue
		}
		for _, name := range k.Methods[i].Fields {
			if value := s.Fields[name]; value != "" {
				d.Facts = append(d.Facts, fact{v.storeField(name, s.Kind), value, false})
			}
		}
	}
	for _, name := range s.Resources {
		d.Users = append(d.Users, link{name, resourcePath(name, "encryption")})
	}
	d.Try = v.form(storePath(s.ID, "test"), v.text("stores.try"),
		&field{Name: "resource", Kind: "text", Label: v.text("stores.try.resource"), Max: 64,
			Hint: v.text("stores.try.resource.hint")},
		&field{Name: "key", Kind: "text", Label: v.text("stores.try.key"), Max: 256, Code: true,
			Hint: v.text("stores.try.key.hint")})
	if len(s.Resources) > 0 {
		d.Try.Fields[0].Value = s.Resources[0]
	}
	if !s.Settings {
		d.Change, d.Remove = storePath(s.ID, "change"), storePath(s.ID, "remove")
	}
	return d
}

// storeField returns what people call a field of a description, in stores of a scheme; its own name, if there is no
// other.
func (v *visit) storeField(name, scheme string) string {
	for _, of := range []string{name + "." + scheme, name} {
		if key := "stores.field." + of; v.lang.has(key) {
			return v.text(key)
		}
	}
	return name
}

func (c *Console) testKeyStore(v *visit) (*view, error) {
	s, err := c.storeOf(v)
	if err != nil {
		return nil, err
	}
	trial, refused := c.cfg.KeyStores.Try(v.Context(), v.Caller(), s.ID, strings.TrimSpace(v.field("resource")),
		strings.TrimSpace(v.field("key")))
	if s, err = c.storeOf(v); err != nil {
		return nil, err
	}
	d := c.keyStoreData(v, s)
	if refused != nil {
		if !v.refused(d.Try, refused, map[string]string{"ResourceNotFound": "resource", "IdentityRequired": "resource",
			"TrialIncomplete": "resource", "KeyStoreNotPermitted": "resource", "InvalidKeyVaultProperties": "key"}) {
			return nil, refused
		}
		return v.again(v.keyStorePage(d), d.Try.Error), nil
	}
	d.Try.fill(v.field)
	d.Trial = &trial
	if trial.Took > 0 {
		d.Took = v.text("stores.try.took", int(trial.Took.Milliseconds()))
	}
	for _, step := range trial.Steps {
		shown := trialStep{v.text("stores.step." + step.Name), step.Says, badge{"off", "off",
			v.text("stores.step.unknown")}}
		switch step.State {
		case "yes":
			shown.Badge = badge{"ok", "ok", v.text("stores.step.yes")}
		case "no":
			shown.Badge = badge{"bad", "bad", v.text("stores.step.no")}
		}
		d.Steps = append(d.Steps, shown)
	}
	return v.keyStorePage(d), nil
}

func (c *Console) newKeyStore(v *visit) (*view, error) {
	w, _, err := c.newKeyStorePage(v)
	return w, err
}

// kindAsked returns the kind of the stores that a page is about.
func (c *Console) kindAsked(v *visit) (KeyStoreKind, error) {
	all := c.cfg.KeyStores.Kinds()
	i := slices.IndexFunc(all, func(k KeyStoreKind) bool { return k.Scheme == v.Path("kind") && !k.Settings })
	if i < 0 {
		return KeyStoreKind{}, refuseUnknownPage()
	}
	return all[i], nil
}

func (c *Console) newKeyStorePage(v *visit) (*view, *form, error) {
	kind, err := c.kindAsked(v)
	if err != nil {
		return nil, nil, err
	}
	i := max(0, slices.IndexFunc(kind.Methods, func(m KeyStoreMethod) bool { return m.Name == v.field(methodField) }))
	method := kind.Methods[i]
	fields := []*field{
		{Name: methodField, Kind: "hidden", Value: method.Name},
		{Name: "address", Kind: "text", Label: v.text("stores.address"), Required: true, Max: 512, Code: true,
			Hint: kind.About},
	}
	for _, name := range method.Fields {
		f := v.storeInput(name, kind.Scheme)
		f.Required = slices.Contains(method.Needs, name)
		fields = append(fields, f)
	}
	page := newStorePath(kind.Scheme)
	f := v.form(page, v.text("stores.add.submit"), fields...)
	f.Cancel = storesPath
	w := v.page("vaultform", v.text("stores.add", v.text("stores.kind."+kind.Scheme)), formPage{Form: f,
		Intro: []string{v.text("stores.method." + method.Name), v.text("stores.add.intro"),
			v.text("stores.add.files")}})
	w.crumbs = []link{{v.text("stores.title"), storesPath}}
	if len(kind.Methods) > 1 {
		for j, m := range kind.Methods {
			w.tabs = append(w.tabs, tab{m.Name, withQuery(page, methodField, m.Name), i == j})
		}
	}
	return w, f, nil
}

// The fields of a description with the method of login, and with the resources that may use the store.
const (
	methodField   = "login.method"
	resourcesName = "resources"
)

// formerName is the hidden field with the digest of the description that a form was made for.
const formerName = "was"

func descriptionDigest(s KeyStore) string {
	hash := sha256.New()
	for _, name := range sortedKeys(s.Fields) {
		if s.Fields[name] != "" {
			fmt.Fprintf(hash, "%q=%q\n", name, s.Fields[name]) // never fails, see hash.Hash
		}
	}
	return hex.EncodeToString(hash.Sum(nil)[:16])
}

// storeInput is the input for a field of a description.
func (v *visit) storeInput(name, scheme string) *field {
	f := &field{Name: name, Kind: "text", Label: v.storeField(name, scheme), Max: 1024, Code: true}
	if name == resourcesName {
		f.Max = 16 << 10
	}
	for _, of := range []string{name, name + "." + scheme} { // the latter counts
		if key := "stores.field." + of + ".hint"; v.lang.has(key) {
			f.Hint = v.text(key)
		}
	}
	return f
}

func (c *Console) changeKeyStorePage(v *visit) (*view, error) {
	w, _, err := c.storeChangePage(v)
	return w, err
}

// storeChangePage is the form with the fields that the store's method of login has.
func (c *Console) storeChangePage(v *visit) (*view, *form, error) {
	s, err := c.storeOf(v)
	if err != nil {
		return nil, nil, err
	}
	var fields []*field
	for _, k := range c.cfg.KeyStores.Kinds() {
		i := slices.IndexFunc(k.Methods, func(m KeyStoreMethod) bool { return m.Name == s.Login })
		if k.Scheme != s.Kind || i < 0 {
			continue
		}
		for _, name := range k.Methods[i].Fields {
			input := v.storeInput(name, s.Kind)
			input.Value, input.Required = s.Fields[name], slices.Contains(k.Methods[i].Needs, name)
			fields = append(fields, input)
		}
	}
	fields = append(fields, &field{Name: formerName, Kind: "hidden", Value: descriptionDigest(s)})
	f := v.form(storePath(s.ID, "change"), v.text("stores.change.submit"), fields...)
	f.Cancel = storePath(s.ID, "")
	w := v.page("vaultform", v.text("stores.change"), formPage{Form: f,
		Intro: []string{v.text("stores.change.intro", isolated(s.Address)), v.text("stores.change.resources"),
			v.text("stores.add.files")}})
	w.crumbs = []link{{v.text("stores.title"), storesPath},
		{v.text("stores.one", v.text("stores.kind."+s.Kind)), storePath(s.ID, "")}}
	return w, f, nil
}

func (c *Console) changeKeyStore(v *visit) (*view, error) {
	w, f, err := c.storeChangePage(v)
	if err != nil {
		return nil, err
	}
	// The form has every field. Sent for another description, it would take back what somebody else has changed, such
	// as which resources may use the store.
	if v.field(formerName) != f.Field(formerName).Value {
		said, _ := v.explain(visage.Refuse(visage.Conflict, "ChangedMeanwhile", "Somebody has changed the key store "+
			"after you opened the page, which now shows it as it is. Make your change again, and send the form."))
		f.Error = said // and the fields stay as they are: what was typed has the former description around it
		return v.again(w, said), nil
	}
	given := map[string]string{}
	for _, x := range f.Fields {
		if x.Name != formerName {
			given[x.Name] = strings.TrimSpace(v.field(x.Name))
		}
	}
	id := v.Path("store")
	refused := c.cfg.KeyStores.Change(v.Context(), v.Caller(), id, given)
	if refused == nil {
		return v.done(storePath(id, ""), "stores.changed"), nil
	}
	if !v.refused(f, refused, map[string]string{"KeyStoreInUse": resourcesName}) {
		return nil, refused
	}
	return v.again(w, f.Error), nil
}

func (c *Console) addKeyStore(v *visit) (*view, error) {
	w, f, err := c.newKeyStorePage(v)
	if err != nil {
		return nil, err
	}
	given := map[string]string{}
	for _, x := range f.Fields {
		if x.Name == "address" {
			continue
		}
		if text := strings.TrimSpace(v.field(x.Name)); text != "" {
			given[x.Name] = text
		}
	}
	made, refused := c.cfg.KeyStores.Add(v.Context(), v.Caller(), strings.TrimSpace(v.field("address")), given)
	if refused == nil {
		return v.done(storePath(made.ID, ""), "stores.added.done"), nil
	}
	if !v.refused(f, refused, map[string]string{"KeyStoreExists": "address"}) {
		return nil, refused
	}
	return v.again(w, f.Error), nil
}

func (c *Console) removeKeyStorePage(v *visit) (*view, error) {
	w, _, err := c.removalPage(v)
	return w, err
}

func (c *Console) removalPage(v *visit) (*view, *form, error) {
	s, err := c.storeOf(v)
	if err != nil {
		return nil, nil, err
	}
	f := v.button(storePath(s.ID, "remove"), v.text("stores.remove"), "danger")
	f.Icon, f.Cancel = "trash", storePath(s.ID, "")
	d := askData{Warn: []string{v.text("stores.remove.warn", isolated(s.Address))}, Form: f}
	w := v.page("vaultask", v.text("stores.remove"), d)
	w.crumbs = []link{{v.text("stores.title"), storesPath},
		{v.text("stores.one", v.text("stores.kind."+s.Kind)), storePath(s.ID, "")}}
	return w, f, nil
}

func (c *Console) removeKeyStore(v *visit) (*view, error) {
	refused := c.cfg.KeyStores.Remove(v.Context(), v.Caller(), v.Path("store"))
	if refused == nil {
		return v.done(storesPath, "stores.removed"), nil
	}
	w, f, err := c.removalPage(v)
	if err != nil {
		return nil, err
	}
	if !v.refused(f, refused, nil) {
		return nil, refused
	}
	return v.again(w, f.Error), nil
}
