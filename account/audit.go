package account

import (
	"context"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
)

// event begins the audit event of something that a caller does.
func event(kind audit.Kind, by visage.Caller) audit.Event {
	return audit.Event{Kind: kind, Actor: audit.ActorOf(by), RequestID: by.RequestID}
}

// eventAt is event for the account called name, also a deleted one. If there is none, the event is without a resource.
func (a *Accounts) eventAt(kind audit.Kind, by visage.Caller, name string) audit.Event {
	e := event(kind, by)
	if found, ok := a.Find(name); ok {
		found.describe(&e)
	}
	return e
}

// action is eventAt for an action of the operator.
func (a *Accounts) action(operation string, by visage.Caller, name string) audit.Event {
	e := a.eventAt(audit.OperatorAction, by, name)
	e.Set(audit.DetailOperation, operation)
	return e
}

// describe makes an event one about the account.
func (a Account) describe(e *audit.Event) {
	e.Resource = a.ID
	e.Set(audit.DetailTier, string(a.Tier))
	e.Set(audit.DetailRegion, visage.FoldLocation(a.Location))
}

// describe makes an event one about the access request.
func (r request) describe(e *audit.Event) {
	e.Set(audit.DetailSubject, r.ID)
	e.Set(audit.DetailState, strings.ToLower(string(r.State)))
	e.Set(audit.DetailRegion, visage.FoldLocation(r.Asked.Region))
}

// record appends what became of an operation to the audit log, and returns the error for its caller: the operation
// fails if it cannot be recorded, although a change may be stored. It must not be called while changes is held.
func (a *Accounts) record(ctx context.Context, e audit.Event, err error) error {
	return audit.Answer(ctx, a.cfg.Audit, err, e.Ended(err))
}

// recorded is record for what do does.
func (a *Accounts) recorded(ctx context.Context, e audit.Event, do func() error) error {
	return a.record(ctx, e, do())
}
