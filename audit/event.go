package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/visage-face/visage"
)

// Kind says what was done, or requested and refused. The set is closed: a Recorder takes no other.
type Kind string

// The kinds of event. A list written by a newer program may hold other kinds.
const (
	KeyWrap   Kind = "key.wrap"   // a data key was wrapped under a customer's key
	KeyUnwrap Kind = "key.unwrap" // a data key was unwrapped
	KeyProbe  Kind = "key.probe"  // the answer to the periodic probe changed its class; DetailClass has the new one
	KeyLoad   Kind = "key.load"   // a resource's keys were opened into memory
	KeyWipe   Kind = "key.wipe"   // a resource's keys were wiped from memory

	CustodyEnable  Kind = "custody.enable"  // customer-managed keys on
	CustodySwitch  Kind = "custody.switch"  // another key
	CustodyFollow  Kind = "custody.follow"  // a new version of the same key
	CustodyDisable Kind = "custody.disable" // back to the service's key
	CustodyLock    Kind = "custody.lock"
	CustodyRestore Kind = "custody.restore"
	CustodyGrace   Kind = "custody.grace" // the vault does not answer, or answers again; DetailState says which
	// a key in a further store was added, removed, or made the first; DetailOperation says which
	CustodyStore Kind = "custody.store"
	// the key in another store keeps the data open because the first is silent (unknown), or the first answers again
	CustodyFailover Kind = "custody.failover"
	CustodyRefusal  Kind = "custody.refusal" // a key beside the first refuses, or answers again: an alarm, not a lock
	CustodyEpoch    Kind = "custody.epoch"   // an epoch was turned, or its key destroyed

	ResourceCreate        Kind = "resource.create"
	ResourceUpdate        Kind = "resource.update"
	ResourceDelete        Kind = "resource.delete"
	ResourceRecover       Kind = "resource.recover"
	ResourcePurge         Kind = "resource.purge"
	ResourceListKeys      Kind = "resource.list-keys"
	ResourceRegenerateKey Kind = "resource.regenerate-key"

	RequestSubmit   Kind = "request.submit" // an access request for customer-managed keys
	RequestApprove  Kind = "request.approve"
	RequestReject   Kind = "request.reject"
	RequestWithdraw Kind = "request.withdraw"
	RequestCapacity Kind = "request.capacity"

	IdentityCreate Kind = "identity.create" // a principal or a secret of one
	IdentityUpdate Kind = "identity.update" // a person
	IdentityDelete Kind = "identity.delete"
	IdentityToken  Kind = "identity.token" // a token was issued or refused
	IdentityRole   Kind = "identity.role"  // a role was given or taken; DetailOperation says which
	IdentityRotate Kind = "identity.rotate"

	// a person signed in to the console, or was refused, DetailOperation says how; proved it again; a session ended
	SessionOpen  Kind = "session.open"
	SessionProve Kind = "session.prove"
	SessionEnd   Kind = "session.end"

	VaultOperation Kind = "vault.operation" // any operation of the built-in vault; DetailOperation has its name
	// a change of permissions in a vault, or of its permission model: DetailBefore and DetailAfter
	VaultAccess Kind = "vault.access"

	PersonDelete Kind = "person.delete"
	FaceDelete   Kind = "face.delete"
	GroupDelete  Kind = "group.delete" // of persons, or a face list

	RetentionSet Kind = "retention.set" // how long persons or faces are kept
	HoldPlace    Kind = "hold.place"    // a legal hold
	HoldRelease  Kind = "hold.release"

	AccessRefuse Kind = "access.refuse" // a request whose caller was not let in

	OperatorAction Kind = "operator.action" // backup, restore, drill, settings; DetailOperation has its name
	// the operator has verified a backup or a copy of the keyring, DetailOperation says which, taken at DetailTaken;
	// DetailState is CopyIntact or CopyDamaged
	BackupVerify Kind = "backup.verify"
	StoreEvent   Kind = "store.event" // what the sealed store reports of itself; DetailOperation has its name

	// the root key: a protector was added or removed, KeyID is its entry in the settings, DetailSubject its name; all
	// were asked to open it, DetailCount says how many did; a new one was made, DetailGeneration is its version
	RootProtect   Kind = "root.protect"
	RootUnprotect Kind = "root.unprotect"
	RootTest      Kind = "root.test"
	RootRotate    Kind = "root.rotate"
	RootKit       Kind = "root.kit"   // a recovery kit was made, DetailSubject is its id
	RootProve     Kind = "root.prove" // somebody has proved that a recovery kit opens the root key
	// a recovery kit has opened the root key of the stopped server, which was then wrapped anew
	RootRecover Kind = "root.recover"

	// the store was brought to the next format; DetailOperation has the migration's name, DetailBefore and DetailAfter
	// the formats
	StoreMigrate Kind = "store.migrate"

	InstanceStart Kind = "instance.start"
	InstanceStop  Kind = "instance.stop"
)

var kinds = []Kind{
	KeyWrap, KeyUnwrap, KeyProbe, KeyLoad, KeyWipe,
	CustodyEnable, CustodySwitch, CustodyFollow, CustodyDisable, CustodyLock, CustodyRestore, CustodyGrace,
	CustodyStore, CustodyFailover, CustodyRefusal, CustodyEpoch,
	ResourceCreate, ResourceUpdate, ResourceDelete, ResourceRecover, ResourcePurge, ResourceListKeys,
	ResourceRegenerateKey,
	RequestSubmit, RequestApprove, RequestReject, RequestWithdraw, RequestCapacity,
	IdentityCreate, IdentityUpdate, IdentityDelete, IdentityToken, IdentityRole, IdentityRotate,
	SessionOpen, SessionProve, SessionEnd,
	VaultOperation, VaultAccess, PersonDelete, FaceDelete, GroupDelete, RetentionSet, HoldPlace, HoldRelease,
	AccessRefuse, OperatorAction, BackupVerify, RootProtect, RootUnprotect, RootTest, RootRotate, RootKit,
	RootProve, RootRecover, StoreEvent,
	StoreMigrate, InstanceStart, InstanceStop,
}

// Kinds returns every kind there is, in the order of their meaning.
func Kinds() []Kind { return slices.Clone(kinds) }

// ParseKind returns the kind that is spelled so, for queries.
func ParseKind(s string) (k Kind, known bool) { return Kind(s), slices.Contains(kinds, Kind(s)) }

// Outcome says how it ended. The set is closed.
type Outcome string

// The outcomes.
const (
	Done    Outcome = "done"
	Refused Outcome = "refused" // by a rule or by a customer's key; Event.Code has the code
	Failed  Outcome = "failed"  // by a fault of the service
	Unknown Outcome = "unknown" // there was no certain answer
)

// ActorKind is the kind of an actor. The set is closed.
type ActorKind string

// The kinds of actor.
const (
	Service       ActorKind = "service"      // the instance by itself
	OperatorActor ActorKind = "operator"     // authenticated with the operator's secret
	AccessKey     ActorKind = "access-key"   // authenticated with a key of a resource; the id is the key's name
	Identity      ActorKind = "identity"     // an authenticated principal; the id is its object id
	Person        ActorKind = "person"       // a human at the console; the id is the object id of the principal
	Anonymous     ActorKind = "unidentified" // not authenticated
)

// Actor is who did it. The zero Actor is the instance by itself.
type Actor struct {
	Kind ActorKind `json:"kind"`
	ID   string    `json:"id,omitempty"`
	Name string    `json:"name,omitempty"` // of the human who acts, as far as it is known; in any script
}

// ActorOf returns the actor of a request; for the zero Caller, the instance by itself.
func ActorOf(c visage.Caller) Actor {
	switch c.Method {
	case "operator":
		return Actor{Kind: OperatorActor, Name: c.Name}
	case "key":
		return Actor{Kind: AccessKey, ID: c.KeyName}
	case "token":
		return Actor{Kind: Identity, ID: c.ObjectID}
	case "person":
		return Actor{Kind: Person, ID: c.ObjectID, Name: c.Name}
	}
	if c.RequestID == "" {
		return Actor{Kind: Service}
	}
	return Actor{Kind: Anonymous}
}

// Detail names a further fact of an event. The set is closed, and none of them is for names that people gave, userData
// or anything of a face: the log outlives the data. The one name in an entry is Actor.Name.
type Detail string

// The details. Ids of groups and persons are the ones of the wire, which describe nobody.
const (
	DetailOperation       Detail = "operation"
	DetailClass           Detail = "class" // how a key's holder answered: ok, denied, wrong, unknown, expired
	DetailState           Detail = "state"
	DetailReason          Detail = "reason" // a code, never a sentence with data in it
	DetailStep            Detail = "step"
	DetailGeneration      Detail = "generation"
	DetailEpoch           Detail = "epoch"
	DetailCount           Detail = "count"
	DetailGroup           Detail = "group"
	DetailPerson          Detail = "person"
	DetailFace            Detail = "face"
	DetailVault           Detail = "vault"
	DetailKeyName         Detail = "key-name" // Key1 or Key2
	DetailTier            Detail = "tier"
	DetailRegion          Detail = "region"
	DetailRole            Detail = "role"
	DetailSubject         Detail = "subject"          // the id of whom it was done to
	DetailProviderRequest Detail = "provider-request" // the id that a key's holder gave to the call
	DetailBuild           Detail = "build"
	DetailRuntime         Detail = "runtime"
	DetailFIPS            Detail = "fips"
	DetailNode            Detail = "node"
	DetailGrade           Detail = "grade" // how far an erasure reaches: docs/erasure.md
	// SHA-256 over what a receipt says of each container's blinded ids, hexadecimal
	DetailErased     Detail = "erased"
	DetailScope      Detail = "scope"  // the management path that a role is given on, or a request was about
	DetailBefore     Detail = "before" // what was true before a change; "none": nothing
	DetailAfter      Detail = "after"
	DetailChange     Detail = "change"     // an id that the entries of one change share
	DetailAssignment Detail = "assignment" // the id of a role assignment
	DetailSecret     Detail = "secret-id"
	DetailClient     Detail = "client"   // the client id of an application
	DetailAudience   Detail = "audience" // whom a token is for
	// where a request came from: an IPv4 address, or the first 64 bits of an IPv6 one
	DetailAddress Detail = "address"
	DetailPlane   Detail = "plane"
	DetailSession Detail = "session" // the id of a session of the console
	DetailSince   Detail = "since"   // of an entry that stands for several events (DetailCount): the time of the first
	DetailTaken   Detail = "taken"   // when a copy was taken, RFC 3339
)

// What is verified, in DetailOperation, and how that ends, in DetailState.
const (
	CopyOfBackup  = "backup"
	CopyOfKeyring = "keyring"

	CopyIntact  = "intact"
	CopyDamaged = "damaged"
)

var details = []Detail{
	DetailOperation, DetailClass, DetailState, DetailReason, DetailStep, DetailGeneration, DetailEpoch, DetailCount,
	DetailGroup,
	DetailPerson, DetailFace, DetailVault, DetailKeyName, DetailTier, DetailRegion, DetailRole, DetailSubject,
	DetailProviderRequest,
	DetailBuild, DetailRuntime, DetailFIPS, DetailNode, DetailGrade, DetailErased, DetailScope, DetailBefore,
	DetailAfter, DetailChange,
	DetailAssignment, DetailSecret, DetailClient, DetailAudience, DetailAddress, DetailPlane, DetailSession,
	DetailSince, DetailTaken,
}

// Event is one thing that happened. Texts are cut to what an entry holds (maxID, maxKeyID, maxDetail bytes; a cut one
// ends in "~"), and what is not printable ASCII becomes "?": an event is not lost for what a client wrote into it. The
// name of the actor keeps its script; it is cut to maxName bytes, and what is not printable in it becomes "?".
type Event struct {
	Time       time.Time         // zero: now
	Kind       Kind              // required
	Outcome    Outcome           // required
	Actor      Actor             // zero: the instance by itself
	Resource   visage.ResourceID // zero: none, or all
	KeyID      string            // the URI of a key without its version; empty: none
	KeyVersion string            // the version that was used
	Code       string            // of the refusal; empty when there was none
	RequestID  string            // of the request that caused it; empty: none
	Details    map[Detail]string // nil: none
}

// The longest texts of an event, in bytes. Key vault names have 24 bytes, key names 127, versions 32, object ids 36.
const (
	maxID     = 128
	maxKeyID  = 512
	maxDetail = 256
	maxName   = 512
)

// Check returns an error if the kind, outcome, actor or a detail of the event is unknown: that is a bug in
// the caller.
func (e Event) Check() error {
	_, err := e.clean()
	return err
}

// clean returns the event as it will be written, or what is wrong with it.
func (e Event) clean() (Event, error) {
	if !slices.Contains(kinds, e.Kind) {
		return Event{}, fmt.Errorf("audit: kind %q is not known", e.Kind)
	}
	switch e.Outcome {
	case Done, Refused, Failed, Unknown:
	default:
		return Event{}, fmt.Errorf("audit %s: outcome %q is not known", e.Kind, e.Outcome)
	}
	switch e.Actor.Kind {
	case "":
		e.Actor.Kind = Service
	case Service, OperatorActor, AccessKey, Identity, Person, Anonymous:
	default:
		return Event{}, fmt.Errorf("audit %s: actor %q is not known", e.Kind, e.Actor.Kind)
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time = time.Unix(0, e.Time.UnixNano()).UTC()
	e.Actor.ID, e.Actor.Name = cleanText(e.Actor.ID, maxID), cleanName(e.Actor.Name)
	e.KeyID, e.KeyVersion = cleanText(e.KeyID, maxKeyID), cleanText(e.KeyVersion, maxID)
	e.Code, e.RequestID = cleanText(e.Code, maxID), cleanText(e.RequestID, maxID)
	var cleaned map[Detail]string
	for k, v := range e.Details {
		if !slices.Contains(details, k) {
			return Event{}, fmt.Errorf("audit %s: detail %q is not known", e.Kind, k)
		}
		if cleaned == nil {
			cleaned = make(map[Detail]string, len(e.Details))
		}
		cleaned[k] = cleanText(v, maxDetail)
	}
	e.Details = cleaned
	return e, nil
}

func cleanText(s string, limit int) string {
	cut := len(s) > limit
	if cut {
		s = s[:limit]
	}
	b := []byte(s)
	for i, c := range b {
		if c < 0x20 || c > 0x7e {
			b[i] = '?'
		}
	}
	if cut {
		b[limit-1] = '~'
	}
	return string(b)
}

// cleanName returns a name as isName takes it.
func cleanName(s string) string {
	s = strings.Map(func(r rune) rune {
		if !inName(r) {
			return '?'
		}
		return r
	}, s) // what is not UTF-8 becomes U+FFFD
	if len(s) <= maxName {
		return s
	}
	end := maxName - 1
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "~"
}

// isName reports whether a name is as it may stand in an entry.
func isName(s string) bool {
	return len(s) <= maxName && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !inName(r) })
}

// inName reports whether a character may stand in a name: those that end a line, or turn the direction of the text
// around them, could make an entry look like another one.
func inName(r rune) bool {
	return !unicode.IsControl(r) && r != '\u2028' && r != '\u2029' && !(r >= '\u202a' && r <= '\u202e') &&
		!(r >= '\u2066' && r <= '\u2069')
}
