package identity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// change is one change of identities or of rights, on its way to the audit log. It is stored in the outbox, so its
// fields and the values of operation are a stored format. It holds no name that somebody gave, and no credential.
type change struct {
	Change     string           // a UUID that the parts of a change share; the same if it is delivered twice
	Order      int              // among the parts of the change
	Time       int64            // nanoseconds since 1970, UTC
	By         visage.Principal // of the caller; zero: the instance by itself
	RequestID  string
	Operation  operation
	Subject    string // the object id of the identity
	Secret     string // the id of a secret
	Assignment string // the id of a role assignment
	Role       string // Role.ID
	Scope      string // of the role
	Instance   string // Place.Instance of the scope
	// Before and After are what was true: a role's name, subjects as "ISSUER SUBJECT" separated by commas, or the
	// expiry of a secret. Empty: nothing.
	Before, After string
	Session       string // the id of a session
	How           string // how a session was opened, proved or ended: the operation in the audit log
	Address       string // that a session was opened from
}

// operation is a kind of change.
type operation string

const (
	principalMade   operation = "make principal"
	principalEnded  operation = "end principal"
	secretMade      operation = "make secret"
	secretEnded     operation = "end secret"
	subjectsChanged operation = "change subjects"
	roleGiven       operation = "give role"
	roleTaken       operation = "take role"
	roleEnded       operation = "end role" // because its scope or its holder was deleted
	personMade      operation = "make person"
	personChanged   operation = "change person"
	personEnded     operation = "end person"
	codeMade        operation = "make code"
	invitationMade  operation = "make invitation"
	passkeyAdded    operation = "add passkey"
	passkeyRemoved  operation = "remove passkey"
	sessionOpened   operation = "open session"
	sessionProved   operation = "prove session"
	sessionEnded    operation = "end session"
)

// entry has the kind and the operation under which a change is in the audit log.
var entry = map[operation]struct {
	kind      audit.Kind
	operation string
}{
	principalMade:   {audit.IdentityCreate, "principal"},
	principalEnded:  {audit.IdentityDelete, "principal"},
	secretMade:      {audit.IdentityCreate, "secret"},
	secretEnded:     {audit.IdentityDelete, "secret"},
	subjectsChanged: {audit.IdentityCreate, "federated-subjects"},
	roleGiven:       {audit.IdentityRole, "assign"},
	roleTaken:       {audit.IdentityRole, "unassign"},
	roleEnded:       {audit.IdentityRole, "end"},
	personMade:      {audit.IdentityCreate, "person"},
	personChanged:   {audit.IdentityUpdate, "person"},
	personEnded:     {audit.IdentityDelete, "person"},
	codeMade:        {audit.IdentityCreate, "sign-in-address"},
	invitationMade:  {audit.IdentityCreate, "invitation"},
	passkeyAdded:    {audit.IdentityCreate, "passkey"},
	passkeyRemoved:  {audit.IdentityDelete, "passkey"},
	sessionOpened:   {audit.SessionOpen, ""}, // the operation is change.How
	sessionProved:   {audit.SessionProve, ""},
	sessionEnded:    {audit.SessionEnd, ""},
}

// faceResources is what the scopes of Face resources have in common.
const faceResources = "/providers/microsoft.cognitiveservices/accounts/"

// event returns the change as the audit log has it, as done.
func (c change) event() audit.Event {
	e := audit.Event{
		Time: time.Unix(0, c.Time), Kind: entry[c.Operation].kind, Outcome: audit.Done, RequestID: c.RequestID,
		Actor: audit.ActorOf(visage.Caller{Principal: c.By, RequestID: c.RequestID}),
	}
	e.Set(audit.DetailOperation, cmp.Or(c.How, entry[c.Operation].operation))
	e.Set(audit.DetailChange, c.Change)
	e.Set(audit.DetailSubject, c.Subject)
	e.Set(audit.DetailSecret, c.Secret)
	e.Set(audit.DetailAssignment, c.Assignment)
	e.Set(audit.DetailRole, c.Role)
	e.Set(audit.DetailScope, c.Scope)
	e.SetChange(c.Before, c.After)
	e.Set(audit.DetailSession, c.Session)
	if from, err := netip.ParseAddr(c.Address); err == nil {
		e.SetAddress(from)
	}
	if strings.Contains(c.Scope, faceResources) {
		if id, err := visage.ParseResourceID(c.Instance); err == nil {
			e.Resource = id // so that the owner of the resource can read the entry
		}
	}
	return e
}

// outbox holds changes until they are in the audit log. They are written in the transaction of the change, so that no
// change is ever done without an entry.
var outbox = sealed.NewTable[change]("identity/outbox", 1)

func (c change) key() string { return fmt.Sprintf("%s/%d", c.Change, c.Order) }

// changeRights makes a change of identities or rights; nothing else may make one. do makes the change and calls tell
// for each of its parts; about describes the change if it is refused. A change without parts has no entry.
func (d *Directory) changeRights(
	ctx context.Context, about change, do func(tx sealed.Tx, tell func(change)) error,
) error {
	d.changes.Lock()
	defer d.changes.Unlock()
	return d.record(ctx, about, func(ctx context.Context, write func(sealed.Tx) error) error {
		return d.state.Update(ctx, func(tx sealed.Tx, _ *state) error { return write(tx) })
	}, func(tx sealed.Tx, tell func(change)) error {
		if err := do(tx, tell); err != nil {
			return err
		}
		return d.keepOwner(tx)
	})
}

// changeVisits makes a change of sessions or codes. The caller holds changes.
func (d *Directory) changeVisits(
	ctx context.Context, about change, do func(tx sealed.Tx, tell func(change)) error,
) error {
	return d.record(ctx, about, func(ctx context.Context, write func(sealed.Tx) error) error {
		return d.visits.Update(ctx, func(tx sealed.Tx, _ visits) error { return write(tx) })
	}, do)
}

// record makes a change with update, which runs a transaction and has it take effect, and sees to it that its parts get
// into the audit log. The caller of record holds changes.
func (d *Directory) record(
	ctx context.Context, about change, update func(context.Context, func(sealed.Tx) error) error,
	do func(tx sealed.Tx, tell func(change)) error,
) error {
	d.state.Now() // compares it with the store, if that is due, before the transaction and not within it
	caller := visage.CallerFrom(ctx)
	about.Change, about.Time, about.RequestID = visage.NewUUID().String(), time.Now().UnixNano(), caller.RequestID
	if about.By == (visage.Principal{}) {
		about.By = caller.Principal
	}
	err := update(ctx, func(tx sealed.Tx) error {
		order := 0 // the function may run again
		var failed error
		tell := func(c change) {
			c.Change, c.Time, c.By, c.RequestID, c.Order = about.Change, about.Time, about.By, about.RequestID, order
			order++
			failed = errors.Join(failed, outbox.In().Put(tx, c.key(), c))
		}
		err := do(tx, tell)
		return cmp.Or(err, failed)
	})
	if errors.Is(err, errManaged) { // nothing was changed, and nothing refused
		return err
	}
	if err != nil {
		return audit.Answer(ctx, d.cfg.Audit, err, about.event().Ended(err))
	}
	return d.deliver(context.WithoutCancel(ctx), about.Change)
}

// deliverAfter is when a process delivers what another one has left in the outbox: that one has ended, or it would be
// delivered.
const deliverAfter = time.Minute

// deliver appends the changes in the outbox to the audit log, oldest first, and removes them from it: one change, and
// those that a failure or a crash has left.
func (d *Directory) deliver(ctx context.Context, one string) error {
	var all []change
	left := time.Now().Add(-deliverAfter).UnixNano()
	err := d.space.View(ctx, func(r sealed.Reader) error {
		all = nil // the function may run again
		for c, err := range outbox.In().All(r) {
			if err != nil {
				return err
			}
			if c.Change == one || !d.cfg.Store.Shared() || c.Time < left {
				all = append(all, c)
			}
		}
		return nil
	})
	if err != nil || len(all) == 0 {
		return err
	}
	slices.SortFunc(all, func(a, b change) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), strings.Compare(a.Change, b.Change), cmp.Compare(a.Order, b.Order))
	})
	events := make([]audit.Event, len(all))
	for i, c := range all {
		events[i] = c.event()
	}
	if err := d.cfg.Audit.Append(ctx, events...); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return d.space.Update(ctx, func(tx sealed.Tx) error {
		for _, c := range all {
			err := outbox.In().Delete(tx, c.key())
			if err != nil && !errors.Is(err, sealed.ErrNotFound) { // not found: two processes have delivered it
				return err
			}
		}
		return nil
	})
}

// keepOwner refuses a change after which no identity is left that could undo it.
func (d *Directory) keepOwner(tx sealed.Tx) error {
	after, err := readState(tx)
	if err != nil {
		return err
	}
	if now := time.Now(); d.owned(d.state.Now(), now) && !d.owned(after, now) {
		return visage.Refuse(visage.Conflict, "LastOwner",
			"This change would leave the subscription without an Owner that can sign in: assign that role to "+
				"another application with a secret first.")
	}
	return nil
}

// owned reports whether an identity that can get a token owns a whole subscription.
func (d *Directory) owned(s *state, now time.Time) bool {
	if s == nil {
		return false
	}
	for _, a := range s.byID {
		rec := s.principals[a.Principal]
		if a.Role != Owner || !isSubscription(a.Scope) || rec.Kind != Application ||
			rec.Tenant != d.cfg.Tenant {
			continue
		}
		live := func(x secretRecord) bool { return now.UnixNano() < x.Expires }
		vouched := func(x Subject) bool { return !x.Group && d.trustedBy(x.Issuer) != nil }
		if slices.ContainsFunc(rec.Secrets, live) || slices.ContainsFunc(rec.Subjects, vouched) {
			return true
		}
	}
	return false
}
