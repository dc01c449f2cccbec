package custody

import (
	"fmt"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
)

// Condition is whether a resource's data can be used, and if not why.
type Condition string

// The conditions.
const (
	ServiceManaged Condition = "service-managed"
	Active         Condition = "active"      // the customer's key answers
	Degraded       Condition = "degraded"    // no answer, within the grace, or the key has expired; data is served
	Revoked        Condition = "revoked"     // the key refuses; 403
	Unavailable    Condition = "unavailable" // no answer since the start, or for longer than the grace; 503
	Locked         Condition = "locked"      // by Lock; 403
)

// holder is the party that holds the key of a resource's data.
type holder string

const (
	byService  holder = "service"
	byCustomer holder = "customer"
)

// changeStage is the stage of a change of keys.
type changeStage string

const (
	noChange   changeStage = ""
	reversible changeStage = "reversible" // the change is undone if it fails
	committed  changeStage = "committed"  // past the point of no return: the change is finished
)

// state is the state of a resource's key, and decides whether the data may be used. It is a value: On computes the next
// state from it, without clock, disk or process. effects.go keeps the data as the state says.
// docs/custody-states.md shows all transitions as tables.
//
// The test of this file holds the invariants over all states and events. The most important ones:
//   - only an answer of the current round that says yes leads to opening the data; nothing stored does;
//   - a refusal always ends with the data locked;
//   - data of a resource that its owner has locked, or that is deleted, is never opened;
//   - a lease ends no later than the last good answer plus the grace.
type state struct {
	Holder      holder
	Change      changeStage
	Condition   Condition
	DataLocked  bool      // the data is locked; Condition says why
	OwnerLocked bool      // by Lock, until Unlock
	Deleted     bool      // the resource is deleted, and may be recovered
	Opening     bool      // keys are being loaded, because the key has answered
	Round       uint64    // numbers questions: an answer from an earlier round changes nothing
	LockCount   uint64    // counts how often the data was locked: loading that began before the last lock opens nothing
	Answer      class     // the last one; empty: none yet
	Cause       string    // of the last answer that counts, see Status.Cause
	LastOK      time.Time // the last yes; zero: none since the start
	Since       time.Time // of the condition
	Code        string    // of the refusal of data operations
	Reason      string    // a sentence for the owner
	LockCause   lockCause // as stored; zero: none

	// Of resources with keys in several stores, see failover.go. The fields above are about the first key, save LastOK,
	// which is of any key that counts.
	Stores    int       // the number of keys of the customer
	FirstOK   time.Time // the last yes of the first key; zero: none since the start
	Heard     time.Time // the last answer of the first key, or when it began to be asked
	NotAsked  time.Time // when this instance last did not ask the first key, because of its own settings; zero: never
	Others    [MaxStores - 1]otherStore
	Serving   int     // the store whose key keeps the data open: 0 the first, 1 the second …
	RefusedBy refusal // as stored: only the key of this store, or the first, ends a lock
}

// lockCause says why a resource is locked, and since when.
type lockCause struct {
	Code   string    `json:"code"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// known is what a process knows to be stored of the refusals of a resource's keys.
type known struct {
	lockCause lockCause
	refusedBy refusal
}

// The reasons that the owner of a locked resource reads.
const (
	reasonOwnerLocked = "Its owner has locked it."
	reasonDeleted     = "The resource is deleted."
	reasonAsking      = "The key is being asked."
	reasonStarted     = "The key has not answered since the service was started."
)

// transition computes the next state and the effects of one event.
type transition struct {
	state
	policy  Policy
	now     time.Time
	effects []effect
}

// On returns the state after an event, and the effects in the order in which they are carried out. It is defined for
// every event in every state; answers and openings that come too late change nothing.
func (s state) On(e event, policy Policy, now time.Time) (next state, effects []effect) {
	t := &transition{state: s, policy: policy, now: now}
	switch e.kind {
	case started:
		t.onStarted(e)
	case keyAnswered:
		t.onAnswer(e)
	case stepAnswered:
		t.onStepAnswered(e)
	case lockRequested:
		t.onLockRequested()
	case unlockRequested:
		t.do(effect{kind: auditEvent, audit: audit.OperatorAction, outcome: audit.Done, must: true,
			details: map[audit.Detail]string{audit.DetailOperation: "unlock"}})
		t.do(effect{kind: storeNote, refusedBy: t.RefusedBy, must: true})
	case unlocked:
		t.onUnlocked()
	case resourceDeleted:
		t.onDeleted()
	case resourceRecovered:
		t.onRecovered()
	case opened:
		t.onOpened(e)
	case openingFailed:
		t.onOpeningFailed(e)
	case changeBegun:
		t.Change = reversible
		if t.Deleted {
			t.lock(Locked, reasonDeleted)
		}
		t.do(effect{kind: updateWatch})
	case changeCommitted:
		t.Change = committed
	case finishedCustomer:
		t.onFinishedCustomer(e)
	case finishedService:
		t.onFinishedService()
	case changeUndone:
		t.Change = noChange
		t.openWithServiceKey()
		t.do(effect{kind: updateWatch})
	case policyChanged:
		if !t.DataLocked && t.customerDecides() && !t.LastOK.IsZero() {
			t.renewUntilGrace()
		}
	case answersDiscarded:
		t.Round++
	}
	return t.state, t.effects
}

func (t *transition) do(e effect) { t.effects = append(t.effects, e) }

// shown returns the condition as it is reported: the owner's lock takes precedence over the key's answers.
func (s state) shown() Condition {
	if s.OwnerLocked {
		return Locked
	}
	return s.Condition
}

// customerInvolved reports whether a customer's key protects the data, now or when the change under way has ended.
func (s state) customerInvolved() bool { return s.Holder == byCustomer || s.Change != noChange }

// customerDecides reports whether a customer's key decides about access now. From the point of no return on, the key of
// a change does too.
func (s state) customerDecides() bool { return s.Holder == byCustomer || s.Change == committed }

// longLocked is how long a resource may stay revoked and still open by itself. After that, only Unlock opens it.
const longLocked = 30 * 24 * time.Hour

// mayOpen reports whether locked data opens when its key says yes.
func (s state) mayOpen(policy Policy, now time.Time) bool {
	if s.OwnerLocked || s.Deleted {
		return false
	}
	long := s.LockCause != lockCause{} && now.Sub(s.LockCause.Since) > longLocked
	return s.Condition != Revoked || !policy.ManualRestore && !long
}

// enterCondition changes the condition and the time since when it holds.
func (t *transition) enterCondition(c Condition) {
	if t.Condition != c {
		t.Condition, t.Since = c, t.now
	}
}

// lock locks the data. It also locks what is locked already, which ends the loading of keys that is under way.
func (t *transition) lock(c Condition, reason string) {
	t.enterCondition(c)
	t.DataLocked, t.Opening, t.Serving = true, false, 0
	t.LockCount++
	t.Code, t.Reason = c.refusal().Code, reason
	t.do(effect{kind: lockData, why: c})
}

// lockByAnswer locks because of the answer of a store's key, or of its absence. A new condition is logged, audited and
// stored.
func (t *transition) lockByAnswer(c Condition, reason string, store int) {
	news := !t.DataLocked || t.Condition != c
	t.lock(c, reason)
	changed := c == Revoked && t.refuse(store)
	if !news {
		if changed {
			t.storeNote()
		}
		return
	}
	outcome := audit.Refused
	if c == Unavailable {
		outcome = audit.Unknown
	}
	t.LockCause = lockCause{Code: t.Code, Reason: reason, Since: t.now}
	t.do(effect{kind: logChange, why: c, text: reason})
	t.do(effect{kind: auditEvent, audit: audit.CustodyLock, outcome: outcome, store: store,
		details: map[audit.Detail]string{audit.DetailState: string(c), audit.DetailReason: t.Code}})
	t.storeNote()
}

// storeNote stores what a restart must know.
func (t *transition) storeNote() {
	t.do(effect{kind: storeNote, ownerLocked: t.OwnerLocked, lockCause: t.LockCause, refusedBy: t.RefusedBy})
}

// onStarted locks all data that is under a customer's key or about to be: only an answer of the key opens it, and
// nothing that is stored.
func (t *transition) onStarted(e event) {
	t.Holder, t.Change = e.stored.holder, e.stored.change
	t.OwnerLocked, t.LockCause = e.stored.ownerLocked, e.stored.lockCause
	t.Stores, t.RefusedBy, t.Heard = e.stored.stores, e.stored.refusedBy, t.now
	if !t.OwnerLocked && !t.customerInvolved() {
		t.LockCause = lockCause{} // left over from an earlier customer's key
	}
	t.lockUntilAnswer(reasonStarted)
	t.do(effect{kind: updateWatch})
}

// lockUntilAnswer locks the data for the reason that is stored, or else until the key answers. Data under the service's
// key is not locked.
func (t *transition) lockUntilAnswer(reason string) {
	switch {
	case t.OwnerLocked: // also if the key has returned to the service since
		t.lock(Locked, reasonOwnerLocked)
	case !t.customerInvolved():
		t.DataLocked = false
		t.serviceManaged() // also if another process has given the key back, while the data was open here
	case t.LockCause.Code == codeRevoked:
		t.lock(Revoked, t.LockCause.Reason)
		t.Since = t.LockCause.Since
	default:
		t.lock(Unavailable, reason)
	}
}

// onAnswer applies an answer of the current round, if a customer's key decides about access.
func (t *transition) onAnswer(e event) {
	if e.round != t.Round || t.Deleted || !t.customerDecides() {
		return
	}
	if e.store > 0 {
		t.onOtherAnswer(e)
		return
	}
	t.noteCause(e)
	news := t.Answer != e.class
	if news {
		t.Answer = e.class
		t.do(effect{kind: auditEvent, audit: audit.KeyProbe, outcome: outcomeOf(e.class),
			details: map[audit.Detail]string{audit.DetailClass: string(e.class)}})
	}
	if e.class != classUnknown {
		t.Heard = t.now
	}
	if e.notAsked {
		t.NotAsked, t.Serving = t.now, 0
	}
	switch no := e.class == classExpired && t.policy.LockOnExpiry; {
	case no, e.class == classDenied, e.class == classWrong:
		t.lockByAnswer(Revoked, e.why(), 0)
	case e.class == classUnknown:
		t.onNoAnswer(e)
		t.askOthers(news)
	default:
		t.onKeyOK(e)
	}
}

// why returns the sentence of a refusal for the owner.
func (e event) why() string {
	switch e.class {
	case classExpired:
		return e.subject + " has expired."
	case classWrong:
		return e.subject + " does not open the data: another key answers in its place."
	}
	return e.explanation
}

// noteCause remembers the class and reason of an answer that counts, for Status.Cause. Like the condition, the cause of
// a refusal outlasts missing answers, and an answer that opens nothing yet.
func (t *transition) noteCause(e event) {
	switch {
	case e.class == classOK && t.DataLocked, e.class == classUnknown && t.Condition == Revoked:
	default:
		t.Cause = causeOf(e)
	}
}

// causeOf returns an answer in one word, see Status.Cause.
func causeOf(e event) string {
	switch {
	case e.class == classOK:
		return ""
	case e.reason != "":
		return string(e.reason)
	}
	return string(e.class)
}

// onKeyOK renews the lease of open data, and loads the keys of locked data that may open.
func (t *transition) onKeyOK(e event) {
	t.LastOK, t.FirstOK = t.now, t.now
	t.endRefusal()
	t.returnToFirst()
	switch expired := e.class == classExpired; {
	case !t.DataLocked:
		t.renewLease(e.subject, expired, false)
	case !t.Opening && t.mayOpen(t.policy, t.now):
		t.Opening = true
		t.do(effect{kind: loadKeys, lockCount: t.LockCount, expired: expired})
	}
}

// renewLease renews the lease of open data after its key has answered.
func (t *transition) renewLease(key string, expired, fresh bool) {
	before, now := t.Condition, Active
	t.Code, t.Reason = "", ""
	if expired {
		now, t.Reason = Degraded, key+" has expired: it still opens the data and wraps no other."
	}
	t.enterCondition(now)
	t.renewUntilGrace()
	t.clearLockCause()
	switch {
	case fresh:
		t.do(effect{kind: logChange, why: now})
		t.do(effect{kind: auditEvent, audit: audit.CustodyRestore, outcome: audit.Done})
	case before != now:
		t.do(effect{kind: auditEvent, audit: audit.CustodyGrace, outcome: audit.Done,
			details: map[audit.Detail]string{audit.DetailState: string(now)}})
	}
}

// clearLockCause removes the stored cause of a lock.
func (t *transition) clearLockCause() {
	if t.LockCause != (lockCause{}) {
		t.LockCause = lockCause{}
		t.storeNote()
	}
}

func (t *transition) renewUntilGrace() {
	t.do(effect{kind: renewUntil, until: t.LastOK.Add(t.policy.Grace)})
}

// onNoAnswer lets the lease run into the grace, and locks the data when the grace is over. Locked data stays locked,
// with its condition. A missing answer renews no lease, with one exception: in a first change to a customer's key, if
// no answer was received yet, the grace begins with the first missing answer.
func (t *transition) onNoAnswer(e event) {
	if t.DataLocked {
		return
	}
	first := t.LastOK.IsZero()
	if first {
		t.LastOK = t.now
	}
	later := t.LastOK
	if !e.notAsked {
		later = t.lastYes()
	}
	renew := first || later.After(t.LastOK)
	t.LastOK = later
	if !t.now.Before(t.LastOK.Add(t.policy.Grace)) {
		t.lockByAnswer(Unavailable, fmt.Sprintf("%s has got no usable answer from its vault for %v.", e.subject,
			t.policy.Grace), 0)
		return
	}
	if renew {
		t.renewUntilGrace()
	}
	if t.Serving > 0 { // that one's answers say what holds
		return
	}
	t.Reason = e.subject + " gets no usable answer from its vault: " + e.explanation
	if t.Condition != Degraded {
		t.enterCondition(Degraded)
		t.do(effect{kind: auditEvent, audit: audit.CustodyGrace, outcome: audit.Unknown,
			details: map[audit.Detail]string{audit.DetailState: string(Degraded)}})
	}
}

// onStepAnswered renews the lease of a resource whose key has answered a step of a change: no watch asks it meanwhile.
func (t *transition) onStepAnswered(e event) {
	if t.DataLocked || !t.customerDecides() || e.store > 0 && t.Serving != e.store {
		return
	}
	t.LastOK = later(t.LastOK, e.asked) // the key may have been silent since
	if e.store == 0 {
		t.FirstOK, t.Heard = later(t.FirstOK, e.asked), later(t.Heard, e.asked)
		if !t.firstSilent(t.now) {
			t.returnToFirst()
		}
	}
	t.renewUntilGrace()
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// onLockRequested locks the data for the owner, first in memory and then on disk.
func (t *transition) onLockRequested() {
	if !t.customerDecides() {
		t.do(effect{kind: refuse})
		return
	}
	t.OwnerLocked = true
	t.lock(Locked, reasonOwnerLocked)
	t.do(effect{kind: storeNote, ownerLocked: true, lockCause: t.LockCause, refusedBy: t.RefusedBy, must: true})
	t.do(effect{kind: auditEvent, audit: audit.CustodyLock, outcome: audit.Done, must: true,
		details: map[audit.Detail]string{audit.DetailState: string(Locked)}})
}

// onUnlocked ends the owner's lock and asks the key. A new round begins, so that a refusal that has ended does not lock
// the data again: it stays locked until the key answers a question that is asked from now on. Loading under way relies
// on an earlier question: after a refusal it is ended, and else its own refusal still counts.
func (t *transition) onUnlocked() {
	t.OwnerLocked = false
	t.clearLockCause() // a refusal since the unlock was stored has stored more
	if t.Stores > 1 {  // and so has the end of one
		t.storeNote()
	}
	if t.Deleted {
		if t.DataLocked {
			t.enterCondition(Locked)
			t.Code, t.Reason = Locked.refusal().Code, reasonDeleted
		}
		return
	}
	refused := t.DataLocked && t.Condition != Unavailable
	if refused || t.DataLocked && !t.Opening {
		t.Round++
	}
	if refused {
		t.lock(Unavailable, reasonAsking)
	}
	if !t.openWithServiceKey() { // true: the resource was locked while its key returned to the service
		t.do(effect{kind: askNow})
	}
}

// openWithServiceKey loads the keys of locked data that the service's key alone protects, and reports whether it does.
func (t *transition) openWithServiceKey() bool {
	if !t.DataLocked || t.OwnerLocked || t.Deleted || t.customerInvolved() {
		return false
	}
	t.do(effect{kind: loadKeys, lockCount: t.LockCount})
	return true
}

// onDeleted locks the data of a deleted resource, if a customer's key protects it. Other data is locked by the
// caller.
func (t *transition) onDeleted() {
	t.Deleted = true
	if t.customerInvolved() {
		t.lock(Locked, reasonDeleted)
	}
	t.do(effect{kind: updateWatch})
}

// onRecovered restores the state from before the deletion. Keys under a customer's key are loaded at once, without
// waiting for the watch to ask, because the owner is waiting. Data under the service's key is opened by the caller.
func (t *transition) onRecovered() {
	if !t.Deleted {
		return
	}
	t.Deleted = false
	t.Heard = t.now // nobody asked meanwhile
	t.lockUntilAnswer(reasonAsking)
	if t.Holder == byCustomer && t.Change == noChange && t.mayOpen(t.policy, t.now) {
		t.Opening = true
		t.do(effect{kind: loadKeys, lockCount: t.LockCount})
	}
	t.do(effect{kind: updateWatch})
	t.do(effect{kind: askNow})
}

// onOpened opens the data whose keys were loaded, unless it was locked since loading began.
func (t *transition) onOpened(e event) {
	if !t.DataLocked || e.lockCount != t.LockCount || t.OwnerLocked || t.Deleted {
		return
	}
	if e.store > 0 && (!t.mayServe(e.store) || !t.Others[e.store-1].NoSince.IsZero()) { // refused since
		t.lock(t.Condition, t.Reason)
		return
	}
	t.DataLocked, t.Opening = false, false
	if t.RefusedBy != noStore { // the key that has refused has unwrapped
		if t.RefusedBy = noStore; t.LockCause == (lockCause{}) { // else it is stored below
			t.storeNote()
		}
	}
	if !t.customerDecides() {
		t.serviceManaged()
		return
	}
	if e.asked.After(t.LastOK) { // loading takes time, and the grace begins with the answer
		t.LastOK = e.asked
	}
	if e.store == 0 {
		t.FirstOK = t.LastOK
	}
	t.renewLease(e.subject, e.expired, true)
	if e.store > 0 && t.Answer == classUnknown {
		t.serveOpened(e.store, e.subject)
	}
}

// serviceManaged opens the data without end: no customer's key decides about it any more.
func (t *transition) serviceManaged() {
	t.enterCondition(ServiceManaged)
	t.Code, t.Reason, t.LastOK = "", "", time.Time{}
	t.do(effect{kind: renewUntil})
	t.clearLockCause()
}

// onOpeningFailed ends an opening. A refusal of the current round, which the caller has confirmed, locks the data as
// revoked.
func (t *transition) onOpeningFailed(e event) {
	if !t.Opening || e.lockCount != t.LockCount {
		return
	}
	t.Opening = false
	if e.store > 0 { // its next poll says more
		return
	}
	if e.round == t.Round {
		t.noteCause(e)
	}
	if e.round == t.Round && (e.class == classDenied || e.class == classWrong) {
		t.lockByAnswer(Revoked, e.explanation, 0)
	}
}

// onFinishedCustomer puts a customer's key in charge, or several.
func (t *transition) onFinishedCustomer(e event) {
	t.Holder, t.Change = byCustomer, noChange
	t.Round++    // what the keys before are still asked says nothing any more
	if !e.kept { // the stores have changed, and all are asked anew
		if t.Serving > 0 { // it has taken the place of the first
			t.Answer, t.Cause = t.Others[t.Serving-1].Answer, ""
		}
		t.FirstOK = t.LastOK
		t.Stores, t.Heard, t.Others, t.RefusedBy = e.stores, t.now, [MaxStores - 1]otherStore{}, noStore
		for i := range e.stores - 1 { // each has unwrapped in the change
			t.Others[i] = otherStore{Answer: classOK, LastOK: t.now}
		}
		t.returnToFirst()
	}
	if !t.DataLocked && t.Serving == 0 {
		t.enterCondition(Active)
		t.Code, t.Reason = "", ""
		t.renewUntilGrace()
	}
	t.do(effect{kind: updateWatch})
}

// onFinishedService puts the service's key in charge. Data that a refusal has locked meanwhile opens.
func (t *transition) onFinishedService() {
	t.Holder, t.Change, t.Opening = byService, noChange, false
	t.Round++
	t.Stores, t.Others, t.RefusedBy = 0, [MaxStores - 1]otherStore{}, noStore
	t.returnToFirst()
	if !t.DataLocked {
		t.serviceManaged()
	} else {
		t.openWithServiceKey()
	}
	t.do(effect{kind: updateWatch})
}

// The codes of the refusals of data operations on a locked resource (management contract §6).
const (
	codeRevoked     = "EncryptionKeyRevoked"
	codeUnavailable = "EncryptionKeyUnavailable"
)

// refusal returns the refusal that every data operation answers with while a resource is locked in a condition. It does
// not name the key, because clients that send photos need not know where it is.
func (cond Condition) refusal() *visage.Refusal {
	if cond == Unavailable {
		r := visage.Refuse(visage.Unavailable, codeUnavailable,
			"The key that protects the data of this resource cannot be asked for at present. Nothing is lost.")
		r.RetryAfter = retryAfter
		return r
	}
	return visage.Refuse(visage.KeyRevoked, codeRevoked,
		"The key that protects the data of this resource refuses access. Nothing is lost; its owner can restore "+
			"access.")
}
