package custody

import (
	"context"
	"errors"
	"slices"
	"strconv"

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

// plan is the steps of a change, in the order in which they are taken. From the step commit on, which is the point of
// no return, a change is finished; before it, it is taken back by the undo of the steps up to the one it stands at,
// last first. A plan knows what is to be done, and nothing of who does it.
type plan struct {
	steps  []step
	commit string
}

var (
	// turning brings the data under another data key.
	turning = plan{[]step{
		{name: stepWrapped, run: (*attempt).wrap, undo: (*attempt).discard},
		{name: stepIntended, run: (*attempt).intend},
		{name: stepPending, run: func(*attempt, context.Context) error { return nil }},
		{name: stepAcked, run: (*attempt).acknowledge},
		{name: stepTurned, run: (*attempt).turn, asks: true},
		{name: stepDestroyed, run: (*attempt).destroy, asks: true},
		{name: stepDone, run: (*attempt).finish},
	}, stepPending}
	// rewrapping goes over to another version of the same key.
	rewrapping = plan{[]step{
		{name: stepIntended, run: (*attempt).intend},
		{name: stepRewrapped, run: (*attempt).rewrap, asks: true},
		{name: stepDone, run: (*attempt).finish},
	}, stepDone}
)

// index returns where a step stands, -1 for one of another plan.
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
	flow   *flow
	bundle *sealed.Bundle
	src    keysource.Source                // wraps with the key that the change goes to
	load   func(ctx context.Context) error // opens the data; nil: it is locked
	record func(ctx context.Context, kind audit.Kind, outcome audit.Outcome, details map[audit.Detail]string) error
	end    func(ctx context.Context) error // puts the new key in charge of the resource
}

// wrap makes the new generation. One that an attempt before has left behind is taken out first: nothing was sealed
// under it.
func (a *attempt) wrap(ctx context.Context) error {
	if a.load != nil { // what is not open yet would not open by itself with a second generation there
		if err := a.load(ctx); err != nil {
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
	generation, err := a.bundle.Wrap(ctx, to)
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
	keys, err := a.bundle.Keys(ctx)
	if err != nil {
		return err
	}
	for _, s := range keys.Slots {
		if !s.Current {
			err = errors.Join(err, a.bundle.Discard(ctx, s.Generation))
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
	return a.bundle.Turn(ctx, a.flow.Generation, a.src)
}

func (a *attempt) destroy(ctx context.Context) error {
	if err := a.bundle.Retire(ctx, a.src); err != nil {
		return err
	}
	return a.record(ctx, audit.CustodyEpoch, audit.Done,
		map[audit.Detail]string{audit.DetailGeneration: strconv.FormatUint(uint64(a.flow.Generation), 10)})
}

func (a *attempt) rewrap(ctx context.Context) error {
	if err := a.bundle.Rewrap(ctx, a.src); err != nil {
		return err
	}
	return a.record(ctx, audit.KeyWrap, audit.Done, nil)
}

func (a *attempt) finish(ctx context.Context) error { return a.end(ctx) }

func rewrapped(keys sealed.Keys, version string) bool {
	return slices.ContainsFunc(keys.Slots, func(s sealed.Slot) bool { return s.Current && s.Ref.Version == version })
}
