package custody

import (
	"time"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// This file decides what the keys in several stores mean together. Up to MaxStores keys wrap the same data key, each in
// a store of its own, and each opens it alone. The rules:
//
//  1. The first key decides. Its no locks, whatever the others say, and only its own yes ends that: silence does not,
//     nor a restart, nor an unlock (RefusedBy).
//  2. When the first has not answered for failOverAfter, a yes of another one keeps the data open, or opens it: it
//     serves. When the first answers again, it decides again.
//  3. A no of another key is an alarm. It locks only when it takes the place of a no of the first: the first has been
//     silent for failOverAfter, and the refusal began after its last answer. So customers who revoke all keys during an
//     outage are obeyed, and a key that has refused for long locks nothing.
//  4. The grace begins with the last yes of any key that could serve.
//  5. A first key that this instance does not ask, because of its own settings, is not silent: a no would not be heard.
//     No other key serves then, and none can take its place: the grace runs out.

// MaxStores is in how many stores a resource can have keys.
const MaxStores = sealed.MaxSlots

const (
	// failOverAfter is how long the first key must be silent before another one serves. No grace is shorter (MinGrace),
	// so open data stays open until then.
	failOverAfter = time.Minute
	// promoteAfter is how long the first key must be silent before another one can take its place for good. The alarm
	// of a fail-over then has reached the customer, who can still revoke the keys that answer: after the promotion, a
	// no of the first is not heard any more.
	promoteAfter = time.Hour
)

// otherStore is what is known about a key beside the first.
type otherStore struct {
	Answer  class  // the last one; empty: none yet
	Cause   string // as state.Cause
	LastOK  time.Time
	NoSince time.Time // since when it has refused without a yes in between; zero: it has not refused
}

// firstSilent reports whether the first key has been silent for so long that another one may serve.
func (s state) firstSilent(now time.Time) bool {
	return s.Stores > 1 && s.Answer == classUnknown && s.silence(now) >= failOverAfter
}

// silence returns for how long the first key has been asked without an answer.
func (s state) silence(now time.Time) time.Duration {
	if s.NotAsked.After(s.Heard) {
		return now.Sub(s.NotAsked)
	}
	return now.Sub(s.Heard)
}

// mayServe reports whether a yes of a key beside the first counts: no key has said no in its place.
func (s state) mayServe(store int) bool {
	if s.RefusedBy != noStore && s.RefusedBy != refusedBy(store) {
		return false
	}
	for i, other := range s.Others {
		if i != store-1 && s.refusedInOutage(other) {
			return false
		}
	}
	return true
}

// refusedInOutage reports whether a refusal began after the first key was heard last.
func (s state) refusedInOutage(other otherStore) bool {
	return !other.NoSince.IsZero() && !other.NoSince.Before(s.Heard)
}

// refusal names the store whose no locks the data, counted from 1; noStore: none. It is stored, as it must outlive a
// restart.
type refusal int

const (
	noStore      refusal = 0
	firstRefuses refusal = 1
)

func refusedBy(store int) refusal { return refusal(store + 1) }

const reasonAllSilent = "No key gets a usable answer from its store."

// refuse notes that a key's no locks the data of a resource with several keys.
func (t *transition) refuse(store int) (changed bool) {
	by := refusedBy(store)
	if t.Stores < 2 || t.RefusedBy == by {
		return false
	}
	t.RefusedBy = by
	return true
}

// endRefusal notes that a key which may do so has said yes.
func (t *transition) endRefusal() {
	if t.RefusedBy != noStore {
		t.RefusedBy = noStore
		t.storeNote()
	}
}

// lastYes returns the time of the last yes of any key that could serve.
func (t *transition) lastYes() time.Time {
	last := t.LastOK
	for i, other := range t.Others {
		if other.LastOK.After(last) && t.mayServe(i+1) {
			last = other.LastOK
		}
	}
	return last
}

// askOthers has the other keys asked when they may serve.
func (t *transition) askOthers(news bool) {
	if at := t.Heard.Add(failOverAfter); t.Stores > 1 && (news || t.now.Before(at)) {
		t.do(effect{kind: askOthersAt, until: at})
	}
}

// onOtherAnswer applies an answer of a key beside the first.
func (t *transition) onOtherAnswer(e event) {
	o := &t.Others[e.store-1]
	news := o.Answer != e.class
	o.Answer, o.Cause = e.class, causeOf(e)
	if news {
		t.do(effect{kind: auditEvent, audit: audit.KeyProbe, outcome: outcomeOf(e.class), store: e.store,
			details: map[audit.Detail]string{audit.DetailClass: string(e.class)}})
	}
	switch no := e.class == classExpired && t.policy.LockOnExpiry; {
	case e.class == classUnknown:
		if t.Serving == e.store { // no other answer counts now, and the lease runs into the grace
			t.Serving, t.Reason = 0, reasonAllSilent
		}
	case no, e.class == classDenied, e.class == classWrong:
		t.onOtherNo(e)
	default:
		t.onOtherYes(e)
	}
}

// onOtherNo raises the alarm, and locks in place of a first key that is silent.
func (t *transition) onOtherNo(e event) {
	o := &t.Others[e.store-1]
	if o.NoSince.IsZero() {
		o.NoSince = t.now
		t.do(effect{kind: auditEvent, audit: audit.CustodyRefusal, outcome: audit.Refused, store: e.store,
			details: map[audit.Detail]string{audit.DetailClass: string(e.class)}})
	}
	if t.DataLocked || !t.firstSilent(t.now) || !t.refusedInOutage(*o) {
		return
	}
	t.noteCause(e)
	t.lockByAnswer(Revoked, e.why(), e.store)
}

// onOtherYes ends the alarm, and serves in place of a first key that is silent.
func (t *transition) onOtherYes(e event) {
	o := &t.Others[e.store-1]
	o.LastOK = t.now
	if !o.NoSince.IsZero() {
		o.NoSince = time.Time{}
		t.do(effect{kind: auditEvent, audit: audit.CustodyRefusal, outcome: audit.Done, store: e.store,
			details: map[audit.Detail]string{audit.DetailClass: string(e.class)}})
	}
	if !t.firstSilent(t.now) || !t.mayServe(e.store) {
		return
	}
	t.endRefusal()
	switch {
	case !t.DataLocked:
		t.LastOK = t.now
		t.serve(e.store, e.subject)
		t.renewUntilGrace()
	case !t.Opening && t.mayOpen(t.policy, t.now):
		t.Opening = true
		t.do(effect{kind: loadKeys, lockCount: t.LockCount, expired: e.class == classExpired, store: e.store})
	}
}

// serve has a key keep the data open: the first in the order of the stores, of those that say yes.
func (t *transition) serve(store int, subject string) {
	if t.Serving > 0 && t.Serving < store {
		return
	}
	t.enterCondition(Degraded)
	t.Code = ""
	t.Reason = "The first key gets no usable answer from its store. " + subject + " keeps the data open in its place."
	if t.Serving == store {
		return
	}
	t.Serving = store
	t.do(effect{kind: auditEvent, audit: audit.CustodyFailover, outcome: audit.Unknown, store: store,
		details: map[audit.Detail]string{audit.DetailState: string(Degraded)}})
	t.do(effect{kind: logServing, store: store})
}

// serveOpened has the key that has opened the data serve, unless it is silent by now, or the first was heard meanwhile.
func (t *transition) serveOpened(store int, subject string) {
	if t.firstSilent(t.now) && t.Others[store-1].Answer.yes() {
		t.serve(store, subject)
		return
	}
	t.enterCondition(Degraded)
	t.Reason = reasonAllSilent // until the next poll says more
}

// returnToFirst has the first key decide again, after it has answered.
func (t *transition) returnToFirst() {
	if t.Serving == 0 {
		return
	}
	t.Serving = 0
	t.do(effect{kind: auditEvent, audit: audit.CustodyFailover, outcome: audit.Done,
		details: map[audit.Detail]string{audit.DetailState: string(Active)}})
	t.do(effect{kind: logServing})
}
