package console

import (
	"time"

	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/custody"
)

// storeCard is the key of one store on the page of a resource's keys.
type storeCard struct {
	Title  string
	Badge  badge
	Facts  []keyFact
	Remove string // the page that removes it; empty: the person may not, or it is the only key
}

// storesData are the keys of a resource in several stores.
type storesData struct {
	Cards   []storeCard // none: there is one key, which the page shows elsewhere
	Add     string      // the page that adds a key; empty: the person may not, or no more are possible
	Promote string      // the page that promotes the key that serves; empty: the person may not, or none serves
}

// storesOn returns the keys of a resource and what a person can do about them.
func (c *Console) storesOn(v *visit, a account.Account, e account.Encryption) *storesData {
	may := func(action string) bool {
		return v.may("Microsoft.CognitiveServices/accounts/encryption:"+action, c.cfg.AccountPath(a))
	}
	s := e.Status
	d := &storesData{}
	changes := !e.Pending()
	if changes && len(s.Stores) < custody.MaxStores && may("addStore/action") {
		d.Add = encryptionPath(a, "store")
	}
	if changes && s.Serving > 0 && may("promoteStore/action") {
		d.Promote = encryptionPath(a, "store/promote")
	}
	if len(s.Stores) < 2 {
		return d
	}
	for i, store := range s.Stores {
		card := storeCard{Title: v.text("encryption.store.first"), Badge: v.storeBadge(s, i),
			Facts: v.storeFacts(store)}
		if i > 0 {
			card.Title = v.text("encryption.store.further", i+1)
		}
		if changes && may("removeStore/action") {
			key := choiceOf(store.Key)
			card.Remove = encryptionPath(a, "store/remove", "address", key.Address, "name", key.Name)
		}
		d.Cards = append(d.Cards, card)
	}
	return d
}

// storeBadge says how a store's key answered last, or that it keeps the data open.
func (v *visit) storeBadge(s custody.Status, i int) badge {
	store := s.Stores[i]
	switch {
	case store.Refuses():
		return badge{Kind: "bad", Icon: "lock", Text: v.text("encryption.store.refuses")}
	case store.Silent():
		return badge{Kind: "warn", Icon: "warn", Text: v.text("encryption.store.silent")}
	case store.Answer == "":
		return badge{Kind: "off", Icon: "hourglass", Text: v.text("encryption.store.asking")}
	case s.Code == "" && s.Serving == i:
		return badge{Kind: "ok", Icon: "key", Text: v.text("encryption.store.serves")}
	}
	return badge{Kind: "ok", Icon: "ok", Text: v.text("encryption.store.ready")}
}

func (v *visit) storeFacts(store custody.Store) []keyFact {
	inUse := store.Key
	inUse.Version = store.Version
	facts := []keyFact{{Name: v.text("encryption.identifier"), Text: inUse.String(), Code: true}}
	if store.Cause != "" {
		facts = append(facts, keyFact{Name: v.text("encryption.store.cause"),
			Text: v.text("encryption.cause." + wordOf(store.Cause))})
	}
	if !store.LastSuccess.IsZero() {
		facts = append(facts, keyFact{Name: v.text("encryption.lastok"), Time: store.LastSuccess,
			Hint: v.text("encryption.ago", v.lang.span(time.Since(store.LastSuccess)))})
	}
	if !store.KeyExpires.IsZero() {
		facts = append(facts, keyFact{Name: v.text("encryption.ends"), Time: store.KeyExpires,
			Hint: v.keyEnds(store.KeyExpires).Text})
	}
	return facts
}

// addStorePage asks for the key of a further store.
func (c *Console) addStorePage(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	return v.addStorePage(a, v.addStoreForm(a)), nil
}

func (v *visit) addStorePage(a account.Account, f *form) *view {
	d := confirmData{Form: f, Consequences: []string{v.text("encryption.store.add.silent"),
		v.text("encryption.store.add.no"), v.text("encryption.store.add.revoke"), v.text("encryption.store.add.apart")}}
	return v.encryptionStep(a, "encryptionconfirm", v.text("encryption.store.add"), d)
}

func (v *visit) addStoreForm(a account.Account) *form {
	f := v.form(encryptionPath(a, "store"), v.text("encryption.store.add.submit"),
		&field{Name: "uri", Kind: "text", Label: v.text("encryption.uri"), Value: v.field("uri"), Code: true, Max: 2048,
			Required: true, Hint: v.text("encryption.uri.hint", v.c.cfg.VaultAddress("my-vault")+"keys/KEY/VERSION")})
	f.Cancel = encryptionPath(a, "")
	return f
}

func (c *Console) addStore(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	err = c.cfg.Accounts.AddStore(v.Context(), v.Caller(), a.Name, v.choice().protection())
	if err == nil {
		return v.done(encryptionPath(a, ""), "encryption.store.add.done"), nil
	}
	f := v.addStoreForm(a)
	at := map[string]string{"InvalidKeyVaultProperties": "uri", "KeyStoreNotPermitted": "uri", "KeyAlreadyInUse": "uri",
		"KeyVaultKeyNotFound": "uri", "KeyVaultNotFound": "uri"}
	if !v.refused(f, err, at) {
		return nil, err
	}
	return v.again(v.addStorePage(a, f), f.Error), nil
}

// removeStorePage asks before the key of a store is removed.
func (c *Console) removeStorePage(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	return c.storeConfirmPage(v, a, "remove", v.choice().hidden())
}

func (c *Console) removeStore(v *visit) (*view, error) {
	key := v.choice()
	return c.storeCommand(v, "remove", key.hidden(), func(name string) error {
		return c.cfg.Accounts.RemoveStore(v.Context(), v.Caller(), name, key.protection())
	})
}

// promoteStorePage asks before the key that serves takes the place of the first.
func (c *Console) promoteStorePage(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	return c.storeConfirmPage(v, a, "promote", nil)
}

func (c *Console) promoteStore(v *visit) (*view, error) {
	return c.storeCommand(v, "promote", nil, func(name string) error {
		return c.cfg.Accounts.PromoteStore(v.Context(), v.Caller(), name)
	})
}

// storeConfirmPage asks before a change of the stores, with the key that it is about.
func (c *Console) storeConfirmPage(v *visit, a account.Account, verb string, key []string) (*view, error) {
	e, err := c.cfg.Accounts.Encryption(v.Context(), a)
	if err != nil {
		return nil, err
	}
	text := "encryption.store." + verb
	d := &confirmData{Consequences: []string{v.text(text + ".key"), v.text(text + ".answers"),
		v.text(text + ".revoke")}}
	if len(e.Status.Stores) < 2 {
		d.Problem = v.text("encryption.store.only")
	} else {
		d.Form = v.button(encryptionPath(a, "store/"+verb), v.text(text+".submit"), "danger", key...)
		d.Form.Cancel = encryptionPath(a, "")
	}
	title := v.text(text)
	if verb == "remove" {
		title = v.text(text, removedName(v.choice(), e))
	}
	return v.encryptionStep(a, "encryptionconfirm", title, d), nil
}

// removedName is the identifier of the key that is to be removed, as the resource has it.
func removedName(key choice, e account.Encryption) string {
	for _, store := range e.Status.Stores {
		if choiceOf(store.Key).Address == key.Address && store.Key.Name == key.Name {
			return store.Key.Unversioned()
		}
	}
	return key.Name
}

// storeCommand changes the stores, or asks again with the refusal.
func (c *Console) storeCommand(
	v *visit, verb string, key []string, do func(account string) error,
) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	err = do(a.Name)
	if err == nil {
		return v.done(encryptionPath(a, ""), "encryption.store."+verb+".done"), nil
	}
	said, ok := v.explain(err)
	if !ok {
		return nil, err
	}
	w, err := c.storeConfirmPage(v, a, verb, key)
	if err != nil {
		return nil, err
	}
	if d, ok := w.data.(*confirmData); ok && d.Form != nil {
		d.Form.Error = said
	} else if ok {
		d.Problem = said.Sentence
	}
	return v.again(w, said), nil
}
