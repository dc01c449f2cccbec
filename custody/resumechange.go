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

// resumeChange finishes or undoes a change that a start has found, or that beginChange has left. It waits while a key
// does not answer. It returns early when the claim among processes is lost. The caller has claimed the space, and has
// the keys asked meanwhile: see askBeside.
func (c *Custody) resumeChange(ctx context.Context, sp *space) {
	defer sp.release()
	for failures := 0; ctx.Err() == nil; {
		n, round := sp.noteNow(), sp.stateNow().Round
		if n.Flow == nil {
			return
		}
		f, err := *n.Flow, error(nil)
		if f.committed() {
			err = c.continueChange(ctx, sp, f)
			if classOf(err) == classDenied && waitFor(ctx, confirmDelay) {
				continued := sp.noteNow().Flow              // not nil: the last step asks no key
				err = c.continueChange(ctx, sp, *continued) // on new connections
			}
		} else {
			err = c.undoInterrupted(ctx, sp, f)
		}
		switch {
		case err == nil || ctx.Err() != nil || sp.noteNow().Flow == nil: // finished or undone, even if with an error
			return
		case errors.Is(err, sealed.ErrNoSpace):
			c.forget(sp)
			return
		case sp.lost() != nil: // this process was paused, or the store was away: another one may be at it
			c.log.WarnContext(ctx, "change of keys left", "resource", sp.id.String(), "step", f.Step, "err", err)
			return
		}
		wait := pollInterval
		if !errors.Is(err, errNeedsUnlock) && !errors.Is(err, errClosedByOwner) {
			c.log.WarnContext(ctx, "change of keys waits", "resource", sp.id.String(), "step", f.Step, "err", err)
			if f.committed() && isKeyAnswer(err) {
				reply := answer{err: err, round: round}
				if failed, ok := errors.AsType[*storeError](err); ok {
					reply.store = storeOf(failed.of.Key.Unversioned(), f, sp.stores())
				}
				c.applyAnswer(ctx, sp, nil, reply)
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

// errNeedsUnlock says that a change waits until its resource is unlocked.
var errNeedsUnlock = errors.New("the resource is locked until it is unlocked by a command")

// undoInterrupted undoes a change that was interrupted before its point of no return.
func (c *Custody) undoInterrupted(ctx context.Context, sp *space, f flow) error {
	_, err := c.undoChange(ctx, sp, f, errInterrupted)
	if sp.noteNow().Flow == nil {
		return nil
	}
	return err
}

var errInterrupted = visage.Refuse(visage.Unavailable, "OperationInterrupted",
	"The service was stopped before the change could be made; nothing has changed. Repeat the request.")

// continueChange opens the resource if it may open, and takes the remaining steps.
func (c *Custody) continueChange(ctx context.Context, sp *space, f flow) error {
	switch at := sp.stateNow(); {
	case at.OwnerLocked || at.Deleted:
		return errClosedByOwner
	case at.DataLocked && !at.mayOpen(c.policy(sp), time.Now()):
		return errNeedsUnlock
	case at.DataLocked:
		if err := c.openData(ctx, sp, c.keySources(sp, &f), effect{lockCount: at.LockCount}); err != nil {
			return err
		}
	case c.shared: // it may never have been used in this process
		if err := c.loadKeys(ctx, sp, c.keySources(sp, &f), effect{lockCount: at.LockCount}); err != nil {
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

// isKeyAnswer reports whether an error is the answer of a key, or the lack of one, and not another failure of a change.
func isKeyAnswer(err error) bool {
	return classOf(err) != classUnknown || errors.Is(err, keysource.ErrUnknown) ||
		errors.Is(err, context.DeadlineExceeded)
}

// storeOf returns which store a key of a change is in, 0 the first. The first key after a change counts as the first
// too, because it decides from the point of no return on.
func storeOf(uri string, f flow, present []storeKey) int {
	if len(f.After) > 0 && f.After[0].uri() == uri {
		return 0
	}
	return max(0, slices.IndexFunc(present, func(k storeKey) bool { return k.uri() == uri }))
}
