package audit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/visage-face/visage"
)

// Recorder is the audit log as the rooms use it: each makes its own events, with the kinds and details of this package,
// and hands them to the one Recorder of the instance. *Log is the one that writes. All methods may be called at the
// same time, but not within a transaction of the store, for which Append would wait.
//
// Rooms need three promises, and this is where they are kept:
//
//   - Written before the answer. Append returns when the events are on disk. A room withholds its answer until then, a
//     result such as an unwrapped key included, and the operation fails when Append does: see Answer. For uses of keys,
//     and for changes of resources, keys and rights.
//   - Never done without an entry. Append may fail, or the process may end, after a change is stored. A room that
//     changes rights (identity, keyvault) stores the event in the same transaction as the change, in a table of its
//     own, and removes it when Append has succeeded. What is left is appended again: by keyvault within a minute, by
//     identity after its next change, by both at the next start. An entry may therefore be in the log twice, with the
//     same DetailChange.
//   - Recorded at once, and bounded. Tally never waits for the disk and never fails because of it, so that signing in
//     does not depend on free disk space, and it writes few entries however many events come. For what others can
//     repeat without end: tokens, and refusals of callers without rights.
//
// What the sealed store reports from within its own transactions goes to Log.Note, which does not wait either.
type Recorder interface {
	// Append writes events in one transaction, in their order, and returns when they are on disk. When it fails, the
	// operation must fail. An error leaves open whether the entries were written, except when ctx had ended before. An
	// event of an unknown kind, outcome or detail is an error, and a bug of the caller.
	Append(ctx context.Context, events ...Event) error
	// Tally counts an event together with those that differ from it in nothing but time and request, and returns at
	// once. The first of such a run has an entry of its own; the others are written as their number (DetailCount), at
	// intervals that grow from a minute to an hour. Its only error is a bug of the caller, as that of Append.
	Tally(ctx context.Context, e Event) error
}

// Placer is a Recorder that tells where an entry is in the log, for callers that want the proof of it. *Log is one.
type Placer interface {
	Recorder
	// Place is Append of one event, and returns the sequence number of its entry.
	Place(ctx context.Context, e Event) (sequence uint64, err error)
}

// Discard is a Recorder that keeps nothing.
type Discard struct{}

// Append does nothing.
func (Discard) Append(context.Context, ...Event) error { return nil }

// Tally does nothing.
func (Discard) Tally(context.Context, Event) error { return nil }

// Answer appends the events of an operation that ended with err, even if its caller has left, and returns the error
// that the caller gets: err, joined with what kept the events from the disk.
func Answer(ctx context.Context, r Recorder, err error, events ...Event) error {
	if failed := r.Append(context.WithoutCancel(ctx), events...); failed != nil {
		return errors.Join(err, fmt.Errorf("audit: %w", failed))
	}
	return err
}

// Ended returns the event with the outcome of an operation that ended with err: Done, Refused with the code of the
// refusal, or Failed.
func (e Event) Ended(err error) Event {
	e.Outcome, e.Code = Done, ""
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok {
		e.Outcome, e.Code = Refused, refusal.Code
	} else if err != nil {
		e.Outcome = Failed
	}
	return e
}

// Set adds a detail, unless its value is empty.
func (e *Event) Set(d Detail, value string) {
	if value == "" {
		return
	}
	if e.Details == nil {
		e.Details = map[Detail]string{}
	}
	e.Details[d] = value
}

// SetChange adds what was true before and after a change, unless both are empty. One that is empty is written as
// "none".
func (e *Event) SetChange(before, after string) {
	if before == "" && after == "" {
		return
	}
	const none = "none"
	if before == "" {
		before = none
	}
	if after == "" {
		after = none
	}
	e.Set(DetailBefore, before)
	e.Set(DetailAfter, after)
}

// SetAddress adds the address that a request came from; of an IPv6 address the first 64 bits, since a client can have
// all addresses of such a network.
func (e *Event) SetAddress(from netip.Addr) {
	if !from.IsValid() {
		return
	}
	if from = from.Unmap(); from.Is6() {
		e.Set(DetailAddress, netip.PrefixFrom(from.WithZone(""), 64).Masked().String())
		return
	}
	e.Set(DetailAddress, from.String())
}

// SetKey adds the customer's key that the event is about, unless it is zero.
func (e *Event) SetKey(key visage.KeyRef) {
	if key != (visage.KeyRef{}) {
		e.KeyID, e.KeyVersion = key.Unversioned(), key.Version
	}
}
