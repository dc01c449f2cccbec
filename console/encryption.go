package console

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
)

// encryptionRoutes are the pages about the key that protects the data of a resource.
func (c *Console) encryptionRoutes() []route {
	const at = oneResource + "/encryption"
	return []route{
		page(at, onAccount("read"), c.encryption),
		send(at, onAccount("write"), c.saveKey),
		page(at+"/choose", onAccount("write"), c.chooseEncryption),
		page(at+"/vault", onAccount("write"), c.chooseVault),
		page(at+"/key", onAccount("write"), c.checkKey),
		send(at+"/mend", onAccount("write"), c.mend),
		page(at+"/new", onAccount("write"), c.newKeyPage),
		send(at+"/new", onAccount("write"), c.newKey),
		page(at+"/service", freshly(onAccount("write")), c.returnToServicePage),
		send(at+"/service", freshly(onAccount("write")), c.returnToService),
		page(at+"/lock", onAccount("encryption:lock/action"), c.lockPage),
		send(at+"/lock", onAccount("encryption:lock/action"), c.lock),
		send(at+"/unlock", onAccount("encryption:unlock/action"), c.unlock),
		page(at+"/policy", onAccount("encryption:policy/write"), c.keyPolicyPage),
		send(at+"/policy", onAccount("encryption:policy/write"), c.setKeyPolicy),
		page(at+"/store", onAccount("encryption:addStore/action"), c.addStorePage),
		send(at+"/store", onAccount("encryption:addStore/action"), c.addStore),
		page(at+"/store/remove", freshly(onAccount("encryption:removeStore/action")), c.removeStorePage),
		send(at+"/store/remove", freshly(onAccount("encryption:removeStore/action")), c.removeStore),
		page(at+"/store/promote", freshly(onAccount("encryption:promoteStore/action")), c.promoteStorePage),
		send(at+"/store/promote", freshly(onAccount("encryption:promoteStore/action")), c.promoteStore),
		page(at+"/rehearsal", operator, c.rehearsalPage),
		send(at+"/rehearsal", operator, c.rehearse),
	}
}

// How often the page asks again: while a change of keys runs, and while the data depends on a customer's key.
const (
	changeRefresh = time.Second
	keyRefresh    = 3 * time.Second
)

// keyEvents is how many entries of the audit log the page shows.
const keyEvents = 20

// encryptionData is the page of a resource's key.
type encryptionData struct {
	Badge    badge
	Verdict  *keyVerdict // nil on the page that chooses another key
	Alerts   []keyAlert
	Customer bool
	Change   *keyChange // under way; nil: none
	Facts    []keyFact
	Policy   []keyFact
	Newer    *form // takes the newer version into use; nil: not offered, and so for the following addresses
	NewerIs  string
	Edit     string      // of the policy
	Stores   *storesData // nil: the service holds the key
	Rehearse string
	Choose   *chooser
	Events   []keyEvent
	Audit    string // the address of all entries; empty: the person may not read them
}

// keyAlert is a sentence about the state of the page's subject.
type keyAlert struct {
	Kind   string // "ok", "warn", "bad" or "info"
	Text   string
	Detail string // in English; empty: none
}

// keyFact is a fact about a key: a text, an identifier, a time or a badge, maybe with a link.
type keyFact struct {
	Name, Text string
	To         string
	Code       bool
	Time       time.Time // zero: none
	Hint       string
}

// keyChange is a change of keys that is under way.
type keyChange struct {
	Title, Undo string
	Steps       []changeStep
	Started     time.Time
}

// changeStep is a step of a change.
type changeStep struct {
	Icon, Text    string
	Done, Current bool
}

// keyEvent is an entry of the audit log.
type keyEvent struct {
	State string // "ok", "warn" or "bad"
	Time  time.Time
	What  string
	By    string // empty: the service itself
	Badge badge
	Of    string // the version of the key
	To    string // the condition that began
}

func (c *Console) encryption(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	return c.encryptionPage(v, a)
}

func (c *Console) encryptionPage(v *visit, a account.Account) (*view, error) {
	e, err := c.cfg.Accounts.Encryption(v.Context(), a)
	if err != nil {
		return nil, err
	}
	d := &encryptionData{Badge: v.keyBadge(e.Status), Customer: e.Key != visage.KeyRef{}}
	d.Verdict, d.Alerts = c.verdictOn(v, e, d.Customer), v.keyAlerts(e)
	scope := c.cfg.AccountPath(a)
	if d.Customer {
		d.Facts, d.Policy = c.keyFacts(v, a, e), v.policyFacts(e.Status.Policy)
		d.Stores = c.storesOn(v, a, e)
	}
	switch {
	case e.Pending():
		d.Change = v.changeOf(e.Status.Operation)
	case v.may("Microsoft.CognitiveServices/accounts/write", scope):
		if err := c.offerChanges(v, a, e, d); err != nil {
			return nil, err
		}
	}
	if d.Customer {
		c.offerLocks(v, a, e, d)
		if v.operates() {
			d.Rehearse = encryptionPath(a, "rehearsal")
		}
	}
	if v.may("Microsoft.CognitiveServices/accounts/auditEvents/read", scope) {
		if d.Events, err = c.keyEvents(v, a); err != nil {
			return nil, err
		}
		d.Audit = prefix + "/audit?" + query("resource", a.Name)
	}
	w := v.resourcePage("encryption", "encryption", a, d)
	switch {
	case e.Pending():
		w.refresh = changeRefresh
	case d.Customer:
		w.refresh = keyRefresh
	}
	return w, nil
}

// encryptionPath is the path of a page about a resource's key; the first for an empty name.
func encryptionPath(a account.Account, page string, pairs ...string) string {
	path := resourcePath(a.Name, "encryption")
	if page != "" {
		path += "/" + page
	}
	if q := query(pairs...); q != "" {
		path += "?" + q
	}
	return path
}

// keyAlerts says that a key expires soon, and what the last change of keys came to if it failed.
func (v *visit) keyAlerts(e account.Encryption) (all []keyAlert) {
	s := e.Status
	if left := time.Until(s.KeyExpires); left > 0 && left < endsSoon {
		all = append(all, keyAlert{"warn", v.text("encryption.ends.soon", v.lang.when(s.KeyExpires)), ""})
	}
	if o := s.Operation; e.Failed() {
		said := v.lang.explanation(&api.Problem{Code: o.Code, Message: o.Reason})
		all = append(all, keyAlert{"warn", v.text("encryption.failed", v.text("encryption.kind."+string(o.Kind)),
			v.lang.when(o.Ended)), strings.TrimSpace(said.Sentence)})
	}
	return all
}

// keyFacts are the facts about the customer's key of a resource.
func (c *Console) keyFacts(v *visit, a account.Account, e account.Encryption) []keyFact {
	s := e.Status
	vault, ours := c.vaultOf(e.Key)
	facts := []keyFact{{Name: v.text("encryption.vault"), Text: e.VaultURI, Code: true}}
	name := keyFact{Name: v.text("encryption.key"), Text: e.Key.Name}
	if ours {
		facts[0] = keyFact{Name: v.text("encryption.vault"), Text: vault, To: keyPlace(vault, "")}
		name.To = keyPlace(vault, e.Key.Name)
	}
	follows := v.text("encryption.version.follow")
	if e.Key.Version != "" {
		follows = v.text("encryption.version.pinned")
	}
	inUse := e.Key
	inUse.Version = s.Version
	version := keyFact{Name: v.text("encryption.version"), Text: s.Version, Code: true, Hint: follows}
	if s.Version == "" {
		version = keyFact{Name: version.Name, Text: v.text("encryption.version.none"),
			Hint: v.text("encryption.version.none.hint")}
	}
	facts = append(facts, name, version,
		keyFact{Name: v.text("encryption.identifier"), Text: inUse.String(), Code: true},
		keyFact{Name: v.text("encryption.identity"), Text: string(s.As), Code: true,
			To: resourcePath(a.Name, "identity")},
		keyFact{Name: v.text("encryption.since"), Time: s.Since},
	)
	if !s.KeyExpires.IsZero() {
		facts = append(facts, keyFact{Name: v.text("encryption.ends"), Time: s.KeyExpires,
			Hint: v.keyEnds(s.KeyExpires).Text})
	}
	if !s.LastSuccess.IsZero() {
		facts = append(facts, keyFact{Name: v.text("encryption.lastok"), Time: s.LastSuccess,
			Hint: v.text("encryption.ago", v.lang.span(time.Since(s.LastSuccess)))})
	}
	if in := time.Until(s.NextCheck); in > 0 {
		facts = append(facts, keyFact{Name: v.text("encryption.nextcheck"), Time: s.NextCheck,
			Hint: v.text("encryption.in", v.lang.span(in))})
	}
	return facts
}

// policyFacts are what a policy says.
func (v *visit) policyFacts(p account.Policy) []keyFact {
	yes := func(on bool) string {
		if on {
			return v.text("encryption.yes")
		}
		return v.text("encryption.no")
	}
	return []keyFact{
		{Name: v.text("encryption.policy.grace"), Text: v.lang.span(p.Grace)},
		{Name: v.text("encryption.policy.expiry"), Text: yes(p.LockOnExpiry)},
		{Name: v.text("encryption.policy.manual"), Text: yes(p.ManualRestore)},
	}
}

// keyPlace is the path of the page of a vault, or of a key in it.
func keyPlace(vault, key string) string {
	path := prefix + "/vaults/" + url.PathEscape(vault)
	if key != "" {
		path += "/keys/" + url.PathEscape(key)
	}
	return path
}

// vaultOf returns the name of the vault of a key, if it is one of this instance.
func (c *Console) vaultOf(key visage.KeyRef) (name string, ours bool) {
	host, found := strings.CutPrefix(key.Vault, "https://")
	name, _, _ = strings.Cut(host, ".")
	return name, found && name != "" && strings.EqualFold(c.cfg.VaultAddress(name), key.Vault+"/")
}

// changeOf describes a change of keys that is under way.
func (v *visit) changeOf(o custody.Operation) *keyChange {
	steps, commit := custody.Steps(o.Kind)
	at := slices.Index(steps, o.Step)
	change := &keyChange{Title: v.text("encryption.kind." + string(o.Kind)), Started: o.Started,
		Undo: v.text("encryption.undo.before")}
	if at >= slices.Index(steps, commit) {
		change.Undo = v.text("encryption.undo.after")
	}
	for i, name := range steps {
		step := changeStep{Icon: "todo", Text: v.text("encryption.step." + name), Done: i < at, Current: i == at}
		switch {
		case step.Done:
			step.Icon = "ok"
		case step.Current:
			step.Icon = "hourglass"
		}
		change.Steps = append(change.Steps, step)
	}
	return change
}

// offerChanges adds what a person who may change the resource can do about its key.
func (c *Console) offerChanges(v *visit, a account.Account, e account.Encryption, d *encryptionData) error {
	if !d.Customer {
		d.Choose = v.chooser(a, e, choice{})
		return nil
	}
	present := choiceOf(e.Key)
	do := func(id, icon, text, why, to string) {
		d.Verdict.Actions = append(d.Verdict.Actions, keyAction{ID: id, Icon: icon, Text: text, Why: why, To: to})
	}
	if !d.Verdict.Open && e.Status.Condition != custody.Locked {
		do("do-examine", "search", v.text("encryption.examine"), v.text("encryption.examine.why"), present.path(a))
	}
	versions := present
	versions.Version = e.Status.Version
	if versions.Version != "" {
		do("do-version", "rotate", v.text("encryption.newversion"), v.text("encryption.newversion.why"),
			versions.path(a))
	}
	do("do-choose", "key", v.text("encryption.otherkey"), v.text("encryption.otherkey.why"),
		encryptionPath(a, "choose"))
	do("do-return", "undo", v.text("encryption.return"), v.text("encryption.return.why"),
		encryptionPath(a, "service"))
	newer, known, err := c.cfg.Accounts.NewerVersion(v.Context(), a.Name, false)
	if err != nil {
		return err
	}
	if known && newer != "" {
		present.Version = newer
		d.NewerIs = newer
		d.Newer = v.button(encryptionPath(a, ""), v.text("encryption.newer.use"), "primary", present.hidden()...)
		d.Newer.ID, d.Newer.Fields = "use-newer", append(d.Newer.Fields, revision(a))
	}
	return nil
}

// offerLocks adds the lock and the policy, each of which has a right of its own.
func (c *Console) offerLocks(v *visit, a account.Account, e account.Encryption, d *encryptionData) {
	may := func(action string) bool {
		return v.may("Microsoft.CognitiveServices/accounts/encryption:"+action, c.cfg.AccountPath(a))
	}
	locked := e.Status.Condition == custody.Locked
	// a refusal that is old, or a policy that says so, keeps data locked until it is unlocked
	var first []keyAction
	if closed := locked || e.Status.Condition == custody.Revoked; closed && may("unlock/action") {
		f := v.button(encryptionPath(a, "unlock"), v.text("encryption.unlock"), "primary")
		f.Icon, f.ID = "unlock", "unlock"
		if !locked {
			f.Submit = v.text("encryption.asknow")
		}
		first = append(first, keyAction{Form: f, Why: v.text("encryption.unlock.why")})
	}
	if !locked && may("lock/action") {
		lock := keyAction{ID: "do-lock", Icon: "lock", To: encryptionPath(a, "lock"), Text: v.text("encryption.lock"),
			Why: v.text("encryption.lock.why")}
		if d.Verdict.Open {
			first = append(first, lock)
		} else {
			d.Verdict.Actions = append(d.Verdict.Actions, lock)
		}
	}
	d.Verdict.Actions = append(first, d.Verdict.Actions...)
	if may("policy/write") {
		d.Edit = encryptionPath(a, "policy")
	}
}

// aboutKeys are the kinds of audit entries about the key of a resource.
var aboutKeys = slices.DeleteFunc(audit.Kinds(), func(k audit.Kind) bool {
	return !strings.HasPrefix(string(k), "key.") && !strings.HasPrefix(string(k), "custody.")
})

// keyEvents returns the newest entries of the audit log about the key of a resource.
func (c *Console) keyEvents(v *visit, a account.Account) (all []keyEvent, err error) {
	newest, _, err := c.cfg.History.Page(v.Context(), audit.Query{Resource: a.ID, Kinds: aboutKeys, Limit: keyEvents})
	if err != nil {
		return nil, err
	}
	for _, entry := range newest {
		all = append(all, v.keyEvent(entry))
	}
	return all, nil
}

func (v *visit) keyEvent(entry audit.Entry) keyEvent {
	e := keyEvent{State: "ok", Time: entry.Time, What: v.text("audit.kind." + string(entry.Kind)),
		By: entry.Actor.Name, Of: entry.KeyVersion,
		Badge: badge{"ok", "ok", v.text("audit.outcome." + string(entry.Outcome))}}
	switch entry.Outcome {
	case audit.Refused, audit.Failed:
		e.State, e.Badge.Kind, e.Badge.Icon = "bad", "bad", "bad"
	case audit.Unknown:
		e.State, e.Badge.Kind, e.Badge.Icon = "warn", "warn", "warn"
	}
	switch {
	case entry.Details[audit.DetailStep] == "intended": // entered before anything irreversible happens
		e.State, e.Badge = "", badge{"info", "info", v.text("encryption.event.intended")}
	case entry.Kind == audit.CustodyLock:
		e.State = "bad"
	}
	if state := entry.Details[audit.DetailState]; state != "" && v.lang.has("condition."+state) {
		e.To = v.text("condition." + state)
	}
	return e
}
