package visage

import (
	"fmt"
	"time"
)

// Kind is the class of a refusal, on which programs decide. One function maps kinds to statuses for all planes.
type Kind int

// The kinds of refusal.
const (
	Invalid         Kind = iota + 1 // the request does not fit the contract
	Unauthenticated                 // no credential, or one that is not valid
	Denied                          // a valid credential that may not do this, or a quota that is used up
	NotFound                        // the item that the path names does not exist
	Conflict                        // the state of the thing forbids this now
	Gone                            // it existed, and it will not come back
	TooLarge                        // a body or an image over its limit
	TooMany                         // the rate limit; RetryAfter says when to try again
	KeyRevoked                      // the customer's key is revoked
	Unavailable                     // for a while; RetryAfter says when to try again
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

// Refusal is an error for the caller: its sentence says what was wrong and what to do about it. Every other error of a
// service is internal: its text goes to the log and never to the caller.
type Refusal struct {
	Kind       Kind
	Code       string        // the contract's code, for example "PersonGroupNotFound"
	Message    string        // a sentence a person can act on; never holds secrets or stored data of others
	RetryAfter time.Duration // for TooMany and Unavailable; zero: unknown
	// the inner code: "UnsupportedFeature" in the Face contract §1.5, those of the key vault contract §A8; else empty
	InnerCode string
}

// Error returns the code and the sentence.
func (r *Refusal) Error() string { return r.Code + ": " + r.Message }

// Refuse makes a refusal; format and args make its sentence.
func Refuse(kind Kind, code, format string, args ...any) *Refusal {
	return &Refusal{Kind: kind, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Shortage is the error of a full volume. Its sentence for the caller comes from the store, so that every service
// reports it alike.
type Shortage interface {
	error
	Shortage() string // a sentence a person can act on
}

// Outage is the error of a store that cannot be used for a while: its database does not answer, or takes no writes. Its
// sentence for the caller comes from the store, as that of a Shortage does.
type Outage interface {
	error
	Outage() string // a sentence a person can act on
}
