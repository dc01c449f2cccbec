package identity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Operation is a change of who there is, or of who may do what.
type Operation string

// The operations that are audited.
const (
	PrincipalMade   Operation = "make principal"
	PrincipalEnded  Operation = "end principal"
	SecretMade      Operation = "make secret"
	SecretEnded     Operation = "end secret"
	SubjectsChanged Operation = "change subjects"
	RoleGiven       Operation = "give role"
	RoleTaken       Operation = "take role"
	RoleEnded       Operation = "end role" // with the thing that it was given on, or with its holder
	SigningKeyMade  Operation = "make signing key"
)

// Event is one change, done or refused. It holds no name that somebody gave, and nothing that proves anybody.
type Event struct {
	// a UUID: events of one change share it, and one that is told again after a crash has the same
	Change     string
	Order      int              // of the events of a change
	Time       int64            // nanoseconds since 1970, UTC
	By         visage.Principal // who asked; zero: the instance by itself
	RequestID  string
	Operation  Operation
	Subject    string // the object id of whom it is about
	Secret     string // the id of a secret
	Assignment string // the id of a role assignment
	Role       string // Role.ID
	Scope      string // where the role is given
	Instance   string // Place.Instance of the scope
	// Before and After are what was true: a role's name, subjects as "ISSUER SUBJECT" with commas between, or how many
	// secrets there were. Empty: nothing.
	Before, After string
}

// Auditor keeps what changed, and who got tokens.
type Auditor interface {
	// Record returns when the event is on disk. outcome nil says that it was done, and is durable; else nothing of it
	// was. An event that could not be kept is told again, after the next change or at the next start.
	Record(ctx context.Context, e Event, outcome error) error
	// Granted is told of each token that somebody outside was given or refused, and returns at once. When it fails, no
	// token is given.
	Granted(ctx context.Context, a Attempt, outcome error) error
}

// Attempt is a request for a token.
type Attempt struct {
	Subject  string // the object id of the identity; empty where there is none
	ClientID string // as it was given
	Audience string // likewise
	Proof    string // "secret", "assertion" or "none"
}

// nobody is the Auditor of a directory that is not audited.
type nobody struct{}

func (nobody) Record(context.Context, Event, error) error    { return nil }
func (nobody) Granted(context.Context, Attempt, error) error { return nil }

// outbox holds the events of changes that are done until they were told: they are written with the change, so that none
// is ever done untold.
var outbox = sealed.NewTable[Event]("identity/outbox", 1)

func (e Event) key() string { return fmt.Sprintf("%s/%d", e.Change, e.Order) }

// power is the one door through which anything changes that says who there is and who may do what. do makes the change
// and tells of each of its parts; about is what a refusal is told as. Nothing is told of what changed nothing.
func (d *Directory) power(ctx context.Context, about Event, do func(tx sealed.Tx, tell func(Event)) error) error {
	caller := visage.CallerFrom(ctx)
	about.Change, about.Time = visage.NewUUID().String(), time.Now().UnixNano()
	about.By, about.RequestID = caller.Principal, caller.RequestID
	d.changes.Lock()
	defer d.changes.Unlock()
	err := d.space.Update(ctx, func(tx sealed.Tx) error {
		order := 0 // the function may run again
		var untold error
		tell := func(e Event) {
			e.Change, e.Time, e.By, e.RequestID, e.Order = about.Change, about.Time, about.By, about.RequestID, order
			order++
			untold = errors.Join(untold, outbox.In().Put(tx, e.key(), e))
		}
		if err := do(tx, tell); err != nil {
			return err
		}
		return cmp.Or(untold, d.keepOwner(tx))
	})
	if err != nil {
		if errors.Is(err, errManaged) { // there is nothing to tell of
			return err
		}
		return errors.Join(err, d.audit.Record(context.WithoutCancel(ctx), about, err))
	}
	ctx = context.WithoutCancel(ctx) // what is stored must show, and be told
	s, err := d.read(ctx)
	if err != nil {
		return err
	}
	d.state.Store(s)
	return d.deliver(ctx)
}

// deliver tells of the changes in the outbox, oldest first, and takes them out of it. The caller holds changes, or is
// alone.
func (d *Directory) deliver(ctx context.Context) error {
	var all []Event
	err := d.space.View(ctx, func(r sealed.Reader) error {
		all = nil // the function may run again
		for e, err := range outbox.In().All(r) {
			if err != nil {
				return err
			}
			all = append(all, e)
		}
		return nil
	})
	if err != nil || len(all) == 0 {
		return err
	}
	slices.SortFunc(all, func(a, b Event) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), strings.Compare(a.Change, b.Change), cmp.Compare(a.Order, b.Order))
	})
	for _, e := range all {
		if err := d.audit.Record(ctx, e, nil); err != nil {
			return fmt.Errorf("audit: %s: %w", e.Operation, err)
		}
	}
	return d.space.Update(ctx, func(tx sealed.Tx) error {
		for _, e := range all {
			if err := outbox.In().Delete(tx, e.key()); err != nil {
				return err
			}
		}
		return nil
	})
}

// keepOwner refuses a change after which nobody is left who could undo it.
func (d *Directory) keepOwner(tx sealed.Tx) error {
	after, err := readState(tx)
	if err != nil {
		return err
	}
	if now := time.Now(); d.owned(d.state.Load(), now) && !d.owned(after, now) {
		return visage.Refuse(visage.Conflict, "LastOwner",
			"This change would leave the subscription without an Owner that can sign in: assign that role to "+
				"another application with a secret first.")
	}
	return nil
}

// owned reports whether somebody who can get a token owns a whole subscription.
func (d *Directory) owned(s *state, now time.Time) bool {
	if s == nil {
		return false
	}
	for _, a := range s.byID {
		rec := s.principals[a.Principal]
		if a.Role != Owner || strings.Count(a.Scope, "/") != 2 || rec.Kind != Application ||
			rec.Tenant != d.cfg.Tenant {
			continue
		}
		live := func(x secretRecord) bool { return now.UnixNano() < x.Expires }
		vouched := func(x Subject) bool { return d.trustedBy(x.Issuer) != nil }
		if slices.ContainsFunc(rec.Secrets, live) || slices.ContainsFunc(rec.Subjects, vouched) {
			return true
		}
	}
	return false
}
