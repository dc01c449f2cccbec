package account

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/visage-face/visage"
)

// Auditor keeps what happened to accounts and access requests.
type Auditor interface {
	// Record returns when the event is on disk. When it fails the operation fails to its caller, although the change
	// may be stored. It is called concurrently, outside of transactions.
	Record(ctx context.Context, e Event) error
}

// Operation is something that is done to an account or an access request.
type Operation string

// The operations that are audited.
const (
	Created     Operation = "create"
	Updated     Operation = "update"
	Deleted     Operation = "delete"
	Recovered   Operation = "recover"
	Purged      Operation = "purge"
	KeysListed  Operation = "list keys"
	Regenerated Operation = "regenerate key"
	Locked      Operation = "lock"
	Unlocked    Operation = "unlock"
	PolicySet   Operation = "set key policy"

	Submitted   Operation = "submit"
	Approved    Operation = "approve" // also of what waits for space from then on, see Event.State
	Rejected    Operation = "reject"
	Withdrawn   Operation = "withdraw"
	CapacitySet Operation = "set capacity"
)

// Event is one change of an account or an access request, done or refused.
type Event struct {
	Operation Operation
	Resource  visage.Resource // zero where the change was refused because there is none, and for requests
	Key       KeyName         // for Regenerated
	// for Updated: the customer's key that shall hold the data from then on; zero: nothing was said
	Under   visage.KeyRef
	Request string       // the id of an access request; empty where there is none
	State   RequestState // of the request after it
	By      visage.Caller
	Err     error // nil: it was done
}

// nobody is the Auditor of accounts that are not audited.
type nobody struct{}

func (nobody) Record(context.Context, Event) error { return nil }

// record tells the auditor what became of a change, also when its caller has left, and returns what the caller gets.
func (a *Accounts) record(ctx context.Context, e Event) error {
	if err := a.audit.Record(context.WithoutCancel(ctx), e); err != nil {
		return errors.Join(e.Err, fmt.Errorf("audit: %s: %w", e.Operation, err))
	}
	return e.Err
}

// recordedAt does something to the account called name and tells the auditor.
func (a *Accounts) recordedAt(ctx context.Context, op Operation, by visage.Caller, name string, do func() error) error {
	e := Event{Operation: op, Resource: a.resource(name), By: by}
	e.Err = do()
	return a.record(ctx, e)
}

// resource returns the account called name, also a deleted one, as an event speaks of it; zero when there is none.
func (a *Accounts) resource(name string) visage.Resource {
	x := a.index.Load()
	rec, found := x.byName[strings.ToLower(name)]
	if !found {
		rec, found = x.gone[strings.ToLower(name)]
	}
	if !found {
		return visage.Resource{}
	}
	return rec.account().Resource
}
