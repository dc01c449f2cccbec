package custody

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// Requirement is one thing that must hold before a key may wrap the data key of a resource.
type Requirement string

// The requirements that a change of keys has of the resource, the vault and the key.
const (
	NoOtherChange      Requirement = "no-other-change"     // no other change of the resource's key is in progress
	PresentKeyAnswers  Requirement = "present-key-answers" // the customer's key that is to be replaced answers
	VaultKnown         Requirement = "vault-known"         // the vault exists, and this instance may use it
	IdentityRegistered Requirement = "identity-registered" // the resource's identity gets tokens
	FirewallAdmits     Requirement = "firewall-admits"     // the vault's network rules let the service in
	MayGet             Requirement = "may-get"             // the vault permits the identity to get the key
	KeyExists          Requirement = "key-exists"
	SoftDelete         Requirement = "soft-delete"
	PurgeProtection    Requirement = "purge-protection"
	KeyType            Requirement = "key-type" // RSA or RSA-HSM of 2048 bits, and not weak
	KeyEnabled         Requirement = "key-enabled"
	KeyValid           Requirement = "key-valid"      // between its activation and its expiry date
	KeyOperations      Requirement = "key-operations" // the key allows wrapKey and unwrapKey
	MayWrap            Requirement = "may-wrap"       // the vault permits the identity to wrap
	MayUnwrap          Requirement = "may-unwrap"
	RoundTrip          Requirement = "round-trip" // the vault has wrapped a value and unwrapped it again
)

// asked are the requirements that the answers of a vault show, in the order in which a vault checks them.
var asked = []Requirement{VaultKnown, IdentityRegistered, FirewallAdmits, MayGet, KeyExists}

// properties are the requirements of a key's properties, in the order in which they are checked.
var properties = []Requirement{SoftDelete, PurgeProtection, KeyType, KeyEnabled, KeyValid, KeyOperations}

// requirements lists all of them in the order in which a change of keys checks them.
var requirements = slices.Concat([]Requirement{NoOtherChange, PresentKeyAnswers}, asked, properties,
	[]Requirement{MayWrap, MayUnwrap, RoundTrip})

// Check is the answer to a requirement.
type Check struct {
	Requirement Requirement
	Met         bool
	Refusal     *visage.Refusal // the refusal of a change because of it; nil: it is met, or not known
}

// Known reports whether it is known whether the requirement is met.
func (c Check) Known() bool { return c.Met || c.Refusal != nil }

// Properties are the properties of a key.
type Properties = keysource.Description

// Description is the answer of a store that was asked to describe a key.
type Description struct {
	Class string        // ok, denied, wrong or unknown
	Took  time.Duration // until it came
	Key   Properties    // zero unless the class is ok
}

// Examination has a Check of every requirement, in the order in which a change of keys checks them. It is not safe for
// concurrent use.
type Examination struct {
	Checks []Check
	// Answer is how the key was described; nil: it was not asked.
	Answer *Description

	to      binding
	version string // of the key that was described
	failed  error  // not a refusal; or the refusal that a change would give
}

// NewExamination returns the examination of a key as one principal, with nothing known yet.
func NewExamination(key visage.KeyRef, as visage.PrincipalID) *Examination {
	return newExamination(binding{key, as})
}

func newExamination(to binding) *Examination {
	e := &Examination{to: to}
	for _, of := range requirements {
		e.Checks = append(e.Checks, Check{Requirement: of})
	}
	return e
}

// Of returns the check of a requirement, which may be set.
func (e *Examination) Of(of Requirement) *Check {
	return &e.Checks[slices.IndexFunc(e.Checks, func(c Check) bool { return c.Requirement == of })]
}

// meet notes that requirements are met.
func (e *Examination) meet(all ...Requirement) {
	for _, of := range all {
		*e.Of(of) = Check{Requirement: of, Met: true}
	}
}

// note notes the result of a check, nil or an error, and reports whether the requirement is met. The first error is the
// one that ends a change.
func (e *Examination) note(of Requirement, err error) bool {
	if err == nil {
		e.meet(of)
		return true
	}
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok {
		*e.Of(of) = Check{Requirement: of, Refusal: refusal}
	}
	if e.failed == nil {
		e.failed = err
	}
	return false
}

// noteAnswer notes the failure of a call to the vault, with what it shows: a vault that misses a key has let the caller
// in.
func (e *Examination) noteAnswer(verb string, failure error) {
	err := vaultRefusal(e.to, verb, failure)
	of := shownBy(verb, err, reasonOf(failure))
	if at := slices.Index(asked, of); at >= 0 && verb == "get" {
		e.meet(asked[:at]...)
	}
	if of == KeyEnabled || of == KeyValid {
		e.meet(asked...)
	}
	e.note(of, err)
}

// shownBy returns the requirement that the failure of a call to a vault concerns.
func shownBy(verb string, err error, reason keysource.Reason) Requirement {
	refusal, ok := errors.AsType[*visage.Refusal](err)
	switch {
	case !ok:
		return RoundTrip
	case refusal.Code == "InvalidKeyVaultProperties", refusal.Code == "KeyStoreNotPermitted",
		refusal.Code == "KeyStoreNotUsable":
		return VaultKnown
	case reason == keysource.NoIdentity:
		return IdentityRegistered
	case refusal.Code == "KeyVaultFirewall":
		return FirewallAdmits
	case refusal.Code == "KeyVaultKeyNotFound":
		return KeyExists
	case refusal.Code == "KeyVaultKeyDisabled":
		return KeyEnabled
	case refusal.Code == "KeyVaultKeyExpired", refusal.Code == "KeyVaultKeyNotYetValid":
		return KeyValid
	case refusal.Code != "KeyVaultAccessDenied":
		return RoundTrip
	case verb == "wrapKey":
		return MayWrap
	case verb == "unwrapKey":
		return MayUnwrap
	}
	return MayGet
}

// noteProperties checks the properties of a key, and reports whether all requirements are met.
func (e *Examination) noteProperties(d Properties) bool {
	met := true
	for _, of := range properties {
		met = e.note(of, checkProperty(of, e.to.Key, d)) && met
	}
	return met
}

// NoteProperties adds what the properties of the key show, as someone else has read them, to what is not known; nil:
// there is no such key. A vault describes no disabled key to a resource, so of such a key only that is noted.
func (e *Examination) NoteProperties(d *Properties) {
	other := newExamination(e.to)
	switch {
	case d == nil:
		other.noteAnswer("get", &keysource.Error{Class: keysource.ErrDenied, Reason: keysource.Missing})
	case !d.Enabled:
		other.meet(KeyExists)
		other.note(KeyEnabled, checkProperty(KeyEnabled, e.to.Key, *d))
	default:
		other.meet(KeyExists)
		other.noteProperties(*d)
	}
	for _, of := range append([]Requirement{KeyExists}, properties...) {
		if c := e.Of(of); !c.Known() {
			*c = *other.Of(of)
		}
	}
}

// Access is what a vault permits the identity of a resource.
type Access struct {
	Admitted          bool // the vault's network rules let the service in; if not, the others are not known
	Get, Wrap, Unwrap bool
}

// NoteAccess adds what the vault itself says of its permissions to what is not known.
func (e *Examination) NoteAccess(a Access) {
	note := func(of Requirement, met bool, verb string, reason keysource.Reason) {
		if c := e.Of(of); c.Known() {
			return
		}
		if met {
			e.meet(of)
			return
		}
		e.note(of, vaultRefusal(e.to, verb, &keysource.Error{Class: keysource.ErrDenied, Reason: reason}))
	}
	note(FirewallAdmits, a.Admitted, "get", keysource.Firewall)
	if !a.Admitted {
		return
	}
	note(MayGet, a.Get, "get", keysource.Permission)
	note(MayWrap, a.Wrap, "wrapKey", keysource.Permission)
	note(MayUnwrap, a.Unwrap, "unwrapKey", keysource.Permission)
}

// Examine checks what Enable requires of a key, in the same order and with the same refusals, and goes on after a
// requirement that is not met, as far as more can be known. Like Enable, it asks the key; it changes and records
// nothing itself, though the key's vault has a record of each use. Without a principal, the key is not asked. Errors:
// sealed.ErrNoSpace, and failures that are no refusals.
func (c *Custody) Examine(
	ctx context.Context, id sealed.SpaceID, key visage.KeyRef, as visage.PrincipalID,
) (*Examination, error) {
	sp, err := c.space(ctx, id)
	if err != nil {
		return nil, err
	}
	to := binding{key, as}
	e := newExamination(to)
	present, _ := sp.keyInUse()
	switch {
	case !e.note(NoOtherChange, c.requireNoChange(sp, to)):
	case present != nil && c.sameKey(present.Key, key) && present.As != as:
		c.examinePrincipal(ctx, sp, e)
	case c.storeWith(sp.stores(), key) > 0:
		e.note(NoOtherChange, alreadyInUse(key, "it is a further key of the resource"))
	case present != nil && !e.note(PresentKeyAnswers, c.requirePresentKey(ctx, sp, *present)):
	default:
		e.meet(PresentKeyAnswers)
		if as != "" {
			c.examineKey(ctx, sp, e)
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if _, refused := errors.AsType[*visage.Refusal](e.failed); e.failed != nil && !refused {
		return nil, e.failed
	}
	return e, nil
}

// requireNoChange refuses a change while another one is under way, unless it only gives the one under way another
// principal.
func (c *Custody) requireNoChange(sp *space, to binding) error {
	sp.mu.Lock()
	f, busy := sp.note.Flow, sp.busy && sp.ending == nil
	sp.mu.Unlock()
	if f == nil && !busy || f != nil && c.goesTo(*f, to.Key) && f.To.As != to.As {
		return nil
	}
	return conflictRefusal()
}

// goesTo reports whether a change goes to a key, with the same version.
func (c *Custody) goesTo(f flow, key visage.KeyRef) bool {
	return f.To != nil && c.sameKey(f.To.Key, key) && f.To.Key.Version == key.Version
}

// examinePrincipal checks what changePrincipal requires.
func (c *Custody) examinePrincipal(ctx context.Context, sp *space, e *Examination) {
	if !e.note(NoOtherChange, requireSameVersion(sp, e.to)) {
		return
	}
	_, version := sp.keyInUse()
	if err := c.probe(ctx, sp, storeKey{e.to, version}); err != nil {
		e.noteAnswer("unwrapKey", err)
		return
	}
	e.meet(PresentKeyAnswers, VaultKnown, IdentityRegistered, FirewallAdmits, KeyExists, KeyEnabled, MayUnwrap,
		RoundTrip)
}

// examineKey checks what is required of a key that is to wrap a resource's data key, in the order of the management
// contract §5.2. The caller has checked that the resource may use the key's vault.
func (c *Custody) examineKey(ctx context.Context, sp *space, e *Examination) {
	ctx, err := about(ctx, sp)
	if err != nil {
		e.failed = err
		return
	}
	src, err := c.cfg.Open(ctx, e.to.Key, e.to.As)
	if err != nil {
		e.noteAnswer("get", err)
		return
	}
	began := time.Now()
	d, err := src.Describe(ctx, keysource.Ref{})
	e.Answer = &Description{string(classOf(err)), time.Since(began), d}
	if err != nil {
		e.noteAnswer("get", err)
		return
	}
	e.version = d.Ref.Version
	e.meet(asked...)
	if !e.noteProperties(d) {
		return
	}
	if e.to.Key.Version == "" { // the checked version must wrap, even if there is a newer one by now
		if src, err = c.cfg.Open(ctx, e.to.at(d.Ref.Version), e.to.As); err != nil {
			e.noteAnswer("get", err)
			return
		}
	}
	verb, err := roundTrip(ctx, src)
	if verb == "unwrapKey" {
		e.meet(MayWrap)
	}
	if err != nil {
		e.noteAnswer(verb, err)
		return
	}
	e.meet(MayUnwrap, RoundTrip)
}
