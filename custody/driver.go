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

// The driver of the states. state.On decides what follows from an event; this file does it. There is no goroutine for a
// resource at rest: whoever brings an event drives.
//
// What holds, for each space by itself:
//
//  1. The data is as the state says. A transition, the locking of the data and the renewal of its lease are one step
//     under space.mu, so they come in one order for both. None of them waits for anything: sealed moves the fence and
//     ends the lease, and that is all.
//  2. When Lock or Suspend returns, no operation that starts afterwards succeeds, and the keys are wiped: the fence has
//     moved under mu, and Drain has waited for those inside, 2 s at most. Who is inside longer fails at the commit.
//  3. No opening outruns a lock. It begins with the number of locks so far, state.Locks. sealed reads its fence when
//     the loading begins, and takes no keys when it has moved in the end; the unwrapping that the loading needs asks in
//     between whether the number is still the same (overtakable). So a lock before the fence was read is seen by the
//     number, and one after it by the fence. That is why loading needs no mutex, and Lock does not wait for it.
//  4. No answer outruns a command. A question carries state.Turn from before it was asked, and On takes answers of the
//     current turn only. Unlock and another watch begin a new one.
//  5. Locking comes first and is told afterwards: the audit entry and the note follow when the data is locked, and a
//     failure of theirs leaves it locked. Opening by a command is told first: Unlock's entry and note are on disk
//     before its transition is made.
//  6. Entries and notes are written in the order of the transitions, one after the other. They wait for a disk, so mu
//     is not held; whoever finds nobody writing writes all that there is, and the others wait for theirs.
//
// Lock, Unlock, Suspend and Resume hold adminMu until their transitions are made and recorded, so that the one that
// began later counts, in the state and on disk. They release it before they ask a vault or load keys, because Lock must
// not wait for that. It is taken before mu, and Custody.mu before mu too; neither is needed by an answer.

// apply has an event happen to a space. It returns the loading of keys that follows, if one does; the caller begins it.
func (c *Custody) apply(ctx context.Context, sp *space, e event) (load *effect) {
	load, err := c.command(ctx, sp, e)
	if err != nil { // no record of an answer must be written
		c.log.ErrorContext(ctx, "event of a resource's key not kept", "resource", sp.id.String(), "event",
			string(e.kind), "err", err)
	}
	return load
}

// command is apply for an event that can be refused, or that does not do without its records.
func (c *Custody) command(ctx context.Context, sp *space, e event) (load *effect, err error) {
	sp.mu.Lock()
	t := c.transitLocked(sp, e)
	sp.mu.Unlock()
	return t.load, c.complete(ctx, sp, t)
}

// transitLocked makes the transition, and does all of it that is done under mu.
func (c *Custody) transitLocked(sp *space, e event) *task {
	next, effects := sp.state.On(e, c.policyLocked(sp), time.Now())
	sp.state = next
	if !next.customers() {
		sp.next = time.Time{}
	}
	t := &task{}
	for i, f := range effects {
		switch f.kind {
		case lockData:
			if sp.stopLoad != nil {
				sp.stopLoad()
			}
			sp.bundle.LockNow(f.why.cause())
			t.drain = true
		case renew:
			sp.bundle.Renew(f.until)
		case loadKeys:
			t.load = &effects[i]
		case refuse:
			t.refused = true
		case askNow:
			t.ask = true
		case rewatch:
			t.rewatch = true
		case persist, tell, report:
			t.records = append(t.records, f)
		}
	}
	if t.records != nil {
		t.done = make(chan struct{})
		sp.unwritten = append(sp.unwritten, t)
	}
	return t
}

// complete does what a transition has left to be done.
func (c *Custody) complete(ctx context.Context, sp *space, t *task) error {
	if t.drain {
		sp.bundle.Drain()
	}
	if t.rewatch {
		c.place(sp)
	}
	if t.ask {
		c.askNow(sp)
	}
	if t.refused {
		return visage.Refuse(visage.Conflict, "CustomerManagedKeyNotEnabled",
			"The resource has no key of its own to be locked with.")
	}
	if t.done == nil {
		return nil
	}
	c.write(context.WithoutCancel(ctx), sp) // begun is begun
	<-t.done
	return t.err
}

// write writes the records of all transitions so far, unless somebody is at it, who then writes these too.
func (c *Custody) write(ctx context.Context, sp *space) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.writing {
		return
	}
	sp.writing = true
	for len(sp.unwritten) > 0 {
		t := sp.unwritten[0]
		sp.unwritten = sp.unwritten[1:]
		sp.mu.Unlock()
		t.err = c.writeRecords(ctx, sp, t.records)
		close(t.done)
		sp.mu.Lock()
	}
	sp.unwritten, sp.writing = nil, false
}

// writeRecords writes what one transition has to tell. A failure ends it where the record must be; else it is the
// log's.
func (c *Custody) writeRecords(ctx context.Context, sp *space, records []effect) error {
	for _, r := range records {
		var err error
		what := "not audited"
		switch r.kind {
		case report:
			c.report(ctx, sp, r)
		case tell:
			key, version := sp.inUse()
			err = c.record(ctx, sp, r.audit, r.outcome, key, version, r.details)
		case persist:
			what = "state of a resource's key not kept"
			err = c.edit(ctx, sp, func(n *note) {
				n.Held, n.Closed = r.held, nil
				if r.closed != (closure{}) {
					n.Closed = &r.closed
				}
			})
			if errors.Is(err, sealed.ErrNoSpace) && !r.must {
				err = nil
			}
			if err != nil && r.held && r.must {
				err = fmt.Errorf("the resource is locked until the next restart only: %w", err)
			}
		}
		if err != nil && r.must {
			return err
		}
		if err != nil {
			c.log.ErrorContext(ctx, what, "resource", sp.id.String(), "err", err)
		}
	}
	return nil
}

func (c *Custody) report(ctx context.Context, sp *space, r effect) {
	if r.text == "" {
		c.log.InfoContext(ctx, "resource opened", "resource", sp.id.String())
		return
	}
	c.log.LogAttrs(ctx, slog.LevelWarn, "resource locked", slog.String("resource", sp.id.String()),
		slog.String("state", string(r.why)), slog.String("reason", r.text))
}

// edit changes the note; it is durable when edit returns nil. fn may run twice.
func (c *Custody) edit(ctx context.Context, sp *space, fn func(*note)) error {
	n, keys, err := sp.store(ctx, fn)
	if err != nil {
		return err
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.adoptLocked(n, keys)
	return nil
}

// commit is edit for a change of the note that is an event: it has happened when it is durable. For load see apply.
func (c *Custody) commit(ctx context.Context, sp *space, fn func(*note), e event) (load *effect, err error) {
	n, keys, err := sp.store(ctx, fn)
	if err != nil {
		return nil, err
	}
	sp.mu.Lock()
	sp.adoptLocked(n, keys)
	t := c.transitLocked(sp, e)
	sp.mu.Unlock()
	return t.load, c.complete(ctx, sp, t)
}

// policy returns what holds for the resource.
func (c *Custody) policy(sp *space) Policy {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return c.policyLocked(sp)
}

func (c *Custody) policyLocked(sp *space) Policy {
	if p := sp.note.Policy; p != nil {
		return *p
	}
	return c.cfg.Policy
}
