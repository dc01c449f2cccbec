package custody

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// longLocked is how long a resource may have been refused its key and still open by itself: after that somebody has to
// say that it is wanted.
const longLocked = 30 * 24 * time.Hour

// The codes of data operations on a locked resource (management contract §6).
const (
	codeRevoked     = "EncryptionKeyRevoked"
	codeUnavailable = "EncryptionKeyUnavailable"
)

// cause is what a space in a condition is locked with: a refusal, since that is what every data operation answers from
// then on. It says nothing of the key: who may send photos need not know where it is.
func (cond Condition) cause() *visage.Refusal {
	if cond == Unavailable {
		r := visage.Refuse(visage.Unavailable, codeUnavailable,
			"The key that protects the data of this resource cannot be asked for at present. Nothing is lost.")
		r.RetryAfter = retryAfter
		return r
	}
	return visage.Refuse(visage.KeyRevoked, codeRevoked,
		"The key that protects the data of this resource refuses access. Nothing is lost; its owner can restore access.")
}

// closeAtStart locks what is under a customer's key, and what a change was about to put there: nothing that was stored
// may open it, only the key's answer.
func (c *Custody) closeAtStart(sp *space) {
	n := sp.now()
	switch {
	case n.Held: // also where the key has gone back to the service meanwhile
		sp.shutNow(Locked, "Its owner has locked it.")
	case n.Key == nil && n.Flow == nil:
		return
	case n.Closed != nil && n.Closed.Code == codeRevoked:
		sp.shutNow(Revoked, n.Closed.Reason)
		sp.mu.Lock()
		sp.since = n.Closed.Since
		sp.mu.Unlock()
	default:
		sp.shutNow(Unavailable, "The key has not answered since the service was started.")
	}
}

// shutNow locks a space, with its keys wiped and its lease ended when it returns, and reports whether that is news.
func (sp *space) shutNow(cond Condition, reason string) (news bool) {
	sp.mu.Lock()
	return sp.shutLocked(cond, reason)
}

// shutIn is shutNow for what was answered in a turn, and does nothing in a later one.
func (sp *space) shutIn(turn uint64, cond Condition, reason string) (news bool) {
	sp.mu.Lock()
	if sp.turn != turn {
		sp.mu.Unlock()
		return false
	}
	return sp.shutLocked(cond, reason)
}

// shutLocked does what shutNow does. It lets mu go, which is held.
func (sp *space) shutLocked(cond Condition, reason string) (news bool) {
	cause := cond.cause()
	news = !sp.shut || sp.cond != cond
	sp.shut = true
	sp.shuts++
	if sp.cond != cond {
		sp.cond, sp.since = cond, time.Now()
	}
	sp.reason, sp.code = reason, cause.Code
	sp.mu.Unlock()
	sp.bundle.Lock(cause)
	return news
}

// close locks a space by what was answered in a turn, if that is still its turn, tells, and writes it down.
func (c *Custody) close(ctx context.Context, sp *space, turn uint64, cond Condition, reason string) {
	if !sp.shutIn(turn, cond, reason) {
		return
	}
	code, outcome := cond.cause().Code, audit.Refused
	if cond == Unavailable {
		outcome = audit.Unknown
	}
	c.log.WarnContext(ctx, "resource locked", "resource", sp.id.String(), "state", string(cond), "reason", reason)
	c.tell(ctx, sp, audit.CustodyLock, outcome, map[audit.Detail]string{audit.DetailState: string(cond), audit.DetailReason: code})
	at := time.Now()
	err := sp.edit(context.WithoutCancel(ctx), func(n *note) { n.Closed = &closure{Code: code, Reason: reason, Since: at} })
	if err != nil && !errors.Is(err, sealed.ErrNoSpace) {
		c.log.ErrorContext(ctx, "state of a locked resource not kept", "resource", sp.id.String(), "err", err)
	}
}

// answered acts upon what a key has answered for a space, if the question was asked in the space's turn.
func (c *Custody) answered(ctx context.Context, sp *space, src keysource.Source, v verdict) {
	err := v.err
	policy, now := c.policy(sp), classOf(err)
	if now == classOK && v.expired {
		now = classExpired
	}
	sp.mu.Lock()
	if sp.turn != v.turn {
		sp.mu.Unlock()
		return
	}
	before := sp.class
	sp.class = now
	sp.mu.Unlock()
	if before != now {
		c.tell(ctx, sp, audit.KeyProbe, outcomeOf(now), map[audit.Detail]string{audit.DetailClass: string(now)})
	}
	switch now {
	case classExpired:
		if policy.LockOnExpiry {
			c.close(ctx, sp, v.turn, Revoked, c.named(sp, "has expired."))
			return
		}
		c.good(ctx, sp, src, policy, v)
	case classOK:
		c.good(ctx, sp, src, policy, v)
	case classDenied:
		c.close(ctx, sp, v.turn, Revoked, c.refused(sp, v))
	case classWrong:
		c.log.ErrorContext(ctx, "wrong key: another key answers for a resource", "resource", sp.id.String(), "err", err)
		c.close(ctx, sp, v.turn, Revoked, c.named(sp, "does not open the data: another key answers in its place."))
	default:
		c.silent(ctx, sp, policy, v)
	}
}

// mayOpen reports whether a locked space may open when its key says yes.
func (sp *space) mayOpen(policy Policy) bool {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.held || sp.gone {
		return false
	}
	long := sp.note.Closed != nil && time.Since(sp.note.Closed.Since) > longLocked
	return sp.cond != Revoked || !policy.ManualRestore && !long
}

// good renews the lease, or has what is locked opened if it may open.
func (c *Custody) good(ctx context.Context, sp *space, src keysource.Source, policy Policy, v verdict) {
	sp.mu.Lock()
	if sp.turn != v.turn {
		sp.mu.Unlock()
		return
	}
	sp.lastOK = time.Now()
	shut, opening := sp.shut, sp.opening
	sp.opening = shut
	sp.mu.Unlock()
	if !shut {
		c.serve(ctx, sp, policy, v.expired, false)
		return
	}
	if opening {
		return
	}
	// Beside the polls: opening reads what it opens, and others depend on the same key.
	c.opens.Go(func() {
		defer func() {
			sp.mu.Lock()
			defer sp.mu.Unlock()
			sp.opening = false
		}()
		if !sp.mayOpen(policy) {
			return
		}
		switch err := c.open(ctx, sp, src); {
		case err == nil:
			c.serve(ctx, sp, policy, v.expired, true)
		case classOf(err) == classDenied, classOf(err) == classWrong:
			c.close(ctx, sp, v.turn, Revoked, c.refused(sp, verdict{err: err}))
		default:
			c.log.WarnContext(ctx, "resource not opened", "resource", sp.id.String(), "err", err)
		}
	})
}

// serve has an open resource run on: its key has answered.
func (c *Custody) serve(ctx context.Context, sp *space, policy Policy, expired, opened bool) {
	cond, reason := Active, ""
	if expired {
		cond, reason = Degraded, c.named(sp, "has expired: it still opens the data and wraps no other.")
	}
	sp.mu.Lock()
	if sp.shut { // locked meanwhile
		sp.mu.Unlock()
		return
	}
	before := sp.cond
	if before != cond {
		sp.cond, sp.since = cond, time.Now()
	}
	sp.code, sp.reason = "", reason
	closed, until := sp.note.Closed != nil, sp.lastOK.Add(policy.Grace)
	sp.mu.Unlock()
	sp.bundle.Renew(until)
	if closed {
		if err := sp.edit(ctx, func(n *note) { n.Closed = nil }); err != nil {
			c.log.ErrorContext(ctx, "state of an opened resource not kept", "resource", sp.id.String(), "err", err)
		}
	}
	switch {
	case opened:
		c.log.InfoContext(ctx, "resource opened", "resource", sp.id.String())
		c.tell(ctx, sp, audit.CustodyRestore, audit.Done, nil)
	case before != cond:
		c.tell(ctx, sp, audit.CustodyGrace, audit.Done, map[audit.Detail]string{audit.DetailState: string(cond)})
	}
}

// silent lets the lease run into the grace, and locks when that is over. It never renews.
func (c *Custody) silent(ctx context.Context, sp *space, policy Policy, v verdict) {
	now := time.Now()
	silence := c.named(sp, "gets no usable answer from its vault: "+why(v.err))
	sp.mu.Lock()
	if sp.shut || sp.turn != v.turn {
		sp.mu.Unlock()
		return // an answer that is none makes nothing less locked, and a refusal stays one
	}
	first := sp.lastOK.IsZero() // a change towards its first customer's key: the grace begins here
	if first {
		sp.lastOK = now
	}
	until := sp.lastOK.Add(policy.Grace)
	over, fresh := !now.Before(until), sp.cond != Degraded
	if !over {
		if fresh {
			sp.cond, sp.since = Degraded, now
		}
		sp.reason = silence
	}
	sp.mu.Unlock()
	if !over && first {
		sp.bundle.Renew(until)
	}
	switch {
	case over:
		c.close(ctx, sp, v.turn, Unavailable, c.named(sp, fmt.Sprintf("has got no usable answer from its vault for %v.", policy.Grace)))
	case fresh:
		c.tell(ctx, sp, audit.CustodyGrace, audit.Unknown, map[audit.Detail]string{audit.DetailState: string(Degraded)})
	}
}

var errHeld = errors.New("the resource is locked by its owner, or deleted")

// errShut says that what was being opened was locked meanwhile.
var errShut = errors.New("the resource was locked while it was opened")

// open opens a locked space by what src unwraps, however long reading it takes. Lock ends it, and what locks meanwhile
// counts.
func (c *Custody) open(ctx context.Context, sp *space, src keysource.Source) error {
	sp.door.Lock()
	defer sp.door.Unlock()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	sp.mu.Lock()
	held, shuts := sp.held || sp.gone, sp.shuts
	sp.stopLoad = stop
	sp.mu.Unlock()
	if held {
		return errHeld
	}
	if _, ok := src.(*router); !ok {
		src = bounded{c, src}
	}
	err := sp.bundle.Load(ctx, src)
	class := classOf(err)
	c.tell(ctx, sp, audit.KeyUnwrap, outcomeOf(class), map[audit.Detail]string{audit.DetailClass: string(class)})
	if err != nil {
		return err
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.stopLoad = nil
	if sp.shuts != shuts {
		return errShut
	}
	sp.shut, sp.lastOK = false, time.Now()
	return nil
}

// Lock closes a resource under a customer's key at once: no operation that starts after it returns succeeds, and the
// keys are wiped. It stays locked, also over restarts, until Unlock.
// Refusals: CustomerManagedKeyNotEnabled when the key is the service's.
func (c *Custody) Lock(ctx context.Context, id sealed.SpaceID) error {
	sp, err := c.space(ctx, id)
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	sp.officer.Lock()
	defer sp.officer.Unlock()
	sp.mu.Lock()
	if f := sp.note.Flow; sp.note.Key == nil && (f == nil || !f.committed()) { // from there on the key is its customer's
		sp.mu.Unlock()
		return visage.Refuse(visage.Conflict, "CustomerManagedKeyNotEnabled", "The resource has no key of its own to be locked with.")
	}
	sp.held = true
	if sp.stopLoad != nil {
		sp.stopLoad()
	}
	sp.mu.Unlock()
	sp.shutNow(Locked, "Its owner has locked it.")
	sp.door.Lock() // an opening that was under way has ended after this, and none begins while held is set
	sp.shutNow(Locked, "Its owner has locked it.")
	sp.door.Unlock()
	if err := sp.edit(context.WithoutCancel(ctx), func(n *note) { n.Held = true }); err != nil {
		return fmt.Errorf("the resource is locked until the next restart only: %w", err)
	}
	key, version := sp.inUse()
	return c.record(ctx, sp, audit.CustodyLock, audit.Done, key, version, map[audit.Detail]string{audit.DetailState: string(Locked)})
}

// Unlock ends what Lock began, allows a resource to open that was refused its key for more than 30 days or whose policy
// is ManualRestore, and has the key asked at once. It opens when the key says yes; State tells.
func (c *Custody) Unlock(ctx context.Context, id sealed.SpaceID) error {
	sp, err := c.space(ctx, id)
	if err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	sp.officer.Lock()
	defer sp.officer.Unlock()
	key, version := sp.inUse()
	details := map[audit.Detail]string{audit.DetailOperation: "unlock"}
	if err := c.record(ctx, sp, audit.OperatorAction, audit.Done, key, version, details); err != nil {
		return err // what opens is told of first
	}
	if err := sp.edit(ctx, func(n *note) { n.Held, n.Closed = false, nil }); err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	sp.mu.Lock()
	sp.held = false
	// What was asked before does not count, so that a refusal that has ended does not lock it again: it is locked, and
	// stays so until a question that is asked from now on has its answer. An opening under way rests on a question from
	// before: it is ended below, or its refusal counts.
	asking := sp.shut && sp.cond != Unavailable
	if asking || sp.shut && !sp.opening {
		sp.turn++
	}
	own := sp.shut && sp.note.Key == nil && sp.note.Flow == nil // it was locked while its key went back to the service
	sp.mu.Unlock()
	if own {
		if err := c.openOwn(ctx, sp); err != nil {
			return fmt.Errorf("unlock: %w", err)
		}
		return nil
	}
	if asking {
		sp.shutNow(Unavailable, "The key is being asked.")
	}
	c.kick(sp)
	return nil
}

// why is a failure as the owner of a resource may read it: what the vault said, without what was being done here.
func why(err error) string {
	if e, ok := errors.AsType[*keysource.Error](err); ok {
		return e.Text + "."
	}
	switch classOf(err) {
	case classDenied:
		return keysource.ErrDenied.Error() + "."
	case classWrong:
		return keysource.ErrWrong.Error() + "."
	}
	return keysource.ErrUnknown.Error() + "."
}
