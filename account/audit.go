package account

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/visage-face/visage"
)

// Auditor keeps what happened to accounts.
type Auditor interface {
	// Record returns when the event is on disk. When it fails the operation fails to its caller, although the change may be stored.
	// It is called concurrently, outside of transactions.
	Record(ctx context.Context, e Event) error
}

// Caller is who asks for a change, and in which request. The zero Caller is the instance by itself.
type Caller struct {
	visage.Principal
	RequestID string
}

// Operation is a change of an account.
type Operation string

// The operations that are audited.
const (
	Created     Operation = "create"
	Updated     Operation = "update"
	Deleted     Operation = "delete"
	Regenerated Operation = "regenerate key"
)

// Event is one change of an account, done or refused.
type Event struct {
	Operation Operation
	Resource  visage.Resource // zero where the change was refused because there is none
	Key       KeyName         // for Regenerated
	By        Caller
	Err       error // nil: it was done
}

// nobody is the Auditor of accounts that are not audited.
type nobody struct{}

func (nobody) Record(context.Context, Event) error { return nil }

// record tells the auditor what became of a change, also when its caller has left, and returns what the caller gets.
func (a *Accounts) record(ctx context.Context, e Event) error {
	if err := a.audit.Record(context.WithoutCancel(ctx), e); err != nil {
		return errors.Join(e.Err, fmt.Errorf("audit: %s resource: %w", e.Operation, err))
	}
	return e.Err
}

// resource returns the account called name as an event speaks of it, zero when there is none.
func (a *Accounts) resource(name string) visage.Resource {
	rec, found := a.index.Load().byName[strings.ToLower(name)]
	if !found {
		return visage.Resource{}
	}
	return rec.account().Resource
}
