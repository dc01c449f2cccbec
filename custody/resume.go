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
func (c *Custody) resumeChange(ctx context.Context, sp *space) {
	defer sp.release()
	for failures := 0; ctx.Err() == nil; {
		n, turn := sp.noteNow(), sp.stateNow().Turn
		if n.Flow == nil {
			return
		}
		f, err := *n.Flow, error(nil)
		if f.committed() {
			err = c.continueChange(ctx, sp, f)
			if classOf(err) == classDenied && waitFor(ctx, confirmDelay) {
				continued := sp.noteNow().Flow              // not nil: the last step asks no key
				err = c.continueChange(ctx, sp, *continued) // the sources are new each time
			}
		} else {
			err = c.undoInterrupted(ctx, sp, f)
		}
		switch {
		case err == nil || ctx.Err() != nil || sp.noteNow().Flow == nil: // the last step was taken, whatever it seemed
			return
		case errors.Is(err, sealed.ErrNoSpace):
			c.forget(sp)
			return
		}
		wait := pollInterval
		if !errors.Is(err, errNeedsUnlock) && !errors.Is(err, errClosedByOwner) {
			c.log.WarnContext(ctx, "change of keys waits", "resource", sp.id.String(), "step", f.Step, "err", err)
			switch {
			case f.committed() && isKeyAnswer(err):
				c.applyAnswer(ctx, sp, nil, answer{err: err, turn: turn})
			default:
				c.askDuringChange(ctx, sp, *n.Flow)
			}
			if classOf(err) == classUnknown {
				wait = min(time.Second<<min(failures, 5), pollInterval)
				failures++
			}
		}
		timer := time.NewTimer(jitter(wait))
		select {
		case <-ctx.Done():
		case <-sp.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// errClosed says that a change waits until somebody lets its resource open.
var errNeedsUnlock = errors.New("the resource is locked, and opens when somebody says so")

// goBack ends a change that was interrupted before the point of no return.
func (c *Custody) undoInterrupted(ctx context.Context, sp *space, f flow) error {
	_, err := c.undoChange(ctx, sp, f, errInterrupted)
	if sp.noteNow().Flow == nil {
		return nil
	}
	return err
}

var errInterrupted = visage.Refuse(visage.Unavailable, "OperationInterrupted",
	"The service was stopped before the change could be made; nothing has changed. Ask for it again.")

// goOn takes the steps that are left.
func (c *Custody) continueChange(ctx context.Context, sp *space, f flow) error {
	switch at := sp.stateNow(); {
	case at.Held || at.Deleted:
		return errClosedByOwner
	case at.Locked && !at.mayOpen(c.policy(sp), time.Now()):
		return errNeedsUnlock
	case at.Locked:
		if err := c.openData(ctx, sp, c.keySources(sp, &f), effect{locks: at.Locks}); err != nil {
			return err
		}
	}
	for {
		taken := f.Step
		if err := c.takeStep(ctx, sp, &f); err != nil || taken == stepDone {
			return err
		}
	}
}

// ofKey tells what a key has answered, or not, from all else that may hold a change up.
func isKeyAnswer(err error) bool {
	return classOf(err) != classUnknown || errors.Is(err, keysource.ErrUnknown) ||
		errors.Is(err, context.DeadlineExceeded)
}

// askMeanwhile asks the key of an open resource whose change is held up by something else: no watch does, and neither
// may a full disk keep a refusal from being noticed, nor the want of a question let the lease run out.
func (c *Custody) askDuringChange(ctx context.Context, sp *space, f flow) {
	keys, err := sp.bundle.Keys(ctx)
	if err != nil || !slices.ContainsFunc(keys.Slots,
		func(s sealed.Slot) bool { return s.Current && s.Role == sealed.Customer }) {
		return // the service's key is asked by nobody
	}
	at := sp.stateNow()
	if at.Locked {
		return // going on begins with opening it, which asks
	}
	src := c.keySources(sp, &f)
	err = sp.bundle.Probe(ctx, src)
	if classOf(err) == classDenied && waitFor(ctx, confirmDelay) {
		src = c.keySources(sp, &f)
		err = sp.bundle.Probe(ctx, src)
	}
	if ctx.Err() == nil && (err == nil || isKeyAnswer(err)) {
		c.applyAnswer(ctx, sp, src, answer{err: err, turn: at.Turn})
	}
}
