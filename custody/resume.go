package custody

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// resume finishes a change that was found or handed over. It waits while a key does not answer, and is what keeps the
// resource's lease meanwhile: every attempt has the keys unwrap. The caller has claimed the space.
func (c *Custody) resume(ctx context.Context, sp *space) {
	defer sp.release()
	for failures := 0; ctx.Err() == nil; {
		n, turn := sp.now(), sp.stateNow().Turn
		if n.Flow == nil {
			return
		}
		f, err := *n.Flow, error(nil)
		if f.committed() {
			err = c.goOn(ctx, sp, f)
			if classOf(err) == classDenied && pause(ctx, confirmDelay) {
				continued := sp.now().Flow        // not nil: the last step asks no key
				err = c.goOn(ctx, sp, *continued) // the sources are new each time
			}
		} else {
			err = c.goBack(ctx, sp, f)
		}
		switch {
		case err == nil || ctx.Err() != nil || sp.now().Flow == nil: // the last step was taken, whatever it seemed
			return
		case errors.Is(err, sealed.ErrNoSpace):
			c.forget(sp)
			return
		}
		wait := pollTime
		if !errors.Is(err, errClosed) && !errors.Is(err, errHeld) {
			c.log.WarnContext(ctx, "change of keys waits", "resource", sp.id.String(), "step", f.Step, "err", err)
			switch {
			case f.committed() && ofKey(err):
				c.answered(ctx, sp, nil, verdict{err: err, turn: turn})
			default:
				c.askMeanwhile(ctx, sp, *n.Flow)
			}
			if classOf(err) == classUnknown {
				wait = min(time.Second<<min(failures, 5), pollTime)
				failures++
			}
		}
		timer := time.NewTimer(spread(wait))
		select {
		case <-ctx.Done():
		case <-sp.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// errClosed says that a change waits until somebody lets its resource open.
var errClosed = errors.New("the resource is locked, and opens when somebody says so")

// goBack ends a change that was interrupted before the point of no return.
func (c *Custody) goBack(ctx context.Context, sp *space, f flow) error {
	_, err := c.undo(ctx, sp, f, errInterrupted)
	if sp.now().Flow == nil {
		return nil
	}
	return err
}

var errInterrupted = visage.Refuse(visage.Unavailable, "OperationInterrupted",
	"The service was stopped before the change could be made; nothing has changed. Ask for it again.")

// goOn takes the steps that are left.
func (c *Custody) goOn(ctx context.Context, sp *space, f flow) error {
	switch at := sp.stateNow(); {
	case at.Held || at.Deleted:
		return errHeld
	case at.Locked && !at.mayOpen(c.policy(sp), time.Now()):
		return errClosed
	case at.Locked:
		if err := c.open(ctx, sp, c.sources(sp, &f), effect{locks: at.Locks}); err != nil {
			return err
		}
	}
	for {
		taken := f.Step
		if err := c.take(ctx, sp, &f); err != nil || taken == stepDone {
			return err
		}
	}
}

// ofKey tells what a key has answered, or not, from all else that may hold a change up.
func ofKey(err error) bool {
	return classOf(err) != classUnknown || errors.Is(err, keysource.ErrUnknown) ||
		errors.Is(err, context.DeadlineExceeded)
}

// askMeanwhile asks the key of an open resource whose change is held up by something else: no watch does, and neither
// may a full disk keep a refusal from being noticed, nor the want of a question let the lease run out.
func (c *Custody) askMeanwhile(ctx context.Context, sp *space, f flow) {
	keys, err := sp.bundle.Keys(ctx)
	if err != nil || !slices.ContainsFunc(keys.Slots,
		func(s sealed.Slot) bool { return s.Current && s.Role == sealed.Customer }) {
		return // the service's key is asked by nobody
	}
	at := sp.stateNow()
	if at.Locked {
		return // going on begins with opening it, which asks
	}
	src := c.sources(sp, &f)
	err = sp.bundle.Probe(ctx, src)
	if classOf(err) == classDenied && pause(ctx, confirmDelay) {
		src = c.sources(sp, &f)
		err = sp.bundle.Probe(ctx, src)
	}
	if ctx.Err() == nil && (err == nil || ofKey(err)) {
		c.answered(ctx, sp, src, verdict{err: err, turn: at.Turn})
	}
}
