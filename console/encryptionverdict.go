package console

import (
	"time"

	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/custody"
)

// keyVerdict is the top of the page of a key: who holds it, whether all is well, and what the person can do about it.
type keyVerdict struct {
	Kind, Icon  string // as of an alert
	Title, Text string
	Cause       string // of what is wrong; empty: none or unknown
	Detail      string // in English; empty: none
	Loud        bool   // screen readers say it at once
	Holder      string
	Vault       string // the address of the page of the vault; empty: none
	State       badge
	Checked     string // when the key last answered; empty: no key is asked
	Open        bool   // data can be used
	Data        string
	Actions     []keyAction
}

// keyAction is something to do about a key: a page to go to, or a form.
type keyAction struct {
	ID, Icon, Text, Why string
	To                  string
	Form                *form
}

// verdictOn sums up the state of a resource's key; offerChanges and offerLocks add what can be done.
func (c *Console) verdictOn(v *visit, e account.Encryption, customer bool) *keyVerdict {
	s := e.Status
	d := &keyVerdict{
		Title: v.text("encryption.verdict." + string(s.Condition)), Text: v.text("encryption.verdict.service"),
		Kind: "ok", Icon: "shield", State: v.keyBadge(s), Open: true, Holder: v.text("encryption.holder.service"),
	}
	if customer {
		vault, ours := c.vaultOf(e.Key)
		if ours {
			d.Vault = keyPlace(vault, "")
		}
		d.Holder = v.text("encryption.holder.you", vault)
		d.Text = v.text("encryption.verdict.text")
		if !s.LastSuccess.IsZero() {
			d.Checked = v.text("encryption.answered", v.lang.span(time.Since(s.LastSuccess)))
		}
	}
	switch s.Condition {
	case custody.ServiceManaged:
		d.Kind = "off"
	case custody.Active:
		d.Icon = "key"
	case custody.Degraded:
		d.Kind, d.Icon, d.Text = "warn", "warn", v.keyTrouble(s)
	default:
		d.Kind, d.Icon, d.Text, d.Open, d.Loud = "bad", "lock", v.keyTrouble(s), false, true
	}
	if d.Kind != "ok" {
		d.Detail = s.Reason
	}
	if s.Cause != "" && s.Condition != custody.Locked {
		d.Cause = v.text("encryption.cause." + wordOf(s.Cause))
	}
	d.Data = v.text("encryption.data.closed")
	if d.Open {
		d.Data = v.text("encryption.data.open")
	} else {
		d.Checked = "" // what it said before it refused would mislead
	}
	return d
}

// keyTrouble says what is wrong with a customer's key, since when, and what helps.
func (v *visit) keyTrouble(s custody.Status) string {
	switch since := v.lang.when(s.Since); s.Condition {
	case custody.Revoked:
		return v.text("encryption.state.revoked", since)
	case custody.Unavailable:
		return v.text("encryption.state.unavailable", since)
	case custody.Locked:
		return v.text("encryption.state.locked", since)
	}
	if s.Serving > 0 {
		return v.text("encryption.state.failedover", v.lang.when(s.Since))
	}
	if until := s.LastSuccess.Add(s.Policy.Grace); s.Code == "" && time.Since(s.LastSuccess) > keyLate {
		return v.text("encryption.state.degraded", v.lang.when(s.Since), v.lang.when(until))
	}
	return v.text("encryption.state.expired", v.lang.when(s.Since))
}

// keyLate is how old the last answer of a key is when its vault has missed a poll.
const keyLate = time.Minute
