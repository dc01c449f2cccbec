package custody

import (
	"time"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource"
)

// eventKind is the kind of an event.
type eventKind string

const (
	started           eventKind = "started"          // the stored state was read
	keyAnswered       eventKind = "key answered"     // or gave no answer: see class
	stepAnswered      eventKind = "step answered"    // a step of a change has unwrapped with the key
	lockRequested     eventKind = "lock requested"   // by the owner
	unlockRequested   eventKind = "unlock requested" // by the owner; not yet stored
	unlocked          eventKind = "unlocked"         // the unlock is stored
	resourceDeleted   eventKind = "resource deleted"
	resourceRecovered eventKind = "resource recovered"
	opened            eventKind = "opened"                      // the keys are loaded
	openingFailed     eventKind = "opening failed"              // the keys could not be loaded
	changeBegun       eventKind = "change begun"                // the change is stored
	changeCommitted   eventKind = "change committed"            // the point of no return is stored
	finishedCustomer  eventKind = "change to customer finished" // the customer's key protects the data
	finishedService   eventKind = "change to service finished"  // the service's key protects the data
	changeUndone      eventKind = "change undone"
	policyChanged     eventKind = "policy changed"
	answersDiscarded  eventKind = "pending answers discarded" // another watch asks the key of the resource
)

// event is a change of what is known about a resource or its key. The comments name the kinds that use a field.
type event struct {
	kind        eventKind
	class       class            // of the answer: keyAnswered, openingFailed
	store       int              // whose key it is about, 0 the first: keyAnswered, stepAnswered, opened, openingFailed
	round       uint64           // in which the key was asked: keyAnswered, openingFailed
	lockCount   uint64           // state.LockCount when loading began: opened, openingFailed
	asked       time.Time        // when loading, or the step, began: opened, stepAnswered
	expired     bool             // the key's expiry date has passed: opened
	subject     string           // of a sentence about the key
	notAsked    bool             // this instance has not asked the key, see notAsked; the class is unknown: keyAnswered
	explanation string           // of the answer, for the owner: keyAnswered, openingFailed
	reason      keysource.Reason // of the answer, if its source gives one: keyAnswered, openingFailed
	stored      stored           // started
	stores      int              // how many keys protect the data now: finishedCustomer
	kept        bool             // the keys are the same, one in another version: finishedCustomer
}

// stored is the stored part of a state, as a start finds it.
type stored struct {
	holder      holder
	change      changeStage
	ownerLocked bool
	lockCause   lockCause
	stores      int
	refusedBy   refusal
}

// effectKind is the kind of an effect.
type effectKind string

const (
	lockData    effectKind = "lock the data" // wipe its keys; data operations answer with the refusal of why
	renewUntil  effectKind = "renew the lease"
	loadKeys    effectKind = "load the keys"
	askNow      effectKind = "ask the key now"
	askOthersAt effectKind = "ask the other keys" // at a time
	updateWatch effectKind = "update the watch"   // which key is asked may have changed
	storeNote   effectKind = "store the note"
	auditEvent  effectKind = "audit"
	logChange   effectKind = "log"
	logServing  effectKind = "log which key serves"
	refuse      effectKind = "refuse" // there is no customer's key to lock
)

// effect is an action that follows from an event. The comments name the kinds that use a field.
type effect struct {
	kind        effectKind
	why         Condition // lockData, logChange
	until       time.Time // renewUntil, zero: without end; askOthersAt
	lockCount   uint64    // loadKeys: state.LockCount when loading begins
	expired     bool      // loadKeys: the key's expiry date has passed
	store       int       // loadKeys, auditEvent, logServing: whose key it is about, 0 the first
	ownerLocked bool      // storeNote
	lockCause   lockCause // storeNote
	refusedBy   refusal   // storeNote
	known       known     // storeNote: what was stored, as far as this process knew
	must        bool      // storeNote, auditEvent: if it fails, the command fails
	audit       audit.Kind
	outcome     audit.Outcome
	details     map[audit.Detail]string
	text        string // logChange; empty: the resource has opened
}
