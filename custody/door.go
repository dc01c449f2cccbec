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

// The causes with which a space is locked: refusals, since that is what every data operation answers from then on
// (management contract §6).
func revoked(reason string) *visage.Refusal {
	return visage.Refuse(visage.KeyRevoked, "EncryptionKeyRevoked",
		"The key that protects the data of this resource refuses access: %s. Nothing is lost; restore access to use the resource again.", reason)
}

func unavailable(reason string) *visage.Refusal {
	r := visage.Refuse(visage.Unavailable, "EncryptionKeyUnavailable",
		"The key that protects the data of this resource cannot be asked for: %s.", reason)
	r.RetryAfter = retryAfter
	return r
}

// closeAtStart locks what is under a customer's key, and what a change was about to put there: nothing that was stored
// may open it, only the key's answer.
func (c *Custody) closeAtStart(sp *space) {
	n := sp.now()
	switch {
	case n.Key == nil && n.Flow == nil:
		return
	case n.Held:
		sp.shutNow(Locked, revoked("it was locked by its owner"))
	case n.Closed != nil && n.Closed.Code == revoked("").Code:
		sp.shutNow(Revoked, revoked(n.Closed.Reason))
		sp.mu.Lock()
		sp.since = n.Closed.Since
		sp.mu.Unlock()
	default:
		sp.shutNow(Unavailable, unavailable("it has not answered since the service was started"))
	}
}

// shutNow locks a space, with its keys wiped and its lease ended when it returns, and reports whether it was open.
func (sp *space) shutNow(cond Condition, cause *visage.Refusal) (was bool) {
	sp.mu.Lock()
	was = !sp.shut
	sp.shut = true
	if sp.cond != cond {
		sp.cond, sp.since = cond, time.Now()
	}
	sp.reason, sp.code = cause.Message, cause.Code
	sp.mu.Unlock()
	sp.bundle.Lock(cause)
	return was
}

// close locks a space, writes that down, and tells.
func (c *Custody) close(ctx context.Context, sp *space, cond Condition, cause *visage.Refusal, reason string) {
	sp.mu.Lock()
	before := sp.cond
	sp.mu.Unlock()
	was := sp.shutNow(cond, cause)
	if !was && before == cond {
		return
	}
	outcome := audit.Refused
	if cond == Unavailable {
		outcome = audit.Unknown
	}
	c.tell(ctx, sp, audit.CustodyLock, outcome, map[audit.Detail]string{audit.DetailState: string(cond), audit.DetailReason: cause.Code})
	at := time.Now()
	err := sp.edit(context.WithoutCancel(ctx), func(n *note) { n.Closed = &closure{Code: cause.Code, Reason: reason, Since: at} })
	if err != nil {
		c.log.ErrorContext(ctx, "state of a locked resource not kept", "resource", sp.id.String(), "err", err)
	}
}

// answered acts upon what a key has answered for a space. expired says that the key is out of date, though it unwraps.
func (c *Custody) answered(ctx context.Context, sp *space, src keysource.Source, err error, expired bool) {
	policy := c.policy(sp)
	switch classOf(err) {
	case classOK:
		if expired && policy.LockOnExpiry {
			c.close(ctx, sp, Revoked, revoked("it has expired"), "it has expired")
			return
		}
		c.good(ctx, sp, src, policy, expired)
	case classDenied:
		c.close(ctx, sp, Revoked, revoked(why(err)), why(err))
	case classWrong:
		c.log.ErrorContext(ctx, "another key answers for a resource", "resource", sp.id.String(), "err", err)
		c.close(ctx, sp, Revoked, revoked("another key than it answers in its place"), "another key answers in its place")
	default:
		c.silent(ctx, sp, policy, err)
	}
}

// good renews the lease, and opens what is locked and may open.
func (c *Custody) good(ctx context.Context, sp *space, src keysource.Source, policy Policy, expired bool) {
	now := time.Now()
	sp.mu.Lock()
	shut, held, before := sp.shut, sp.note.Held, sp.cond
	long := sp.note.Closed != nil && sp.cond == Revoked && now.Sub(sp.note.Closed.Since) > longLocked
	waits := before == Revoked && policy.ManualRestore || long
	sp.lastOK = now
	sp.mu.Unlock()
	if held || shut && waits {
		return
	}
	if shut {
		if err := c.open(ctx, sp, src); err != nil {
			c.log.WarnContext(ctx, "resource not opened", "resource", sp.id.String(), "err", err)
			if !errors.Is(err, errHeld) && classOf(err) != classUnknown {
				c.close(ctx, sp, Revoked, revoked(why(err)), why(err))
			}
			return
		}
	}
	sp.bundle.Renew(now.Add(policy.Grace))
	cond, reason := Active, ""
	if expired {
		cond, reason = Degraded, "The key has expired: it still opens the data and wraps no other."
	}
	sp.mu.Lock()
	if sp.cond != cond {
		sp.cond, sp.since = cond, now
	}
	sp.code, sp.reason = "", reason
	closed := sp.note.Closed != nil
	sp.mu.Unlock()
	if closed {
		if err := sp.edit(ctx, func(n *note) { n.Closed = nil }); err != nil {
			c.log.ErrorContext(ctx, "state of an opened resource not kept", "resource", sp.id.String(), "err", err)
		}
	}
	switch {
	case shut:
		c.tell(ctx, sp, audit.CustodyRestore, audit.Done, nil)
	case before != cond:
		c.tell(ctx, sp, audit.CustodyGrace, audit.Done, map[audit.Detail]string{audit.DetailState: string(cond)})
	}
}

// silent lets the lease run into the grace, and locks when that is over. It never renews.
func (c *Custody) silent(ctx context.Context, sp *space, policy Policy, err error) {
	now := time.Now()
	sp.mu.Lock()
	if sp.shut {
		sp.mu.Unlock()
		return // an answer that is none makes nothing less locked, and a refusal stays one
	}
	if sp.lastOK.IsZero() {
		sp.lastOK = now // a change towards its first customer's key: the grace begins here
		sp.bundle.Renew(now.Add(policy.Grace))
	}
	over := now.Sub(sp.lastOK) >= policy.Grace
	fresh := sp.cond != Degraded
	if !over {
		if fresh {
			sp.cond, sp.since = Degraded, now
		}
		sp.reason = "The vault gives no usable answer: " + why(err)
	}
	sp.mu.Unlock()
	switch {
	case over:
		reason := fmt.Sprintf("its vault has given no answer for %v", policy.Grace)
		c.close(ctx, sp, Unavailable, unavailable(reason), reason)
	case fresh:
		c.tell(ctx, sp, audit.CustodyGrace, audit.Unknown, map[audit.Detail]string{audit.DetailState: string(Degraded)})
	}
}

var errHeld = errors.New("the resource is locked by its owner")

// open opens a locked space by what src unwraps. Lock ends it.
func (c *Custody) open(ctx context.Context, sp *space, src keysource.Source) error {
	sp.door.Lock()
	defer sp.door.Unlock()
	ctx, stop := context.WithTimeout(ctx, callTime)
	defer stop()
	sp.mu.Lock()
	held := sp.note.Held
	sp.stopLoad = stop
	sp.mu.Unlock()
	if held {
		return errHeld
	}
	if err := sp.bundle.Load(ctx, src); err != nil {
		return err
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.note.Held {
		return errHeld // Lock has moved the fence, or is about to
	}
	sp.shut = false
	return nil
}

// Lock closes a resource under a customer's key at once: no operation that starts after it returns succeeds, and the
// keys are wiped. It stays locked, also over restarts, until Unlock.
// Refusals: Conflict when the key is the service's.
func (c *Custody) Lock(ctx context.Context, id sealed.SpaceID) error {
	sp, err := c.space(ctx, id)
	if err != nil {
		return err
	}
	sp.mu.Lock()
	if sp.note.Key == nil {
		sp.mu.Unlock()
		return visage.Refuse(visage.Conflict, "CustomerManagedKeyNotEnabled", "The resource has no key of its own to be locked with.")
	}
	sp.note.Held = true
	if sp.stopLoad != nil {
		sp.stopLoad()
	}
	sp.mu.Unlock()
	cause := revoked("it was locked by its owner")
	sp.shutNow(Locked, cause)
	sp.door.Lock() // an opening that was under way has ended after this, and none begins while Held is set
	sp.shutNow(Locked, cause)
	sp.door.Unlock()
	if err := sp.edit(context.WithoutCancel(ctx), func(n *note) { n.Held = true }); err != nil {
		return fmt.Errorf("the resource is locked until the next restart only: %w", err)
	}
	return c.record(ctx, sp, audit.CustodyLock, audit.Done, sp.now().Key, "", map[audit.Detail]string{audit.DetailState: string(Locked)})
}

// Unlock ends what Lock began, allows a resource to open that was refused its key for more than 30 days or whose policy
// is ManualRestore, and has the key asked at once. It opens when the key says yes.
func (c *Custody) Unlock(ctx context.Context, id sealed.SpaceID) error {
	sp, err := c.space(ctx, id)
	if err != nil {
		return err
	}
	if err := sp.edit(ctx, func(n *note) { n.Held, n.Closed = false, nil }); err != nil {
		return err
	}
	sp.mu.Lock()
	if sp.cond == Locked || sp.cond == Revoked {
		sp.cond, sp.since = Unavailable, time.Now()
		sp.code, sp.reason = unavailable("").Code, "The key is being asked."
	}
	sp.mu.Unlock()
	if err := c.record(ctx, sp, audit.OperatorAction, audit.Done, sp.now().Key, "",
		map[audit.Detail]string{audit.DetailOperation: "unlock"}); err != nil {
		return err
	}
	c.kick(sp)
	return nil
}

// why is the text of a refusal as its owner may read it: what the vault said, without what was being done here.
func why(err error) string {
	if e, ok := errors.AsType[*keysource.Error](err); ok {
		return e.Text
	}
	switch classOf(err) {
	case classDenied:
		return keysource.ErrDenied.Error()
	case classWrong:
		return keysource.ErrWrong.Error()
	}
	return keysource.ErrUnknown.Error()
}
