package visage

import (
	"fmt"
	"time"
)

// Kind is what a program decides on when something is refused. The planes map kinds to statuses, each in one place.
type Kind int

// The kinds of refusal.
const (
	Invalid         Kind = iota + 1 // the request does not fit the contract
	Unauthenticated                 // no credential, or one that proves nothing
	Denied                          // a valid credential that may not do this, or a quota that is used up
	NotFound                        // what the path names does not exist
	Conflict                        // the state of the thing forbids this now
	Gone                            // it existed, and it will not come back
	TooLarge                        // a body or an image over its limit
	TooMany                         // the rate limit; RetryAfter says when to come again
	KeyRevoked                      // the customer's key says no
	Unavailable                     // not now; RetryAfter says when to come again
	Unsupported                     // a feature that this resource or this build does not have
)

var kindNames = [...]string{
	Invalid: "invalid", Unauthenticated: "unauthenticated", Denied: "denied", NotFound: "not found",
	Conflict: "conflict", Gone: "gone",
	TooLarge: "too large", TooMany: "too many", KeyRevoked: "key revoked", Unavailable: "unavailable",
	Unsupported: "unsupported",
}

// String returns the kind's name in lower case.
func (k Kind) String() string {
	if k < Invalid || int(k) >= len(kindNames) {
		return fmt.Sprintf("kind %d", int(k))
	}
	return kindNames[k]
}

// Refusal is an error that is an answer: the caller is told what was wrong and what to do about it.
// Everything else a service returns is an internal error, whose text goes to the log and never to the caller.
type Refusal struct {
	Kind       Kind
	Code       string        // the contract's code, for example "PersonGroupNotFound"
	Message    string        // a sentence a person can act on; never holds secrets or stored data of others
	RetryAfter time.Duration // for TooMany and Unavailable; zero: not said
	// the inner code: "UnsupportedFeature" in the Face contract §1.5, those of the key vault contract §A8; else empty
	Feature string
}

// Error returns the code and the sentence.
func (r *Refusal) Error() string { return r.Code + ": " + r.Message }

// Refuse makes a refusal; format and args make its sentence.
func Refuse(kind Kind, code, format string, args ...any) *Refusal {
	return &Refusal{Kind: kind, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Shortage is an error that is an answer too: there is no room for what is new. A store says it in words for the
// caller, so that no service can forget to.
type Shortage interface {
	error
	Shortage() string // a sentence a person can act on
}
