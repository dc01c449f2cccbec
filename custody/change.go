package custody

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
)

// cleanTime is how long undoing a change may take once its caller has left.
const undoTimeout = 30 * time.Second

// change begins a change towards a key that was checked and takes it to the point of no return; Run goes on from there.
// The caller has claimed the space, and wakes Run once it has released it: Run finishes, or undoes, what is left.
func (c *Custody) beginChange(
	ctx context.Context, sp *space, kind OperationKind, to *binding, version string,
) (Operation, error) {
	f := flow{ID: rand.Text(), Kind: kind, To: to, Version: version, Started: time.Now()}
	f.Step = f.plan().steps[0].name
	begun := f // the note is read while f moves on
	if _, err := c.storeAndApply(ctx, sp, func(n *note) { n.Flow = &begun }, event{kind: changeBegun}); err != nil {
		return Operation{}, err
	}
	for !f.committed() {
		if err := c.takeStep(ctx, sp, &f); err != nil {
			return c.undoChange(ctx, sp, f, err)
		}
	}
	if f.Step != stepDone {
		return f.operation(), nil
	}
	if err := c.takeStep(ctx, sp, &f); err != nil { // the last step, which asks nobody
		c.log.WarnContext(ctx, "change of keys waits", "resource", sp.id.String(), "step", f.Step, "err", err)
		return f.operation(), nil
	}
	return *sp.noteNow().Last, nil
}

// take takes the step that f stands at and writes the next one down.
func (c *Custody) takeStep(ctx context.Context, sp *space, f *flow) error {
	steps := f.plan().steps
	at := f.plan().index(f.Step)
	err := c.failPoint(string(f.Kind), f.Step, "before")
	if err == nil {
		err = steps[at].run(&attempt{c, sp, f, c.keySources(sp, f)}, ctx)
	}
	if err == nil {
		err = c.failPoint(string(f.Kind), f.Step, "after")
	}
	if err == nil && steps[at].asks {
		c.applyEvent(ctx, sp, event{kind: stepAnswered})
	}
	if err != nil || at == len(steps)-1 {
		return err
	}
	next := *f
	next.Step = steps[at+1].name
	stands := func(n *note) {
		to := next
		to.To = n.to(next)
		n.Flow = &to
	}
	if next.Step == f.plan().commit {
		_, err = c.storeAndApply(ctx, sp, stands, event{kind: changeCommitted})
	} else {
		err = c.updateNote(ctx, sp, stands)
	}
	if err != nil {
		return err
	}
	*f = next
	return nil
}

func (c *Custody) failPoint(kind, step, when string) error {
	if c.fault == nil {
		return nil
	}
	return c.fault(kind + " " + step + " " + when)
}

// undo takes back what a flow did before the point of no return, and fails its operation. cause is why, and is
// returned, as a refusal where the vault's answer was the reason. A rewrapping that has come through, whatever it
// seemed, is finished instead: the version before no longer wraps anything.
func (c *Custody) undoChange(ctx context.Context, sp *space, f flow, cause error) (Operation, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout) // begun is begun
	defer cancel()
	a := &attempt{c, sp, &f, c.keySources(sp, &f)}
	if f.Step == stepRewrapped {
		keys, err := sp.bundle.Keys(ctx)
		if err != nil {
			return Operation{}, errors.Join(cause, fmt.Errorf("undo: %w", err))
		}
		if rewrapped(keys, f.Version) {
			if err := a.finish(ctx); err != nil {
				return Operation{}, errors.Join(cause, err)
			}
			return *sp.noteNow().Last, nil
		}
	}
	said := cause
	if b, _ := sp.keyInUse(); f.To != nil {
		said = vaultRefusal(*f.To, f.verb(), cause)
	} else if b != nil {
		said = vaultRefusal(*b, f.verb(), cause)
	}
	op := f.operation()
	op.Progress, op.Ended = Failed, time.Now()
	if r, ok := errors.AsType[*visage.Refusal](said); ok {
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
		return Operation{}, errors.Join(said, fmt.Errorf("undo: %w", err))
	}
	c.recordOrLog(ctx, sp, f.kind(), audit.Failed,
		map[audit.Detail]string{audit.DetailStep: f.Step, audit.DetailReason: op.Code})
	return Operation{}, said
}
