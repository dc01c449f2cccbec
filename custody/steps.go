package custody

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// The names of the steps, as they are stored. The fail points of tests have the same names.
const (
	stepChecked   = "checked"   // both keys answer and are suitable; no flow is stored yet
	stepWrapped   = "wrapped"   // a new data key is wrapped, unwrapped again and compared
	stepIntended  = "intended"  // the intention is in the audit log
	stepPending   = "pending"   // the point of no return is stored; nothing else happens
	stepAcked     = "acked"     // the new key has answered on a new connection
	stepTurned    = "turned"    // every key page is under the new data key and a new epoch
	stepDestroyed = "destroyed" // the old data key and epoch key are destroyed
	stepRewrapped = "rewrapped" // another version wraps the data key; no page changes
	stepDone      = "done"      // the new key protects the resource
)

// step is one step of a change. It is stored before it is taken. run may be called again after a crash, and finds out
// whether the step was taken already.
type step struct {
	name string
	run  func(*attempt, context.Context) error
	undo func(*attempt, context.Context) error // of a step that was taken, or not; nil: nothing to undo
	asks bool                                  // the step unwraps with the keys that open the data, if a customer's do
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
	if f.Kind == Updating || f.Kind == Following || f.Kind == Adding { // no key leaves, so the pages stay
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
		{name: stepAcked, run: (*attempt).acknowledge, asks: true},
		{name: stepTurned, run: (*attempt).turn},
		{name: stepDestroyed, run: (*attempt).destroy},
		{name: stepDone, run: (*attempt).finish},
	}, stepPending}
}

// Steps returns the names of the steps of a kind of change, in the order in which they are taken, and the step that is
// the point of no return: until it begins, a failure undoes the change. Operation.Step is one of them.
func Steps(kind OperationKind) (steps []string, commit string) {
	p := flow{Kind: kind}.plan()
	for _, s := range p.steps {
		steps = append(steps, s.name)
	}
	return steps, p.commit
}

// index returns the position of a step, -1 for one of another plan.
func (p plan) index(name string) int {
	return slices.IndexFunc(p.steps, func(s step) bool { return s.name == name })
}

// undo undoes the steps up to the current one of the attempt's flow, last first.
func (p plan) undo(ctx context.Context, a *attempt) (err error) {
	for i := p.index(a.flow.Step); i >= 0; i-- {
		if undo := p.steps[i].undo; undo != nil {
			err = errors.Join(err, undo(a, ctx))
		}
	}
	return err
}

// attempt is one attempt to take a step of a change, with freshly opened keys.
type attempt struct {
	c    *Custody
	sp   *space
	flow *flow
	src  *changeSource
}

// record audits an event of the new key of the change.
func (a *attempt) record(
	ctx context.Context, kind audit.Kind, outcome audit.Outcome, details map[audit.Detail]string,
) error {
	if kind == audit.CustodyStore {
		more := a.flow.details()
		maps.Copy(more, details)
		details = more
	}
	return a.c.record(ctx, a.sp, kind, outcome, a.flow.To, a.flow.Version, details)
}

// wrap makes and wraps a new data key. It discards the one that an earlier attempt has left, under which nothing was
// sealed.
func (a *attempt) wrap(ctx context.Context) error {
	if s := a.sp.stateNow(); !s.DataLocked { // data that was not loaded yet would not open with two generations
		if err := a.c.loadKeys(ctx, a.sp, a.src, effect{lockCount: s.LockCount}); err != nil {
			return err
		}
	}
	if err := a.discard(ctx); err != nil {
		return err
	}
	generation, err := a.sp.bundle.Wrap(ctx, a.src.to()...)
	if err != nil {
		return err
	}
	a.flow.Generation = generation
	if a.flow.To == nil || a.flow.Kind == Removing {
		return nil
	}
	return a.record(ctx, audit.KeyWrap, audit.Done, nil)
}

// discard discards all data keys that no turn has begun with.
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

// intend audits the change before anything irreversible happens.
func (a *attempt) intend(ctx context.Context) error {
	if a.flow.Kind == Promoting {
		if err := a.c.requireSilence(ctx, a.sp); err != nil {
			return err
		}
	}
	return a.record(ctx, a.flow.kind(), audit.Unknown, map[audit.Detail]string{audit.DetailStep: stepIntended})
}

// acknowledge has the new first key unwrap the probe of the new data key once more, on a new connection. The further
// keys are not asked: a change that can no longer be undone must not wait for a key that decides nothing.
func (a *attempt) acknowledge(ctx context.Context) error {
	if len(a.src.after) == 0 {
		return nil
	}
	uri := a.src.first()
	return a.sp.bundle.ProbeNext(ctx, a.flow.Generation, uri, a.src.of(uri))
}

// turn seals every key page under the new data key and a new epoch.
func (a *attempt) turn(ctx context.Context) error {
	return a.sp.bundle.Turn(ctx, a.flow.Generation, a.src)
}

// destroy destroys the old data key and epoch key.
func (a *attempt) destroy(ctx context.Context) error {
	if err := a.sp.bundle.Retire(ctx, a.src); err != nil {
		return err
	}
	return a.record(ctx, audit.CustodyEpoch, audit.Done,
		map[audit.Detail]string{audit.DetailGeneration: strconv.FormatUint(uint64(a.flow.Generation), 10)})
}

// rewrap has the keys of the change wrap a new data key. To another version of one key it goes alone, with the same
// data key, if another store does not answer: the versions of a key must not wait for the stores of others. A no of the
// first key ends the change, after which a watch asks that key at once.
func (a *attempt) rewrap(ctx context.Context) error {
	err := a.sp.bundle.Rewrap(ctx, a.src, a.src.to()...)
	if moves := a.flow.Kind == Updating || a.flow.Kind == Following; err != nil && moves && len(a.src.after) > 1 &&
		!a.firstRefuses(err) &&
		(isKeyAnswer(err) || errors.Is(err, keysource.ErrExpired)) { // expired: it still opens, and wraps no more
		uri := a.src.after[a.flow.Store]
		a.flow.Opens = a.flow.Store // no other one has answered
		err = a.sp.bundle.RewrapSlot(ctx, uri, a.src.of(uri))
	}
	if err != nil {
		return err
	}
	return a.record(ctx, audit.KeyWrap, audit.Done, nil)
}

// firstRefuses reports whether an error is a no of the first of the keys that wrap.
func (a *attempt) firstRefuses(err error) bool {
	failed, ok := errors.AsType[*storeError](err)
	class := classOf(err)
	return ok && failed.of.Key.Unversioned() == a.src.first() && (class == classDenied || class == classWrong)
}

// finish makes the new key the key of the resource and ends the flow.
func (a *attempt) finish(ctx context.Context) error {
	if err := a.record(ctx, a.flow.kind(), audit.Done, nil); err != nil {
		return err
	}
	f, op := *a.flow, a.flow.operation()
	op.Progress, op.Step, op.Ended = Succeeded, "", time.Now()
	a.sp.markEnding()
	e := event{kind: finishedCustomer, stores: len(f.After), kept: f.Kind == Updating || f.Kind == Following}
	if f.Kind == Disabling {
		e.kind = finishedService
	}
	load, err := a.c.storeAndApply(ctx, a.sp, func(n *note) {
		var all []binding
		for _, k := range n.principals(f).After {
			all = append(all, k.binding)
		}
		n.Key, n.Others = nil, nil
		if len(all) > 0 {
			n.Key, n.Others = &all[0], nilIfEmpty(all[1:])
		}
		if n.Flow, n.Last = nil, &op; !e.kept {
			n.RefusedBy = noStore
		}
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

// rewrapped reports whether exactly these keys wrap the current data key, in these versions.
func rewrapped(keys sealed.Keys, after []storeKey) bool {
	var current []sealed.Slot
	for _, s := range keys.Slots {
		if s.Current {
			current = append(current, s)
		}
	}
	return slices.EqualFunc(current, after, func(s sealed.Slot, k storeKey) bool {
		return s.Ref == keysource.Ref{URI: k.uri(), Version: k.Version}
	})
}
