package keyvault

import (
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

// event is one operation on a vault or key, before it becomes entries of the audit log. Events of operations that
// change access are stored in the outbox, so its fields are a stored format.
type event struct {
	Time      time.Time
	Operation string // object and verb, for example KeyWrap, VaultPatch (key vault contract §A9)
	Vault     string // the vault's name
	KeyID     string // the identifier of the key, with the version that was used if there is one; empty for vaults
	Who       storedCaller
	Outcome   string   // "Success": only what was done is stored
	Access    []access // the changes of access that the operation made or, if it was refused, would have made
	Change    string   // an id of the change, if Access is not empty: an event that is delivered twice has the same
}

// storedCaller is a caller as events are stored with it.
type storedCaller struct {
	ObjectID, AppID, Tenant, RequestID string
	From                               netip.Addr
	Service, Manager                   bool
	Method                             string // empty in events of earlier builds
	Name                               string `cbor:",omitempty"`
}

func storable(c visage.Caller) storedCaller {
	return storedCaller{
		ObjectID: c.ObjectID, AppID: c.AppID, Tenant: c.Tenant, RequestID: c.RequestID, From: c.Address,
		Service: c.Service, Manager: c.Manager, Method: c.Method, Name: c.Name,
	}
}

// actor is the caller as the audit log names it.
func (c storedCaller) actor() audit.Actor {
	if c.Method == "" && c.ObjectID != "" {
		c.Method = "token"
	}
	return audit.ActorOf(visage.Caller{
		Principal: visage.Principal{Method: c.Method, ObjectID: c.ObjectID, Name: c.Name}, RequestID: c.RequestID,
	})
}

// audited runs do and appends its event to the audit log. The result of do is withheld until the entry is on disk, and
// the operation fails when it cannot be written: no key is used without an entry. A change is durable by then, and
// stays. do may complete the event.
func (s *Service) audited(ctx context.Context, e event, do func(e *event) error) error {
	defer func() {
		if e.Change != "" {
			s.delivering.Delete(e.Change)
			s.wake() // Run may have looked meanwhile, and left an event alone that is still to be delivered
		}
	}()
	err := do(&e)
	if isRefusal(err) {
		err = recorded{err}
	}
	e.Time = time.Now()
	entries := s.entries(e, err)
	if last := entries[len(entries)-1]; repeatable[last.Code] && len(entries) == 1 {
		return errors.Join(err, s.cfg.Audit.Tally(context.WithoutCancel(ctx), last))
	}
	if answer := audit.Answer(ctx, s.cfg.Audit, err, entries...); answer != nil || e.Change == "" {
		return answer
	}
	return s.delivered(context.WithoutCancel(ctx), e)
}

// recorded is the refusal of an operation that has an entry in the audit log.
type recorded struct{ error }

// Unwrap returns the refusal.
func (r recorded) Unwrap() error { return r.error }

// Recorded reports whether an error is the refusal of a vault that the vault itself has written into the audit log.
func Recorded(err error) bool {
	_, is := errors.AsType[recorded](err)
	return is
}

// repeatable has the codes of the refusals that any identity can cause without end, even one without rights in any
// vault. They are counted, so that they cannot fill the disk.
var repeatable = map[string]bool{
	"AccessDenied": true, "ForbiddenByRbac": true, "ForbiddenByConnection": true, "ForbiddenByFirewall": true,
	"VaultNotFound": true,
}

// entries returns the audit events of an operation that ended with err: one for each change of access, then the
// operation itself.
func (s *Service) entries(e event, err error) []audit.Event {
	operation := audit.Event{
		Time: e.Time, Kind: audit.VaultOperation, Actor: e.Who.actor(), RequestID: e.Who.RequestID,
	}.Ended(err)
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.InnerCode != "" {
		operation.Code = refusal.InnerCode
	}
	operation.KeyID, operation.KeyVersion = cutVersion(e.KeyID)
	details := func(entry *audit.Event) {
		entry.Set(audit.DetailOperation, e.Operation)
		entry.Set(audit.DetailVault, e.Vault)
		entry.Set(audit.DetailChange, e.Change)
	}
	if len(e.Access) > 0 && e.Change == "" { // it was refused
		e.Change = visage.NewUUID().String()
	}
	var all []audit.Event
	for _, a := range e.Access {
		change := operation
		change.Kind = audit.VaultAccess
		details(&change)
		change.Set(audit.DetailScope, s.cfg.Scope(e.Vault))
		change.Set(audit.DetailSubject, a.ObjectID)
		change.Set(audit.DetailClient, a.AppID)
		change.SetChange(a.Before, a.After)
		all = append(all, change)
	}
	details(&operation)
	return append(all, operation)
}

// cutVersion splits the identifier of a key, https://HOST/keys/NAME[/VERSION], into the key and the version.
func cutVersion(id string) (key, version string) {
	_, path, found := strings.Cut(id, "/keys/")
	if !found {
		return id, ""
	}
	if _, version, found = strings.Cut(path, "/"); !found {
		return id, ""
	}
	return strings.TrimSuffix(id, "/"+version), version
}

// outbox holds the events of changes of access until they are in the audit log. They are written in the transaction of
// the change, so that no change is ever done without an entry.
var outbox = sealed.NewTable[event]("keyvault/untold", 1)

// enqueue puts an event that changes access into the outbox.
func (s *Service) enqueue(tx sealed.Tx, e *event) error {
	if len(e.Access) == 0 {
		return nil
	}
	if e.Change == "" { // the transaction may run again
		e.Change, e.Time = newVersion(), time.Now()
		s.delivering.Store(e.Change, true)
	}
	done := *e
	done.Outcome = "Success"
	return outbox.In().Put(tx, e.Change, done)
}

// delivered removes an event from the outbox.
func (s *Service) delivered(ctx context.Context, e event) error {
	err := s.space.Update(ctx, func(tx sealed.Tx) error { return outbox.In().Delete(tx, e.Change) })
	if errors.Is(err, sealed.ErrNotFound) { // two processes have delivered it
		err = nil
	}
	return wrap("remove a delivered event", err)
}

// deliverAfter is when an event of another process is delivered: that one has ended, or it would have done so.
const deliverAfter = time.Minute

// deliver appends the events to the audit log that a crash or a full disk has kept in the outbox, oldest first.
func (s *Service) deliver(ctx context.Context) error {
	var rest []event
	err := s.space.View(ctx, func(r sealed.Reader) error {
		rest = nil // the function may run again
		for e, err := range outbox.In().All(r) {
			if err != nil {
				return err
			}
			rest = append(rest, e)
		}
		return nil
	})
	if err != nil || len(rest) == 0 {
		return wrap("read events for the audit log", err)
	}
	slices.SortFunc(rest, func(a, b event) int { return a.Time.Compare(b.Time) })
	for _, e := range rest {
		if _, now := s.delivering.Load(e.Change); now || s.cfg.Store.Shared() && time.Since(e.Time) < deliverAfter {
			continue // the operation itself is about to append it
		}
		if err := s.cfg.Audit.Append(ctx, s.entries(e, nil)...); err != nil {
			return fmt.Errorf("audit %s: %w", e.Operation, err)
		}
		if err := s.delivered(ctx, e); err != nil {
			return err
		}
	}
	return nil
}
