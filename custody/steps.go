package custody

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// The names of the steps, as they are kept. Tests fail at each, by these names.
const (
	stepChecked   = "checked"   // the keys answer, and are fit; before there is a flow
	stepWrapped   = "wrapped"   // a new generation, wrapped, unwrapped again and compared
	stepIntended  = "intended"  // what is about to happen is in the audit log
	stepPending   = "pending"   // written down, and that is all
	stepAcked     = "acked"     // a new connection has found the key to answer
	stepTurned    = "turned"    // every key page is under the new generation and a new epoch
	stepDestroyed = "destroyed" // what the old key could open is gone
	stepRewrapped = "rewrapped" // the same data key under another version; no page changes
	stepDone      = "done"      // the new key is in charge
)

// step is one step of a change. It is written down before it is taken, and finds out by itself whether it was taken
// already.
type step struct {
	name string
	run  func(*attempt, context.Context) error
	undo func(*attempt, context.Context) error // takes it back, taken or not; nil: it leaves nothing behind
	asks bool                                  // the keys that open the data have been unwrapped when it was taken
}

// plan lists the steps of a change in the order in which they are taken. The step commit is the point of no return:
// from there on a change is finished. Before it, a change is undone: the steps up to the current one are undone, last
// first.
type plan struct {
	steps  []step
	commit string
}

// plan returns the steps of a flow.
func (f flow) plan() plan {
	if f.Kind == Updating || f.Kind == Following { // to another version of the same key
		return plan{[]step{
			{name: stepIntended, run: (*attempt).intend},
			{name: stepRewrapped, run: (*attempt).rewrap, asks: true},
			{name: stepDone, run: (*attempt).finish},
		}, stepDone}
	}
	return plan{[]step{ // to another data key
		{name: stepWrapped, run: (*attempt).wrap, undo: (*attempt).discard},
		{name: stepIntended, run: (*attempt).intend},
		{name: stepPending, run: func(*attempt, context.Context) error { return nil }},
		{name: stepAcked, run: (*attempt).acknowledge},
		{name: stepTurned, run: (*attempt).turn, asks: true},
		{name: stepDestroyed, run: (*attempt).destroy, asks: true},
		{name: stepDone, run: (*attempt).finish},
	}, stepPending}
}

// index returns the position of a step, -1 for one of another plan.
func (p plan) index(name string) int {
	return slices.IndexFunc(p.steps, func(s step) bool { return s.name == name })
}

// undo takes back what was done up to the step that the attempt's flow stands at.
func (p plan) undo(ctx context.Context, a *attempt) (err error) {
	for i := p.index(a.flow.Step); i >= 0; i-- {
		if undo := p.steps[i].undo; undo != nil {
			err = errors.Join(err, undo(a, ctx))
		}
	}
	return err
}

// attempt is what the steps of a change work on.
type attempt struct {
	c    *Custody
	sp   *space
	flow *flow
	src  keysource.Source // wraps with the key that the change goes to
}

// record audits something about the key that the change goes to.
func (a *attempt) record(
	ctx context.Context, kind audit.Kind, outcome audit.Outcome, details map[audit.Detail]string,
) error {
	return a.c.record(ctx, a.sp, kind, outcome, a.flow.To, a.flow.Version, details)
}

// wrap makes the new generation. One that an attempt before has left behind is taken out first: nothing was sealed
// under it.
func (a *attempt) wrap(ctx context.Context) error {
	if s := a.sp.stateNow(); !s.Locked { // what is not open yet would not open with a second generation there
		if err := a.c.loadKeys(ctx, a.sp, a.src, s.Locks); err != nil {
			return err
		}
	}
	if err := a.discard(ctx); err != nil {
		return err
	}
	var to keysource.Source
	if a.flow.To != nil {
		to = a.src
	}
	generation, err := a.sp.bundle.Wrap(ctx, to)
	if err != nil {
		return err
	}
	a.flow.Generation = generation
	if a.flow.To == nil {
		return nil
	}
	return a.record(ctx, audit.KeyWrap, audit.Done, nil)
}

// discard takes out generations that no turn has begun with.
func (a *attempt) discard(ctx context.Context) error {
	keys, err := a.sp.bundle.Keys(ctx)
	if err != nil {
		return err
	}
	for _, s := range keys.Slots {
		if !s.Current {
			err = errors.Join(err, a.sp.bundle.Discard(ctx, s.Generation))
		}
	}
	return err
}

func (a *attempt) intend(ctx context.Context) error {
	return a.record(ctx, a.flow.kind(), audit.Unknown, map[audit.Detail]string{audit.DetailStep: stepIntended})
}

func (a *attempt) acknowledge(ctx context.Context) error {
	if a.flow.To == nil {
		return nil
	}
	_, err := roundTrip(ctx, a.src)
	return err
}

func (a *attempt) turn(ctx context.Context) error {
	return a.sp.bundle.Turn(ctx, a.flow.Generation, a.src)
}

func (a *attempt) destroy(ctx context.Context) error {
	if err := a.sp.bundle.Retire(ctx, a.src); err != nil {
		return err
	}
	return a.record(ctx, audit.CustodyEpoch, audit.Done,
		map[audit.Detail]string{audit.DetailGeneration: strconv.FormatUint(uint64(a.flow.Generation), 10)})
}

func (a *attempt) rewrap(ctx context.Context) error {
	if err := a.sp.bundle.Rewrap(ctx, a.src); err != nil {
		return err
	}
	return a.record(ctx, audit.KeyWrap, audit.Done, nil)
}

// finish puts the new key in charge of the resource.
func (a *attempt) finish(ctx context.Context) error {
	if err := a.record(ctx, a.flow.kind(), audit.Done, nil); err != nil {
		return err
	}
	f, op := *a.flow, a.flow.operation()
	op.Progress, op.Step, op.Ended = Succeeded, "", time.Now()
	a.sp.markEnding()
	e := event{kind: finishedCustomer}
	if f.To == nil {
		e.kind = finishedService
	}
	load, err := a.c.storeAndApply(ctx, a.sp, func(n *note) {
		n.Key, n.Flow, n.Last = n.to(f), nil, &op
		if f.Kind == Following {
			n.Followed = op.Ended
		}
	}, e)
	if err != nil {
		return err
	}
	a.c.openWithServiceKey(ctx, a.sp, load)
	return nil
}

func rewrapped(keys sealed.Keys, version string) bool {
	return slices.ContainsFunc(keys.Slots, func(s sealed.Slot) bool { return s.Current && s.Ref.Version == version })
}
