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
}

// The classes of failure. A class must be certain: whatever is not is ErrUnknown, so that an outage never looks like a
// revocation.
var (
	ErrDenied  = errors.New("the key source refuses")               // a definite no: permission, disabled, deleted
	ErrWrong   = errors.New("the key does not open this")           // the source answered, and what it has is not the key
	ErrUnknown = errors.New("the key source gave no usable answer") // unreachable, unreadable, throttled, garbled
	ErrExpired = errors.New("the key has expired")
)
