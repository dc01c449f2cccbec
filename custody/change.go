package custody

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// changeTimeout limits how long a change takes to its point of no return. No watch asks the keys meanwhile, so slow
// stores would leave a refusal of the first key unheard: it was asked just before the change began (beginChecked), and
// is asked again, twice, when it has failed. It makes some four calls to each store.
const changeTimeout = 30 * time.Second

// undoTimeout limits how long undoing a change takes after its caller has left.
const undoTimeout = 30 * time.Second

// beginChecked is beginChange after checks that may have taken long. The present key is asked again: a refusal that it
// gave during the checks would be heard only after the change otherwise, and the two together take more than the minute
// within which a refusal closes the data.
func (c *Custody) beginChecked(ctx context.Context, sp *space, present binding, f flow) (Operation, error) {
	if err := c.requirePresentKey(ctx, sp, present); err != nil {
		return Operation{}, err
	}
	return c.beginChange(ctx, sp, f)
}

// beginChange begins a change to checked keys and takes its steps up to the point of no return, within changeTimeout;
// Run takes the others.
// The caller has claimed the space, and wakes Run after releasing it, so that Run finishes or undoes a change that is
// left.
func (c *Custody) beginChange(ctx context.Context, sp *space, f flow) (Operation, error) {
	f.ID, f.Started = rand.Text(), time.Now()
	f.Step = f.plan().steps[0].name
	begun := f // the stored copy: f changes with every step
	if _, err := c.storeAndApply(ctx, sp, func(n *note) { n.Flow = &begun }, event{kind: changeBegun}); err != nil {
		return Operation{}, err
	}
	bounded, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	if err := c.requireKept(bounded, sp, f); err != nil {
		return c.undoChange(ctx, sp, f, err)
	}
	for !f.committed() {
		if err := c.takeStep(bounded, sp, &f); err != nil {
			return c.undoChange(ctx, sp, f, err)
		}
	}
	if f.Step != stepDone {
		return f.operation(), nil
	}
	if err := c.takeStep(ctx, sp, &f); err != nil { // the last step, which asks no key; Run repeats it
		c.log.WarnContext(ctx, "change of keys waits", "resource", sp.id.String(), "step", f.Step, "err", err)
		return f.operation(), nil
	}
	return *sp.noteNow().Last, nil
}

// requireKept refuses a change, which is stored already, to a key in a store that was removed meanwhile, perhaps by
// another process. Its transaction conflicts with that of the removal, which reads what it writes: see StoredUses.
func (c *Custody) requireKept(ctx context.Context, sp *space, f flow) error {
	if c.cfg.Kept == nil || !slices.Contains([]OperationKind{Enabling, Switching, Adding}, f.Kind) {
		return nil
	}
	refuse := c.cfg.Kept(f.To.Key, f.To.As)
	return c.changes.Update(ctx, func(tx sealed.Tx, now map[sealed.SpaceID]uint64) error {
		if err := refuse(tx); err != nil {
			return err
		}
		return changes.In().Put(tx, sp.id.String(), changed{sp.id[:], now[sp.id] + 1})
	})
}

// takeStep takes the current step of f and stores the next one.
func (c *Custody) takeStep(ctx context.Context, sp *space, f *flow) error {
	steps := f.plan().steps
	at := f.plan().index(f.Step)
	err := sp.lost()
	if err == nil {
		err = c.failPoint(string(f.Kind), f.Step, "before")
	}
	begun := time.Now()
	if err == nil {
		err = repeat(ctx, func() error {
			return steps[at].run(&attempt{c, sp, f, c.keySources(sp, f)}, keysource.WithTrace(ctx))
		})
	}
	if err == nil {
		err = c.failPoint(string(f.Kind), f.Step, "after")
	}
	if err == nil && steps[at].asks && len(f.After) > 0 {
		c.applyEvent(ctx, sp, event{kind: stepAnswered, store: f.Opens, asked: begun})
	}
	if err != nil || at == len(steps)-1 {
		return err
	}
	next := *f
	next.Step = steps[at+1].name
	storeNext := func(n *note) {
		f := n.principals(next)
		n.Flow = &f
	}
	if next.Step == f.plan().commit {
		_, err = c.storeAndApply(ctx, sp, storeNext, event{kind: changeCommitted})
	} else {
		err = c.updateNote(ctx, sp, storeNext)
	}
	if err != nil {
		return err
	}
	*f = next
	return nil
}

// How often a step is taken that another process overtakes, and how long it waits in between.
const (
	overtakenTries = 10
	overtakenPause = 100 * time.Millisecond
)

// repeat takes a step again when another process has changed the bundle meanwhile: it stores notes, follows keys and
// turns epochs for erasures.
func repeat(ctx context.Context, step func() error) error {
	for try := 1; ; try++ {
		err := step()
		// Another process may have closed the data here: the next try does not need it open.
		overtaken := errors.Is(err, sealed.ErrChanged) || errors.Is(err, sealed.ErrLockedElsewhere)
		if !overtaken || try == overtakenTries || !waitFor(ctx, jitter(overtakenPause)) {
			return err
		}
	}
}

// failPoint returns the error that a test injects at a point, if any.
func (c *Custody) failPoint(kind, step, when string) error {
	if c.fault == nil {
		return nil
	}
	return c.fault(kind + " " + step + " " + when)
}

// undoChange undoes a change before its point of no return and reports its operation as failed. It returns the cause of
// the failure, as a refusal if the vault's answer is the cause. If another version has wrapped the data key already,
// although the step reported an error, the change is finished instead: the earlier version wraps nothing any more.
func (c *Custody) undoChange(ctx context.Context, sp *space, f flow, cause error) (Operation, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout) // also after the caller has left
	defer cancel()
	a := &attempt{c, sp, &f, c.keySources(sp, &f)}
	if f.Step == stepRewrapped {
		keys, err := sp.bundle.Keys(ctx)
		if err != nil {
			return Operation{}, errors.Join(cause, fmt.Errorf("undo: %w", err))
		}
		if rewrapped(keys, f.After) {
			if err := a.finish(ctx); err != nil {
				return Operation{}, errors.Join(cause, err)
			}
			return *sp.noteNow().Last, nil
		}
	}
	reported := cause
	if errors.Is(cause, sealed.ErrChanged) || errors.Is(cause, sealed.ErrLockedElsewhere) {
		reported = visage.Refuse(visage.Conflict, "RequestConflict", "Other servers changed the keys of the resource "+
			"at the same time. The change was undone. Try it again.")
	} else if failed, ok := errors.AsType[*storeError](cause); ok {
		reported = vaultRefusal(failed.of, failed.verb, cause)
	} else if b, _ := sp.keyInUse(); f.To != nil {
		reported = vaultRefusal(*f.To, f.verb(), cause)
	} else if b != nil {
		reported = vaultRefusal(*b, f.verb(), cause)
	}
	op := f.operation()
	op.Progress, op.Ended = Failed, time.Now()
	if r, ok := errors.AsType[*visage.Refusal](reported); ok {
		op.Code, op.Reason = r.Code, r.Message
	}
	err := f.plan().undo(ctx, a)
	if err == nil {
		sp.markEnding()
		var load *effect
		load, err = c.storeAndApply(ctx, sp, func(n *note) { n.Flow, n.Last = nil, &op }, event{kind: changeUndone})
		c.openWithServiceKey(ctx, sp, load)
	}
	if err != nil {
		return Operation{}, errors.Join(reported, fmt.Errorf("undo: %w", err))
	}
	details := f.details()
	details[audit.DetailStep], details[audit.DetailReason] = f.Step, op.Code
	c.recordOrLog(ctx, sp, 0, f.kind(), audit.Failed, details)
	return Operation{}, reported
}
