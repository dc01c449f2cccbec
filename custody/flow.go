package custody

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// flow is a change under way, as it is kept with the keys. A step is written down before it is taken, and can be taken
// again.
type flow struct {
	ID         string        `json:"id"`
	Kind       OperationKind `json:"kind"`
	Step       string        `json:"step"`
	To         *binding      `json:"to,omitempty"`         // nil: the service's key
	Version    string        `json:"version,omitempty"`    // of To, the one that wraps
	Generation uint32        `json:"generation,omitempty"` // what the turn goes to; zero until it is wrapped
	Started    time.Time     `json:"started"`
}

func (f flow) operation() Operation {
	return Operation{ID: f.ID, Kind: f.Kind, Progress: Running, Step: f.Step, Started: f.Started}
}

// The steps, in the order in which they are taken. Tests fail at each, by these names.
const (
	stepChecked   = "checked"   // the keys answer, and are fit
	stepWrapped   = "wrapped"   // a new generation, wrapped, unwrapped again and compared
	stepIntended  = "intended"  // what is about to happen is in the audit log
	stepPending   = "pending"   // from here on there is no way back
	stepAcked     = "acked"     // a new connection has found the key to answer
	stepTurned    = "turned"    // every key page is under the new generation and a new epoch
	stepDestroyed = "destroyed" // what the old key could open is gone
	stepRewrapped = "rewrapped" // the same data key under another version; no page changes
	stepDone      = "done"
)

var (
	longRoad  = []string{stepWrapped, stepIntended, stepPending, stepAcked, stepTurned, stepDestroyed, stepDone}
	shortRoad = []string{stepIntended, stepRewrapped, stepDone}
)

// short reports whether the data key stays, and is wrapped anew.
func (f flow) short() bool { return f.Kind == Updating || f.Kind == Following }

func (f flow) road() []string {
	if f.short() {
		return shortRoad
	}
	return longRoad
}

// forward reports whether a flow can no longer be undone.
func (f flow) forward() bool {
	road, point := f.road(), stepPending
	if f.short() {
		point = stepDone
	}
	return slices.Index(road, f.Step) >= slices.Index(road, point)
}

// cleanTime is how long undoing a change may take once its caller has left.
const cleanTime = 30 * time.Second

// claimFlow takes a flow that nobody drives.
func (sp *space) claimFlow() bool {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.note.Flow == nil || sp.busy {
		return false
	}
	sp.busy = true
	return true
}

// claim takes a space for a change, if there is none. One that everybody sees has ended is none: its rest is waited for.
func (sp *space) claim() bool {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for sp.note.Flow == nil && sp.busy && sp.ending != nil {
		rest := sp.ending
		sp.mu.Unlock()
		<-rest
		sp.mu.Lock()
	}
	if sp.note.Flow != nil || sp.busy {
		return false
	}
	sp.busy = true
	return true
}

// end says that the change is over as soon as the note says so.
func (sp *space) end() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.busy && sp.ending == nil {
		sp.ending = make(chan struct{})
	}
}

func (sp *space) release() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.busy = false
	if sp.ending != nil {
		close(sp.ending)
		sp.ending = nil
	}
}

// change begins a change towards a key that was checked and takes it to the point of no return; Run goes on from there.
// The caller has claimed the space.
func (c *Custody) change(ctx context.Context, sp *space, kind OperationKind, to *binding, version string) (Operation, error) {
	f := flow{ID: rand.Text(), Kind: kind, To: to, Version: version, Started: time.Now()}
	f.Step = f.road()[0]
	begun := f // the note is read while f moves on
	if err := sp.edit(ctx, func(n *note) { n.Flow = &begun }); err != nil {
		return Operation{}, err
	}
	c.place(sp)
	for !f.forward() {
		if err := c.step(ctx, sp, &f); err != nil {
			return c.undo(ctx, sp, f, err)
		}
	}
	if !f.short() {
		return f.operation(), nil
	}
	if err := c.step(ctx, sp, &f); err != nil { // the last step, which asks nobody
		c.log.WarnContext(ctx, "change of keys waits", "resource", sp.id.String(), "step", f.Step, "err", err)
		c.start()
		return f.operation(), nil
	}
	return *sp.now().Last, nil
}

// step takes the step that f stands at and writes the next one down.
func (c *Custody) step(ctx context.Context, sp *space, f *flow) error {
	name := f.Step
	err := c.failPoint(string(f.Kind), name, "before")
	if err == nil {
		err = c.take(ctx, sp, f)
	}
	if err == nil {
		err = c.failPoint(string(f.Kind), name, "after")
	}
	if err != nil || name == stepDone {
		return err
	}
	road := f.road()
	next := *f
	next.Step = road[slices.Index(road, name)+1]
	err = sp.edit(ctx, func(n *note) {
		step := next
		step.To = n.to(next)
		n.Flow = &step
	})
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

// take does what a step says. Every step finds out by itself whether it was taken already.
func (c *Custody) take(ctx context.Context, sp *space, f *flow) error {
	src := c.sources(sp, f)
	switch f.Step {
	case stepWrapped:
		return c.wrap(ctx, sp, f, src)
	case stepIntended:
		return c.record(ctx, sp, f.kind(), audit.Unknown, f.To, f.Version, map[audit.Detail]string{audit.DetailStep: stepIntended})
	case stepAcked:
		if f.To == nil {
			return nil
		}
		_, err := roundTrip(ctx, src)
		return err
	case stepTurned:
		return sp.bundle.Turn(ctx, f.Generation, src)
	case stepDestroyed:
		if err := sp.bundle.Retire(ctx, src); err != nil {
			return err
		}
		return c.record(ctx, sp, audit.CustodyEpoch, audit.Done, f.To, f.Version,
			map[audit.Detail]string{audit.DetailGeneration: strconv.FormatUint(uint64(f.Generation), 10)})
	case stepRewrapped:
		if err := sp.bundle.Rewrap(ctx, src); err != nil {
			return err
		}
		return c.record(ctx, sp, audit.KeyWrap, audit.Done, f.To, f.Version, nil)
	case stepDone:
		return c.finish(ctx, sp, *f)
	}
	return nil // pending: that it is written down is all
}

// wrap makes the new generation. One that an attempt before has left behind is taken out first: nothing was sealed under
// it.
func (c *Custody) wrap(ctx context.Context, sp *space, f *flow, src keysource.Source) error {
	sp.mu.Lock()
	shut := sp.shut
	sp.mu.Unlock()
	if !shut { // what is not open yet would not open by itself with a second generation there
		if err := sp.bundle.Load(ctx, src); err != nil {
			return err
		}
	}
	if err := discard(ctx, sp); err != nil {
		return err
	}
	var to keysource.Source
	if f.To != nil {
		to = src
	}
	generation, err := sp.bundle.Wrap(ctx, to)
	if err != nil {
		return err
	}
	f.Generation = generation
	if f.To == nil {
		return nil
	}
	return c.record(ctx, sp, audit.KeyWrap, audit.Done, f.To, f.Version, nil)
}

// discard takes out generations that no turn has begun with.
func discard(ctx context.Context, sp *space) error {
	keys, err := sp.bundle.Keys(ctx)
	if err != nil {
		return err
	}
	for _, s := range keys.Slots {
		if !s.Current {
			err = errors.Join(err, sp.bundle.Discard(ctx, s.Generation))
		}
	}
	return err
}

func (f flow) kind() audit.Kind {
	switch f.Kind {
	case Enabling:
		return audit.CustodyEnable
	case Disabling:
		return audit.CustodyDisable
	case Following, Updating:
		return audit.CustodyFollow
	}
	return audit.CustodySwitch
}

// finish puts the new key in charge of the resource.
func (c *Custody) finish(ctx context.Context, sp *space, f flow) error {
	if err := c.record(ctx, sp, f.kind(), audit.Done, f.To, f.Version, nil); err != nil {
		return err
	}
	op := f.operation()
	op.Progress, op.Step, op.Ended = Succeeded, "", time.Now()
	sp.end()
	err := sp.edit(ctx, func(n *note) {
		n.Key, n.Flow, n.Last = n.to(f), nil, &op
		if f.Kind == Following {
			n.Followed = op.Ended
		}
	})
	if err != nil {
		return err
	}
	if f.To == nil {
		sp.mu.Lock()
		sp.cond, sp.since, sp.code, sp.reason = ServiceManaged, op.Ended, "", ""
		sp.lastOK, sp.next = time.Time{}, time.Time{}
		sp.mu.Unlock()
		sp.bundle.Renew(time.Time{})
	} else {
		sp.mu.Lock()
		shut := sp.shut
		if !shut {
			sp.lastOK, sp.code, sp.reason = op.Ended, "", ""
			if sp.cond != Active {
				sp.cond, sp.since = Active, op.Ended
			}
		}
		sp.mu.Unlock()
		if !shut {
			sp.bundle.Renew(op.Ended.Add(c.policy(sp).Grace))
		}
	}
	c.place(sp)
	return nil
}

// undo takes back what a flow did before the point of no return, and fails its operation. cause is why, and is returned,
// as a refusal where the vault's answer was the reason. A rewrapping that has come through, whatever it seemed, is finished
// instead: the version before no longer wraps anything.
func (c *Custody) undo(ctx context.Context, sp *space, f flow, cause error) (Operation, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime) // begun is begun
	defer cancel()
	defer c.place(sp)
	if f.Step == stepRewrapped {
		keys, err := sp.bundle.Keys(ctx)
		if err != nil {
			c.start() // Run tries again
			return Operation{}, errors.Join(cause, fmt.Errorf("undo: %w", err))
		}
		if rewrapped(keys, f.Version) {
			if err := c.finish(ctx, sp, f); err != nil {
				c.start()
				return Operation{}, errors.Join(cause, err)
			}
			return *sp.now().Last, nil
		}
	}
	said := cause
	if b, _ := sp.inUse(); f.To != nil {
		said = refusal(*f.To, f.verb(), cause)
	} else if b != nil {
		said = refusal(*b, f.verb(), cause)
	}
	op := f.operation()
	op.Progress, op.Ended = Failed, time.Now()
	if r, ok := errors.AsType[*visage.Refusal](said); ok {
		op.Code, op.Reason = r.Code, r.Message
	}
	var err error
	if !f.short() {
		err = discard(ctx, sp)
	}
	if err == nil {
		sp.end()
		err = sp.edit(ctx, func(n *note) { n.Flow, n.Last = nil, &op })
	}
	if err != nil {
		c.start()
		return Operation{}, errors.Join(said, fmt.Errorf("undo: %w", err))
	}
	c.tell(ctx, sp, f.kind(), audit.Failed, map[audit.Detail]string{audit.DetailStep: f.Step, audit.DetailReason: op.Code})
	return Operation{}, said
}

// verb is what the step before the point of no return asks of a key.
func (f flow) verb() string {
	if f.To == nil {
		return "unwrapKey"
	}
	return "wrapKey"
}

func rewrapped(keys sealed.Keys, version string) bool {
	return slices.ContainsFunc(keys.Slots, func(s sealed.Slot) bool { return s.Current && s.Ref.Version == version })
}
