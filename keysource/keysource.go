// Package keysource holds the words of wrapping: what can wrap a key, and the four ways it can fail to.
package keysource

import (
	"context"
	"errors"
	"time"
)

// Source wraps and unwraps small secrets under a key it does not give away. All methods may be called at the same time.
// Every error wraps exactly one of ErrDenied, ErrWrong, ErrUnknown and ErrExpired, or is the cause of an ended context.
type Source interface {
	// Wrap encrypts inner and says which key and version did it. The result is opaque to the caller, who keeps blob and
	// ref together.
	Wrap(ctx context.Context, inner []byte) (blob []byte, ref Ref, err error)

	// Unwrap reverses Wrap with exactly the key that ref names. The caller owns the result and wipes it.
	Unwrap(ctx context.Context, ref Ref, blob []byte) ([]byte, error)

	// Describe reports what is known of the key that ref names; a zero ref means the key that Wrap would use now.
	Describe(ctx context.Context, ref Ref) (Description, error)
}

// Ref names a key, exactly. URI says where it is and what it is called; it never holds a secret. Version is empty where
// keys have none.
type Ref struct {
	URI     string
	Version string
}

// Description is what a source knows of a key.
type Description struct {
	Ref       Ref
	Algorithm string    // how it wraps, for example "A256GCM" or "RSA-OAEP-256"
	Enabled   bool      // may be used now as far as the source can tell
	NotBefore time.Time // zero: no bound
	Expires   time.Time // zero: no bound

	// What vaults tell of their keys besides; all zero for a source that is no vault.
	KeyType string // as JWK has it (RFC 7518 §6.1), for example "RSA" or "RSA-HSM"
	Bits    int    // size of the modulus
	// why the key is easier to break than its size says, as the end of a sentence; empty: nothing is known
	Weak       string
	Operations []string // what the key may be used for, for example "wrapKey"; nil: not told
	Recovery   string   // what stands between a deleted key and its end, for example "Recoverable+Purgeable"
}

// The classes of failure. A class must be certain: whatever is not is ErrUnknown, so that an outage never looks like a
// revocation.
var (
	ErrDenied = errors.New("the key source refuses") // a definite no: permission, disabled, deleted
	// the source answered, and what it has is not the key
	ErrWrong   = errors.New("the key does not open this")
	ErrUnknown = errors.New("the key source gave no usable answer") // unreachable, unreadable, throttled, garbled
	ErrExpired = errors.New("the key has expired")
)

// Reason narrows a failure down, for the sentence a person reads. What happens is decided by the class alone.
type Reason string

// The reasons. A failure may have none.
const (
	Permission  Reason = "permission"    // the principal may not do this with the key
	Disabled    Reason = "disabled"      // the key, or this version of it
	Missing     Reason = "missing"       // there is no such key or version, or it is deleted
	Firewall    Reason = "firewall"      // the vault does not talk to this address
	NotYetValid Reason = "not yet valid" // before the key's first day
	Expired     Reason = "expired"       // after its last
	NoIdentity  Reason = "identity"      // the principal is gone, or proves nothing any more
)

// Error is a failure with what is known of it. It wraps its Class.
type Error struct {
	Class  error // one of the four
	Reason Reason
	Text   string // a sentence for the operator, without secrets
}

// Error returns the sentence.
func (e *Error) Error() string { return e.Text + ": " + e.Class.Error() }

// Unwrap returns the class.
func (e *Error) Unwrap() error { return e.Class }
