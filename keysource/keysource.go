// Package keysource defines key sources, which wrap and unwrap keys, and the four classes of their failures.
package keysource

import (
	"context"
	"errors"
	"time"
)

// Source wraps and unwraps small secrets under a key that it never reveals. All methods may be called at the same time.
// Every error wraps exactly one of ErrDenied, ErrWrong, ErrUnknown and ErrExpired, or is the cause of an ended context.
type Source interface {
	// Wrap encrypts inner and returns the reference of the key and version that it used. blob is opaque; the caller
	// stores it together with ref.
	Wrap(ctx context.Context, inner []byte) (blob []byte, ref Ref, err error)

	// Unwrap reverses Wrap with exactly the key that ref names. The caller owns the result and wipes it.
	Unwrap(ctx context.Context, ref Ref, blob []byte) ([]byte, error)

	// Describe returns the properties of the key that ref names; a zero ref means the key that Wrap would use now.
	Describe(ctx context.Context, ref Ref) (Description, error)
}

// Ref identifies one version of a key. URI is the key's location and name; it never holds a secret. Version is empty
// for sources whose keys have no versions.
type Ref struct {
	URI     string
	Version string
}

// Description holds the properties of a key.
type Description struct {
	Ref       Ref
	Algorithm string    // of wrapping, for example "A256GCM" or "RSA-OAEP-256"
	Enabled   bool      // usable now, as far as the source knows
	NotBefore time.Time // zero: no bound
	Expires   time.Time // zero: no bound

	// Further properties of keys in vaults; all zero for other sources.
	KeyType string // as JWK has it (RFC 7518 §6.1), for example "RSA" or "RSA-HSM"
	Bits    int    // size of the modulus
	// why the key is weaker than its size suggests, as the end of a sentence; empty: no weakness is known
	Weak       string
	Operations []string // the permitted operations, for example "wrapKey"; nil: unknown
	Recovery   string   // how a deleted key is protected, for example "Recoverable+Purgeable"
	// Unfit says why the key may not protect a resource, each as the end of a sentence that begins with the key and
	// says what would be right; empty: nothing is known against it. Vaults of Azure's protocol have none: for them the
	// rules of the contract apply to the properties above.
	Unfit map[Fitness]string
}

// Fitness is one thing that the store of a key decides of its fitness to protect a resource.
type Fitness string

// What stores decide.
const (
	FitProtection Fitness = "protection" // nobody can end the key for good by one mistake, or take it out of the store
	FitType       Fitness = "type"       // its algorithm and size
	FitOperations Fitness = "operations" // it may wrap and unwrap
)

// The classes of failure. Every class but ErrUnknown must be certain, so that an outage never looks like a revocation.
var (
	ErrDenied = errors.New("the key source refuses") // a definite refusal: no permission, disabled, deleted
	// the source answered with another key than the one that wrapped
	ErrWrong   = errors.New("the key does not open this")
	ErrUnknown = errors.New("the key source gave no usable answer") // unreachable, unreadable, throttled, malformed
	// the key has expired, and wraps no more; one that does not unwrap either refuses that, with the reason Expired
	ErrExpired = errors.New("the key has expired")
)

// Reason is the cause of a failure, for messages to people. Programs decide by the class alone.
type Reason string

// The reasons. A failure may have none.
const (
	Permission  Reason = "permission"    // the principal may not do this with the key
	Disabled    Reason = "disabled"      // the key, or this version of it
	Missing     Reason = "missing"       // there is no such key or version, or it is deleted
	Firewall    Reason = "firewall"      // the vault's firewall rejects this address
	NotYetValid Reason = "not yet valid" // before the key's activation date
	Expired     Reason = "expired"       // after its expiry date
	NoIdentity  Reason = "identity"      // the principal was deleted, or its credential is no longer accepted
)

// Error is a failure with its class and, if known, its reason. It wraps its Class.
type Error struct {
	Class  error // one of the four
	Reason Reason
	Text   string // a sentence for the operator, without secrets
}

// Error returns the sentence.
func (e *Error) Error() string { return e.Text + ": " + e.Class.Error() }

// Unwrap returns the class.
func (e *Error) Unwrap() error { return e.Class }
