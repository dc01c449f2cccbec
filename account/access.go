package account

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// Access manages the access requests for accounts of tier E0, the operator's decisions on them, and the capacity. It
// shares the index and the lock of Accounts, because an account takes the place of a request in the transaction that
// creates the account. It is safe for concurrent use.
type Access struct{ accounts *Accounts }

// Access returns the access requests and the capacity of the instance.
func (a *Accounts) Access() *Access { return &Access{a} }

// Automatic reports whether requests are approved without the operator, as long as there is a place, and E0 accounts
// need none.
func (c *Access) Automatic() bool { return c.accounts.cfg.AutoApprove }

// ApprovedByItself is the note of a request that nobody had to decide.
const ApprovedByItself = "Approved automatically by this instance."

// AccessRequest is a request for one E0 account, whose data may be under a customer-managed key. An approved request
// reserves a place for one account.
type AccessRequest struct {
	ID       string // a UUID
	Name     string // as it was given; unique, ignoring case
	Asked    Asked
	State    RequestState
	Note     string // a sentence about the last decision; may be empty
	Position int    // in the queue, from 1; 0: not queued
	Account  string // the name of the account that has its place, deleted or not; empty: none
	Created  time.Time
	Changed  time.Time
	Revision int64 // rises with every change, from 1
}

// Asked is the content of an access request.
type Asked struct {
	Service string // "Face"
	Region  string // the only location of the account; empty: any
	Contact string // the address for the operator's answer
	Reason  string
}

// RequestState is the state of an access request.
type RequestState string

// The states of an access request.
const (
	RequestSubmitted RequestState = "Submitted" // the operator has not decided
	RequestQueued    RequestState = "Queued"    // granted, and waiting for a place
	RequestApproved  RequestState = "Approved"
	RequestRejected  RequestState = "Rejected"
	RequestWithdrawn RequestState = "Withdrawn"
)

// request is an access request as it is stored, under its name in lower case.
type request struct {
	ID       string
	Name     string
	Asked    Asked
	State    RequestState
	Note     string
	Turn     int64 // the order in the queue, lowest first
	Used     bool  // an account has taken its place
	Created  int64 // nanoseconds since 1970, UTC
	Changed  int64
	Revision int64
}

var requests = sealed.NewTable[request]("account/request", 1)

// The longest texts of an access request, in bytes.
const (
	maxContact = 256
	maxReason  = 4096
	maxNote    = 1024
)

var requestName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}$`)

func (q Asked) check(name string) error {
	switch {
	case !requestName.MatchString(name):
		return visage.Refuse(visage.Invalid, "InvalidResourceName",
			"The name of an access request must have 1 to 64 letters, digits, hyphens, underscores and dots, and "+
				"begin with a letter or digit; got %q.", name)
	case !strings.EqualFold(q.Service, "Face"):
		return visage.Refuse(visage.Invalid, "InvalidRequestContent", "service must be Face; got %q.", q.Service)
	case q.Region != "" && !locationPattern.MatchString(q.Region):
		return visage.Refuse(visage.Invalid, "InvalidRequestContent",
			"region must have 1 to 64 letters, digits, blanks and hyphens, and begin with a letter or digit; got %q.",
			q.Region)
	case q.Contact == "" || len(q.Contact) > maxContact || q.Reason == "" || len(q.Reason) > maxReason:
		return visage.Refuse(visage.Invalid, "InvalidRequestContent",
			"An access request needs contact, of 1 to %d bytes, and reason, of 1 to %d bytes.",
			maxContact, maxReason)
	case !isText(q.Contact), !isText(strings.NewReplacer("\n", "", "\t", "").Replace(q.Reason)):
		return visage.Refuse(visage.Invalid, "InvalidRequestContent",
			"contact and reason must not have control characters; reason may have line breaks.")
	}
	return nil
}

// isText reports whether s has printable characters only, so that a terminal shows it without side effects.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Submit submits an access request. With automatic approval it is approved or queued at once. Refusals:
// InvalidResourceName, InvalidRequestContent; AccessRequestAlreadyExists if a request of that name is submitted, queued
// or approved.
func (c *Access) Submit(ctx context.Context, by visage.Caller, name string, asked Asked) (AccessRequest, error) {
	return c.decide(ctx, audit.RequestSubmit, by, name, func(x *index, old request, found bool) (request, error) {
		if err := asked.check(name); err != nil {
			return request{}, err
		}
		over := old.State == RequestRejected || old.State == RequestWithdrawn
		if found && !over {
			return request{}, visage.Refuse(visage.Conflict, "AccessRequestAlreadyExists",
				"The access request %q already exists and is %s: withdraw it first.", old.Name,
				strings.ToLower(string(old.State)))
		}
		asked.Service = "Face"
		fresh := request{
			ID:   visage.NewUUID().String(),
			Name: name, Asked: asked, State: RequestSubmitted, Created: time.Now().UnixNano(),
			Revision: old.Revision,
		}
		if c.accounts.cfg.AutoApprove {
			return x.grant(fresh, ApprovedByItself), nil
		}
		return fresh, nil
	})
}

// Approve grants a request: it is approved if there is a place, and otherwise queued behind earlier requests. Approved
// and queued requests stay as they are. Refusals: AccessRequestNotFound; AccessRequestStateInvalid for a withdrawn
// request.
func (c *Access) Approve(ctx context.Context, by visage.Caller, name string) (AccessRequest, error) {
	return c.decide(ctx, audit.RequestApprove, by, name, existing(name, func(x *index, r request) (request, error) {
		switch r.State {
		case RequestApproved, RequestQueued:
			return r, nil
		case RequestWithdrawn:
			return request{}, r.refuse("approved")
		}
		return x.grant(r, ""), nil
	}))
}

// Reject rejects a request, also an approved one. Existing accounts stay, but can no longer enable a customer-managed
// key because of it. note is the reason, of at most 1,024 bytes. Refusals: as Approve.
func (c *Access) Reject(ctx context.Context, by visage.Caller, name, note string) (AccessRequest, error) {
	return c.decide(ctx, audit.RequestReject, by, name, existing(name, func(_ *index, r request) (request, error) {
		if r.State == RequestWithdrawn {
			return request{}, r.refuse("rejected")
		}
		if len(note) > maxNote || !isText(note) {
			return request{}, visage.Refuse(visage.Invalid, "InvalidRequestContent",
				"The reason is longer than %d bytes, or has control characters.", maxNote)
		}
		r.State, r.Note = RequestRejected, note
		return r, nil
	}))
}

// Withdraw withdraws a request, also an approved one. Refusals: AccessRequestNotFound; AccessRequestStateInvalid for a
// rejected request.
func (c *Access) Withdraw(ctx context.Context, by visage.Caller, name string) (AccessRequest, error) {
	return c.decide(ctx, audit.RequestWithdraw, by, name, existing(name, func(_ *index, r request) (request, error) {
		if r.State == RequestRejected {
			return request{}, r.refuse("withdrawn")
		}
		r.State, r.Note = RequestWithdrawn, ""
		return r, nil
	}))
}

func (r request) refuse(what string) error {
	return visage.Refuse(visage.Conflict, "AccessRequestStateInvalid",
		"The access request %q is %s and cannot be %s: submit it again.",
		r.Name, strings.ToLower(string(r.State)), what)
}

func refuseRequest(name string) error {
	return visage.Refuse(visage.NotFound, "AccessRequestNotFound", "There is no access request %q.", name)
}

// decision returns the new state of a request; old is the present one, if it was found.
type decision func(x *index, old request, found bool) (request, error)

// existing is a decision on a request that must exist.
func existing(name string, on func(*index, request) (request, error)) decision {
	return func(x *index, old request, found bool) (request, error) {
		if !found {
			return request{}, refuseRequest(name)
		}
		return on(x, old)
	}
}

// decide changes a request, approves queued requests for which that makes space, and records all of it.
func (c *Access) decide(
	ctx context.Context, kind audit.Kind, by visage.Caller, name string, on decision,
) (AccessRequest, error) {
	a := c.accounts
	a.changes.Lock()
	var old, decided request
	e := event(kind, by)
	promoted, err := a.keep(ctx, func(x *index) (request, capacityRecord, error) {
		var found bool
		old, found = x.requests[strings.ToLower(name)]
		var err error
		if decided, err = on(x, old, found); err == nil && decided == old {
			err = errAsItIs
		}
		return decided, x.capacity, err
	})
	a.changes.Unlock()
	if err != nil {
		old.describe(&e)
		return AccessRequest{}, a.record(ctx, e, err)
	}
	answer, err := c.Request(ctx, name)
	if err != nil {
		return AccessRequest{}, err
	}
	decided.State = answer.State // it may have been approved at once
	decided.describe(&e)
	if err := a.record(ctx, e, nil); err != nil {
		return AccessRequest{}, err
	}
	others := slices.DeleteFunc(promoted, func(r request) bool { return r.ID == decided.ID })
	return answer, a.recordPromoted(ctx, others)
}

// keeping is a decision on a request, if it has an id, and on the capacity.
type keeping func(x *index) (request, capacityRecord, error)

// asItIs changes neither a request nor the capacity, so that keep approves those requests for which there is a place.
func asItIs(x *index) (request, capacityRecord, error) { return request{}, x.capacity, nil }

// errAsItIs is for a keeping: nothing is to be stored.
var errAsItIs = errors.New("nothing has changed")

// keep stores a request and the capacity, approves queued requests for which there is a place then, and replaces the
// index. It returns the requests that it approved or withdrew. decide may run more than once.
func (a *Accounts) keep(ctx context.Context, decide keeping) (moved []request, err error) {
	err = a.repeat(ctx, func(x *index) error {
		r, c, err := decide(x)
		if err != nil {
			return err
		}
		moved = x.with(r, c).settle()
		now := time.Now().UnixNano()
		err = a.storeIf(ctx, x, func(tx sealed.Tx) error {
			all := moved
			if r.ID != "" && !slices.ContainsFunc(moved, func(m request) bool { return m.ID == r.ID }) {
				all = append(slices.Clone(moved), r)
			}
			for _, one := range all {
				one.Changed = now
				one.Revision++
				if err := requests.In().Put(tx, strings.ToLower(one.Name), one); err != nil {
					return err
				}
			}
			return capacities.In().Put(tx, theCapacity, c)
		})
		if err != nil {
			return fmt.Errorf("change access request: %w", err)
		}
		return nil
	})
	switch {
	case errors.Is(err, errAsItIs):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return moved, nil
}

// recordPromoted records requests that were approved from the queue, or withdrawn to make room, by the service itself.
func (a *Accounts) recordPromoted(ctx context.Context, all []request) error {
	for _, r := range all {
		e := event(audit.RequestApprove, visage.Caller{})
		if r.State == RequestWithdrawn {
			e.Kind = audit.RequestWithdraw
		}
		r.describe(&e)
		if err := a.record(ctx, e, nil); err != nil {
			return err
		}
	}
	return nil
}

// Request returns the request called name, in any case. Refusal: AccessRequestNotFound.
func (c *Access) Request(ctx context.Context, name string) (AccessRequest, error) {
	told, found := lookup(ctx, c.accounts, func(x *index) (AccessRequest, bool) {
		r, found := x.requests[strings.ToLower(name)]
		return x.told(r), found
	})
	if !found {
		return AccessRequest{}, refuseRequest(name)
	}
	return told, nil
}

// Requests returns all requests, oldest first.
func (c *Access) Requests(context.Context) ([]AccessRequest, error) {
	x := c.accounts.index.Now()
	all := make([]AccessRequest, 0, len(x.requests))
	for _, r := range x.requests {
		all = append(all, x.told(r))
	}
	slices.SortFunc(all, func(a, b AccessRequest) int { return a.Created.Compare(b.Created) })
	return all, nil
}

// told returns a request as clients see it.
func (x *index) told(r request) AccessRequest {
	t := AccessRequest{
		ID: r.ID, Name: r.Name, Asked: r.Asked, State: r.State, Note: r.Note, Created: fromNanos(r.Created),
		Changed: fromNanos(r.Changed), Revision: r.Revision,
	}
	if holder, found := x.holders()[r.ID]; found {
		t.Account = holder.Name
	}
	t.Position = 1 + slices.IndexFunc(x.queue(), func(q request) bool { return q.ID == r.ID })
	return t
}
