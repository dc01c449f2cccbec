package custody

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// This file carries out the effects of events, which state.On decides. A resource at rest has no goroutine; the
// goroutine that reports an event carries out its effects.
//
// Invariants of each space:
//
//  1. The data is as the state says. A transition, the locking of the data and the renewal of its lease are one step
//     under space.mu, so state and data change in the same order. None of these waits: sealed only moves the fence and
//     ends the lease.
//  2. When Lock or Suspend returns, no operation that starts afterwards succeeds, and the keys are wiped: the fence has
//     moved under mu, and Drain has waited up to 2 s for running operations. Those that run longer fail at the commit.
//  3. No opening overtakes a lock. Loading notes state.LockCount when it begins. sealed reads the fence at that time,
//     and discards the keys if the fence has moved in the end. In between, the unwrapping checks that LockCount is
//     still the same (loadGuard). So LockCount shows a lock before the fence was read, and the fence shows a later
//     one. Therefore loading needs no mutex, and Lock does not wait for it.
//  4. No answer overtakes a command. A question carries the value of state.Round from before it was asked, and On
//     accepts answers of the current round only. Unlock and a change of the watch begin a new round.
//  5. A lock takes effect before it is recorded: the audit entry and the note follow, and the data stays locked if they
//     fail. Only whose refusal it is, of several keys, is stored before it, within noteTimeout (applyRefusal). An
//     unlock is recorded before it takes effect.
//  6. Audit entries and notes are written in the order of the transitions, one at a time. Writing waits for the disk,
//     so mu is not held. The first goroutine writes everything that is queued; the others wait for their entries.
//
// Lock, Unlock, Suspend and Recover hold adminMu until their transitions are made and recorded, so that the one that
// began later counts, in the state and on disk. They release it before they ask a vault or load keys, because Lock must
// not wait for that. It is taken before mu, and Custody.mu before mu too; neither is needed by an answer.

// applyEvent applies an event to a space. If keys are to be loaded, it returns the effect, and the caller loads them.
func (c *Custody) applyEvent(ctx context.Context, sp *space, e event) (load *effect) {
	load, err := c.applyCommand(ctx, sp, e)
	if err != nil { // no record of an answer is required
		c.log.ErrorContext(ctx, "event of a resource's key not recorded", "resource", sp.id.String(), "event",
			string(e.kind), "err", err)
	}
	return load
}

// applyCommand is applyEvent for a command, which can be refused and fails if it cannot be recorded.
func (c *Custody) applyCommand(ctx context.Context, sp *space, e event) (load *effect, err error) {
	sp.mu.Lock()
	t := c.applyEventLocked(sp, e)
	sp.mu.Unlock()
	return t.load, c.runFollowUp(ctx, sp, t)
}

// applyEventLocked makes the transition of an event and carries out the effects that need sp.mu, which is held; the
// others are returned.
func (c *Custody) applyEventLocked(sp *space, e event) *followUp {
	before := sp.state
	next, effects := sp.state.On(e, c.policyLocked(sp), time.Now())
	sp.state = next
	t := &followUp{lockAgain: c.shared && e.kind == lockRequested}
	for i, f := range effects {
		switch f.kind {
		case lockData:
			if sp.stopLoad != nil {
				sp.stopLoad()
			}
			sp.bundle.LockNow(f.why.refusal())
			t.drain = true
			t.lockAll = t.lockAll || c.shared && lockedForAll(before, e, f.why)
		case renewUntil:
			sp.bundle.Renew(f.until)
		case loadKeys:
			t.load = &effects[i]
		case refuse:
			t.refused = true
		case askNow:
			t.ask = true
		case updateWatch:
			t.updateWatch = true
		case askOthersAt:
			t.askOthers = f.until
		case storeNote, auditEvent, logChange, logServing:
			f.known = known{before.LockCause, before.RefusedBy}
			t.records = append(t.records, f)
		}
	}
	if t.records != nil {
		t.done = make(chan struct{})
		sp.queue = append(sp.queue, t)
	}
	return t
}

// runFollowUp carries out the effects of a transition that must not hold mu.
func (c *Custody) runFollowUp(ctx context.Context, sp *space, t *followUp) error {
	if t.lockAll {
		_ = c.lockElsewhere(ctx, sp) // it is logged, and goes on in the background
	}
	if t.drain {
		sp.bundle.Drain()
	}
	if t.updateWatch {
		c.assignWatch(sp)
	}
	if t.ask {
		c.askNow(sp)
	}
	if !t.askOthers.IsZero() {
		c.askOthers(sp, t.askOthers)
	}
	if t.refused {
		return visage.Refuse(visage.Conflict, "CustomerManagedKeyNotEnabled",
			"The resource has no customer-managed key, so it cannot be locked.")
	}
	if t.done == nil {
		return nil
	}
	c.writeQueued(context.WithoutCancel(ctx), sp) // also after the caller has left
	<-t.done
	if t.lockAgain { // a process that found the lock before it was stored has asked the key, and may have opened
		return errors.Join(t.err, c.lockElsewhere(ctx, sp))
	}
	return t.err
}

// writeQueued writes the records of all transitions so far, unless another goroutine is writing: that one writes these
// too.
func (c *Custody) writeQueued(ctx context.Context, sp *space) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.writing {
		return
	}
	sp.writing = true
	for len(sp.queue) > 0 {
		t := sp.queue[0]
		sp.queue = sp.queue[1:]
		sp.mu.Unlock()
		t.err = c.writeRecords(ctx, sp, t.records)
		close(t.done)
		sp.mu.Lock()
	}
	sp.queue, sp.writing = nil, false
}

// writeRecords writes the records of one transition. It stops at the first required record that fails, except for a
// lock, which has taken effect: it is audited even if its note cannot be stored. Failures of other records are logged.
func (c *Custody) writeRecords(ctx context.Context, sp *space, records []effect) (failed error) {
	for _, r := range records {
		var err error
		what := "not audited"
		switch r.kind {
		case logChange:
			c.logChange(ctx, sp, r)
		case logServing:
			c.log.WarnContext(ctx, "another store of a resource serves", "resource", sp.id.String(), "store", r.store)
		case auditEvent:
			key, version := sp.keyOf(r.store)
			err = c.record(ctx, sp, r.audit, r.outcome, key, version, r.details)
		case storeNote:
			what = "state of a resource's key not stored"
			err = c.updateNote(ctx, sp, func(n *note) {
				if r.must || !c.shared { // else another process may have stored a lock that is not known here yet
					n.OwnerLocked = r.ownerLocked
				}
				n.setRefusal(r, c.shared)
			})
			if errors.Is(err, sealed.ErrNoSpace) && !r.must {
				err = nil
			}
			if err != nil && r.ownerLocked && r.must {
				failed = fmt.Errorf("the lock holds only until the next restart: %w", err)
				continue
			}
		}
		if err != nil && r.must {
			return errors.Join(failed, err)
		}
		if err != nil {
			c.log.ErrorContext(ctx, what, "resource", sp.id.String(), "err", err)
		}
	}
	return failed
}

func (c *Custody) logChange(ctx context.Context, sp *space, r effect) {
	if r.text == "" {
		c.log.InfoContext(ctx, "resource opened", "resource", sp.id.String())
		return
	}
	c.log.LogAttrs(ctx, slog.LevelWarn, "resource locked", slog.String("resource", sp.id.String()),
		slog.String("state", string(r.why)), slog.String("reason", r.text))
}

// updateNote changes the note, which is durable when updateNote returns nil. fn may run more than once.
func (c *Custody) updateNote(ctx context.Context, sp *space, fn func(*note)) error {
	if err := c.storeAndAdopt(ctx, sp, fn); err != nil {
		return err
	}
	c.publish(ctx, sp)
	return nil
}

// storeAndAdopt is updateNote without telling other processes, which takes another transaction.
func (c *Custody) storeAndAdopt(ctx context.Context, sp *space, fn func(*note)) error {
	n, keys, err := sp.storeNote(ctx, fn)
	if err != nil {
		return err
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.adoptNoteLocked(n, keys)
	return nil
}

// storeAndApply changes the note as updateNote does, and then applies an event: the change of the note is durable
// before the transition. For load see applyEvent.
func (c *Custody) storeAndApply(ctx context.Context, sp *space, fn func(*note), e event) (load *effect, err error) {
	n, keys, err := sp.storeNote(ctx, fn)
	if err != nil {
		return nil, err
	}
	sp.mu.Lock()
	sp.adoptNoteLocked(n, keys)
	t := c.applyEventLocked(sp, e)
	sp.mu.Unlock()
	c.publish(ctx, sp)
	return t.load, c.runFollowUp(ctx, sp, t)
}

// policy returns the policy of the resource, or else that of the instance.
func (c *Custody) policy(sp *space) Policy {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return c.policyLocked(sp)
}

// policyLocked is policy while sp.mu is held.
func (c *Custody) policyLocked(sp *space) Policy {
	if p := sp.note.Policy; p != nil {
		return *p
	}
	return c.cfg.Policy
}
