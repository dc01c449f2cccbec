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
	Degraded       Condition = "degraded"    // it does not answer, within the grace, or it has expired; data is served
	Revoked        Condition = "revoked"     // it says no; 403
	Unavailable    Condition = "unavailable" // it has not answered since the start, or beyond the grace; 503
	Locked         Condition = "locked"      // by Lock; 403
)

// holder is who holds the key of a resource's data.
type holder string

const (
	byService  holder = "service"
	byCustomer holder = "customer"
)

// changing is how far a change of who holds the key, or of which key, has come.
type changing string

const (
	unchanging changing = ""
	undoable   changing = "undoable"  // it is taken back when it cannot go on
	committed  changing = "committed" // past the point of no return: it is finished
)

// state is how the key of a resource stands, and with it whether the data may be used. It is a value: On makes the next
// one of it, and knows of no clock, no disk and no process. What it says of the data is true of the data too: see
// driver.go. docs/custody-states.md shows it as a table.
//
// What always holds is in the test of this file, as properties over all states and events. Before all:
//   - nothing but an answer of the current turn that says yes leads to opening, and nothing that is stored;
//   - a refusal leaves the data locked, whatever the state was;
//   - what its owner has locked, or what is deleted, is not opened;
//   - a lease ends no later than the last good answer and the grace.
type state struct {
	Holder    holder
	Change    changing
	Condition Condition
	Locked    bool      // the data is, whatever the condition says of why
	Held      bool      // locked by the owner's word, until unlocked
	Deleted   bool      // its resource is, and may come back
	Opening   bool      // the keys are being loaded because the key has answered
	Turn      uint64    // rises when questions that are under way lose their meaning: answers to them say nothing
	Locks     uint64    // how often the data was locked: an opening that began before the last time opens nothing
	Answer    class     // how the key answered last; empty: not yet
	LastOK    time.Time // when it said yes last; zero: not since the start
	Since     time.Time // of the condition
	Code      string    // what data operations are refused with
	Reason    string    // a sentence for the owner
	Closed    closure   // what is written down of why it is locked; zero: nothing
}

// closure is why a resource is locked, and since when.
type closure struct {
	Code   string    `json:"code"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// eventKind is what has happened.
type eventKind string

const (
	started          eventKind = "started"            // the resource was read from disk
	keyAnswered      eventKind = "key answered"       // or has given no answer: see its class
	stepAnswered     eventKind = "step answered"      // a step of a change has had the key unwrap
	lockAsked        eventKind = "lock asked"         // by the owner
	unlockAsked      eventKind = "unlock asked"       // and not written down yet
	unlocked         eventKind = "unlocked"           // it is written down
	suspended        eventKind = "suspended"          // the resource was deleted
	resumed          eventKind = "resumed"            // and was recovered
	opened           eventKind = "opened"             // the keys are loaded
	openingFailed    eventKind = "opening failed"     // they are not
	changeBegun      eventKind = "change begun"       // it is written down
	changeCommitted  eventKind = "change committed"   // the point of no return is written down
	finishedCustomer eventKind = "change to customer" // finished: the customer's key is in charge
	finishedService  eventKind = "change to service"  // finished: the service's key is
	changeUndone     eventKind = "change undone"
	policyChanged    eventKind = "policy changed"
	questionsVoid    eventKind = "questions void" // the resource is under another watch
)

// event is something that has happened to a resource or its key.
type event struct {
	kind    eventKind
	class   class     // how the key answered: of keyAnswered, openingFailed
	turn    uint64    // in which it was asked
	locks   uint64    // when the opening began: of opened, openingFailed
	asked   time.Time // when the key was asked to open it: of opened
	expired bool      // the key is out of date: of opened
	key     string    // begins a sentence about the key
	said    string    // what the key or its vault has said, as sentences
	stored  stored    // of started
}

// stored is what a start finds on disk.
type stored struct {
	holder holder
	change changing
	held   bool
	closed closure
}

// effectKind is what is to be done.
type effectKind string

const (
	lockData effectKind = "lock the data" // wipe its keys, with why as the cause
	renew    effectKind = "renew the lease"
	loadKeys effectKind = "load the keys"
	askNow   effectKind = "ask the key now"
	rewatch  effectKind = "set what is asked" // the key to be asked may be another one, or none
	persist  effectKind = "write down"
	tell     effectKind = "audit"
	report   effectKind = "log"
	refuse   effectKind = "refuse" // there is no key to lock with
)

// effect is what follows from an event.
type effect struct {
	kind    effectKind
	why     Condition // of lockData
	until   time.Time // of renew; zero: without end
	locks   uint64    // of loadKeys: the opening's; see state.Locks
	expired bool      // of loadKeys: the key is out of date
	held    bool      // of persist
	closed  closure   // of persist
	must    bool      // of persist and tell: what asked for it fails when this does
	audit   audit.Kind
	outcome audit.Outcome
	details map[audit.Detail]string
	text    string // of report
}

// The sentences of the conditions.
const (
	reasonHeld    = "Its owner has locked it."
	reasonDeleted = "The resource is deleted."
	reasonAsking  = "The key is being asked."
	reasonStarted = "The key has not answered since the service was started."
)

// transition is an event under way.
type transition struct {
	state
	policy  Policy
	now     time.Time
	effects []effect
}

// On returns the state after an event, and what is to be done, in order. Every event has an answer in every state:
// one that means nothing there changes nothing.
func (s state) On(e event, policy Policy, now time.Time) (next state, effects []effect) {
	t := &transition{state: s, policy: policy, now: now}
	switch e.kind {
	case started:
		t.start(e)
	case keyAnswered:
		t.onAnswer(e)
	case stepAnswered:
		t.onStep()
	case lockAsked:
		t.onLockAsked()
	case unlockAsked:
		t.do(effect{kind: tell, audit: audit.OperatorAction, outcome: audit.Done, must: true,
			details: map[audit.Detail]string{audit.DetailOperation: "unlock"}})
		t.do(effect{kind: persist, must: true})
	case unlocked:
		t.onUnlocked()
	case suspended:
		t.onSuspended()
	case resumed:
		t.onResumed()
	case opened:
		t.onOpened(e)
	case openingFailed:
		t.onOpeningFailed(e)
	case changeBegun:
		t.Change = undoable
		if t.Deleted {
			t.lock(Locked, reasonDeleted)
		}
		t.do(effect{kind: rewatch})
	case changeCommitted:
		t.Change = committed
	case finishedCustomer:
		t.onFinishedCustomer()
	case finishedService:
		t.onFinishedService()
	case changeUndone:
		t.Change = unchanging
		t.openOwn()
		t.do(effect{kind: rewatch})
	case policyChanged:
		if !t.Locked && t.ofCustomer() && !t.LastOK.IsZero() {
			t.renewUntilGrace()
		}
	case questionsVoid:
		t.Turn++
	}
	return t.state, t.effects
}

func (t *transition) do(e effect) { t.effects = append(t.effects, e) }

// shown is the condition as others read it: the owner's word comes before what a key says.
func (s state) shown() Condition {
	if s.Held {
		return Locked
	}
	return s.Condition
}

// customers reports whether a customer's key decides about the data, now or once the change has ended.
func (s state) customers() bool { return s.Holder == byCustomer || s.Change != unchanging }

// ofCustomer reports whether the key is its customer's already: from the point of no return on, that of a change too.
func (s state) ofCustomer() bool { return s.Holder == byCustomer || s.Change == committed }

// longLocked is how long a resource may have been refused its key and still open by itself: after that somebody has to
// say that it is wanted.
const longLocked = 30 * 24 * time.Hour

// mayOpen reports whether what is locked opens when its key says yes.
func (s state) mayOpen(policy Policy, now time.Time) bool {
	if s.Held || s.Deleted {
		return false
	}
	long := s.Closed != closure{} && now.Sub(s.Closed.Since) > longLocked
	return s.Condition != Revoked || !policy.ManualRestore && !long
}

// enter goes over to a condition.
func (t *transition) enter(c Condition) {
	if t.Condition != c {
		t.Condition, t.Since = c, t.now
	}
}

// lock locks the data, again if it is: what opens it just then has to be ended.
func (t *transition) lock(c Condition, reason string) {
	t.enter(c)
	t.Locked, t.Opening = true, false
	t.Locks++
	t.Code, t.Reason = c.cause().Code, reason
	t.do(effect{kind: lockData, why: c})
}

// lockFor locks by what a key has answered, or not; what is news is told and written down.
func (t *transition) lockFor(c Condition, reason string) {
	news := !t.Locked || t.Condition != c
	t.lock(c, reason)
	if !news {
		return
	}
	outcome := audit.Refused
	if c == Unavailable {
		outcome = audit.Unknown
	}
	t.Closed = closure{Code: t.Code, Reason: reason, Since: t.now}
	t.do(effect{kind: report, why: c, text: reason})
	t.do(effect{kind: tell, audit: audit.CustodyLock, outcome: outcome,
		details: map[audit.Detail]string{audit.DetailState: string(c), audit.DetailReason: t.Code}})
	t.do(effect{kind: persist, held: t.Held, closed: t.Closed})
}

// start locks what is under a customer's key, and what a change was about to put there: nothing that was stored opens
// it, only the key's answer.
func (t *transition) start(e event) {
	t.Holder, t.Change, t.Held, t.Closed = e.stored.holder, e.stored.change, e.stored.held, e.stored.closed
	if !t.Held && !t.customers() {
		t.Closed = closure{} // of a customer's key that is gone
	}
	t.closeUntilAnswer(reasonStarted)
	t.do(effect{kind: rewatch})
}

func (t *transition) closeUntilAnswer(reason string) {
	switch {
	case t.Held: // also where the key has gone back to the service meanwhile
		t.lock(Locked, reasonHeld)
	case !t.customers():
		t.enter(ServiceManaged)
		t.Locked, t.Code, t.Reason, t.LastOK = false, "", "", time.Time{}
		t.forgetClosed()
	case t.Closed.Code == codeRevoked:
		t.lock(Revoked, t.Closed.Reason)
		t.Since = t.Closed.Since
	default:
		t.lock(Unavailable, reason)
	}
}

func (t *transition) onAnswer(e event) {
	if e.turn != t.Turn || t.Deleted || !t.ofCustomer() {
		return
	}
	if t.Answer != e.class {
		t.Answer = e.class
		t.do(effect{kind: tell, audit: audit.KeyProbe, outcome: outcomeOf(e.class),
			details: map[audit.Detail]string{audit.DetailClass: string(e.class)}})
	}
	switch e.class {
	case classOK:
		t.onKeyOK(e)
	case classExpired:
		if t.policy.LockOnExpiry {
			t.lockFor(Revoked, e.key+" has expired.")
			return
		}
		t.onKeyOK(e)
	case classDenied:
		t.lockFor(Revoked, e.said)
	case classWrong:
		t.lockFor(Revoked, e.key+" does not open the data: another key answers in its place.")
	case classUnknown:
		t.onNoAnswer(e)
	}
}

// onKeyOK renews the lease, or has what is locked opened if it may open.
func (t *transition) onKeyOK(e event) {
	t.LastOK = t.now
	switch expired := e.class == classExpired; {
	case !t.Locked:
		t.renewLease(e.key, expired, false)
	case !t.Opening && t.mayOpen(t.policy, t.now):
		t.Opening = true
		t.do(effect{kind: loadKeys, locks: t.Locks, expired: expired})
	}
}

// renewLease has an open resource run on: its key has answered.
func (t *transition) renewLease(key string, expired, fresh bool) {
	before, now := t.Condition, Active
	t.Code, t.Reason = "", ""
	if expired {
		now, t.Reason = Degraded, key+" has expired: it still opens the data and wraps no other."
	}
	t.enter(now)
	t.renewUntilGrace()
	t.forgetClosed()
	switch {
	case fresh:
		t.do(effect{kind: report, why: now})
		t.do(effect{kind: tell, audit: audit.CustodyRestore, outcome: audit.Done})
	case before != now:
		t.do(effect{kind: tell, audit: audit.CustodyGrace, outcome: audit.Done,
			details: map[audit.Detail]string{audit.DetailState: string(now)}})
	}
}

// forgetClosed takes back what is written down of why the data was locked.
func (t *transition) forgetClosed() {
	if t.Closed != (closure{}) {
		t.Closed = closure{}
		t.do(effect{kind: persist, held: t.Held})
	}
}

func (t *transition) renewUntilGrace() {
	t.do(effect{kind: renew, until: t.LastOK.Add(t.policy.Grace)})
}

// onNoAnswer lets the lease run into the grace, and locks when that is over. It makes nothing less locked, and a
// refusal stays one. It renews nothing; only the grace of a change towards its first customer's key begins with it.
func (t *transition) onNoAnswer(e event) {
	if t.Locked {
		return
	}
	first := t.LastOK.IsZero()
	if first {
		t.LastOK = t.now
	}
	if !t.now.Before(t.LastOK.Add(t.policy.Grace)) {
		t.lockFor(Unavailable, fmt.Sprintf("%s has got no usable answer from its vault for %v.", e.key, t.policy.Grace))
		return
	}
	t.Reason = e.key + " gets no usable answer from its vault: " + e.said
	if first {
		t.renewUntilGrace()
	}
	if t.Condition != Degraded {
		t.enter(Degraded)
		t.do(effect{kind: tell, audit: audit.CustodyGrace, outcome: audit.Unknown,
			details: map[audit.Detail]string{audit.DetailState: string(Degraded)}})
	}
}

// onStep keeps the lease of a resource whose key is asked by the steps of a change.
func (t *transition) onStep() {
	if !t.Locked && t.ofCustomer() {
		t.LastOK = t.now
		t.renewUntilGrace()
	}
}

func (t *transition) onLockAsked() {
	if !t.ofCustomer() {
		t.do(effect{kind: refuse})
		return
	}
	t.Held = true
	t.lock(Locked, reasonHeld)
	t.do(effect{kind: persist, held: true, closed: t.Closed, must: true})
	t.do(effect{kind: tell, audit: audit.CustodyLock, outcome: audit.Done, must: true,
		details: map[audit.Detail]string{audit.DetailState: string(Locked)}})
}

// onUnlocked has the key asked. What was asked before does not count, so that a refusal that has ended does not lock
// again: the data is locked, and stays so until a question that is asked from now on has its answer. An opening under
// way rests on a question from before: it is ended, or its refusal counts.
func (t *transition) onUnlocked() {
	t.Held = false
	t.forgetClosed() // a refusal that came meanwhile was written down together with the owner's lock
	if t.Deleted {
		if t.Locked {
			t.enter(Locked)
			t.Code, t.Reason = Locked.cause().Code, reasonDeleted
		}
		return
	}
	refused := t.Locked && t.Condition != Unavailable
	if refused || t.Locked && !t.Opening {
		t.Turn++
	}
	if refused {
		t.lock(Unavailable, reasonAsking)
	}
	if !t.openOwn() { // else it was locked while its key went back to the service
		t.do(effect{kind: askNow})
	}
}

// openOwn has what the service's key alone opens opened, and reports whether there is something to open.
func (t *transition) openOwn() bool {
	if !t.Locked || t.Held || t.Deleted || t.customers() {
		return false
	}
	t.do(effect{kind: loadKeys, locks: t.Locks})
	return true
}

func (t *transition) onSuspended() {
	t.Deleted = true
	if t.customers() {
		t.lock(Locked, reasonDeleted)
	}
	t.do(effect{kind: rewatch})
}

// onResumed puts a resource where it was at its deletion. If its key is a customer's, loading it is the question: a
// person who has it back wants it open, and the watch asks in any case. If it is the service's, the caller opens it.
func (t *transition) onResumed() {
	if !t.Deleted {
		return
	}
	t.Deleted = false
	t.closeUntilAnswer(reasonAsking)
	if t.Holder == byCustomer && t.Change == unchanging && t.mayOpen(t.policy, t.now) {
		t.Opening = true
		t.do(effect{kind: loadKeys, locks: t.Locks})
	}
	t.do(effect{kind: rewatch})
	t.do(effect{kind: askNow})
}

// onOpened serves what was opened, if it was not locked meanwhile.
func (t *transition) onOpened(e event) {
	if !t.Locked || e.locks != t.Locks || t.Held || t.Deleted {
		return
	}
	t.Locked, t.Opening = false, false
	if !t.ofCustomer() {
		t.serviceManaged()
		return
	}
	if e.asked.After(t.LastOK) { // loading may have taken long since
		t.LastOK = e.asked
	}
	t.renewLease(e.key, e.expired, true)
}

// serviceManaged ends all that a customer's key had to say.
func (t *transition) serviceManaged() {
	t.enter(ServiceManaged)
	t.Code, t.Reason, t.LastOK = "", "", time.Time{}
	t.do(effect{kind: renew})
	t.forgetClosed()
}

func (t *transition) onOpeningFailed(e event) {
	if !t.Opening || e.locks != t.Locks {
		return
	}
	t.Opening = false
	if e.turn == t.Turn && (e.class == classDenied || e.class == classWrong) {
		t.lockFor(Revoked, e.said)
	}
}

func (t *transition) onFinishedCustomer() {
	t.Holder, t.Change = byCustomer, unchanging
	if !t.Locked {
		t.enter(Active)
		t.Code, t.Reason = "", ""
		t.renewUntilGrace()
	}
	t.do(effect{kind: rewatch})
}

func (t *transition) onFinishedService() {
	t.Holder, t.Change, t.Opening = byService, unchanging, false
	if !t.Locked {
		t.serviceManaged()
	} else {
		t.openOwn()
	}
	t.do(effect{kind: rewatch})
}

// The codes of data operations on a locked resource (management contract §6).
const (
	codeRevoked     = "EncryptionKeyRevoked"
	codeUnavailable = "EncryptionKeyUnavailable"
)

// cause is what a resource in a condition is locked with: a refusal, since that is what every data operation answers
// from then on. It says nothing of the key: who may send photos need not know where it is.
func (cond Condition) cause() *visage.Refusal {
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
