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

func (f flow) road() []string {
	if f.Kind == Updating || f.Kind == Following {
		return shortRoad
	}
	return longRoad
}

// forward reports whether a flow can no longer be undone.
func (f flow) forward() bool {
	road := f.road()
	point := stepPending
	if f.Kind == Updating || f.Kind == Following {
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

func (sp *space) claim() bool {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.note.Flow != nil || sp.busy {
		return false
	}
	sp.busy = true
	return true
}

func (sp *space) release() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.busy = false
}

// change begins a change towards a key that was checked and takes it to the point of no return; Run goes on from there.
// The caller has claimed the space, except for one that follows.
func (c *Custody) change(ctx context.Context, sp *space, kind OperationKind, to *binding, version string) (Operation, error) {
	if kind == Following {
		if !sp.claim() {
			return Operation{}, errConflict()
		}
		defer sp.release()
	}
	f := flow{ID: rand.Text(), Kind: kind, To: to, Version: version, Started: time.Now()}
	f.Step = f.road()[0]
	if err := sp.edit(ctx, func(n *note) { n.Flow = &f }); err != nil {
		return Operation{}, err
	}
	c.place(sp)
	for !f.forward() {
		if err := c.step(ctx, sp, &f); err != nil {
			return Operation{}, c.undo(ctx, sp, f, err)
		}
	}
	if kind == Updating || kind == Following { // one step is left, and it asks nobody
		if err := c.step(ctx, sp, &f); err != nil {
			c.start()
			return f.operation(), nil
		}
		return *sp.now().Last, nil
	}
	return f.operation(), nil
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
	if err := sp.edit(ctx, func(n *note) { n.Flow = &next }); err != nil {
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
	err := sp.edit(ctx, func(n *note) { n.Key, n.Flow, n.Last, n.Changed = f.To, nil, &op, op.Ended })
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

// undo takes back what a flow did before the point of no return. cause is why, and is returned, as a refusal where the
// vault's answer was the reason.
func (c *Custody) undo(ctx context.Context, sp *space, f flow, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime) // begun is begun
	defer cancel()
	key, _ := sp.inUse()
	said := cause
	if _, ok := errors.AsType[*visage.Refusal](cause); !ok {
		b := f.To
		if b == nil {
			b = key
		}
		if b != nil {
			said = refusal(*b, f.Step, cause)
		}
	}
	op := f.operation()
	op.Progress, op.Ended = Failed, time.Now()
	if r, ok := errors.AsType[*visage.Refusal](said); ok {
		op.Code, op.Reason = r.Code, r.Message
	}
	if f.road()[0] == stepWrapped {
		if err := discard(ctx, sp); err != nil {
			c.start() // Run tries again
			return errors.Join(said, fmt.Errorf("undo: %w", err))
		}
	}
	if err := sp.edit(ctx, func(n *note) { n.Flow, n.Last = nil, &op }); err != nil {
		c.start()
		return errors.Join(said, fmt.Errorf("undo: %w", err))
	}
	c.place(sp)
	c.tell(ctx, sp, f.kind(), audit.Failed, map[audit.Detail]string{audit.DetailStep: f.Step, audit.DetailReason: op.Code})
	return said
}

// drive finishes a change that was found or handed over. It waits while a key does not answer, and is what keeps the
// resource's lease meanwhile: every attempt has the keys unwrap. The caller has claimed the space.
func (c *Custody) drive(ctx context.Context, sp *space) {
	defer sp.release()
	failures := 0
	for ctx.Err() == nil {
		n := sp.now()
		if n.Flow == nil {
			return
		}
		f, err := *n.Flow, error(nil)
		switch {
		case n.Held:
			err = errHeld
		case !f.forward():
			err = c.goBack(ctx, sp, f)
		default:
			err = c.goOn(ctx, sp, f)
		}
		switch {
		case err == nil:
			return
		case errors.Is(err, sealed.ErrNoSpace):
			c.forget(sp)
			return
		case ctx.Err() != nil:
			return
		}
		wait := pollTime
		if !errors.Is(err, errHeld) && (f.forward()) {
			c.log.WarnContext(ctx, "change of keys waits", "resource", sp.id.String(), "step", f.Step, "err", err)
			if classOf(err) == classDenied && pause(ctx, confirmDelay) {
				err = c.goOn(ctx, sp, f) // the sources are new each time
			}
			if err == nil {
				return
			}
			if ctx.Err() == nil {
				c.answered(ctx, sp, nil, err, false)
			}
			if classOf(err) == classUnknown {
				wait = min(time.Second<<min(failures, 5), pollTime)
				failures++
			}
		}
		timer := time.NewTimer(spread(wait))
		select {
		case <-ctx.Done():
		case <-sp.kick:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// goBack ends a change that was interrupted before the point of no return. A rewrapping that had come through is finished
// instead.
func (c *Custody) goBack(ctx context.Context, sp *space, f flow) error {
	keys, err := sp.bundle.Keys(ctx)
	if err != nil {
		return err
	}
	if f.Step == stepRewrapped && slices.ContainsFunc(keys.Slots, func(s sealed.Slot) bool { return s.Current && s.Ref.Version == f.Version }) {
		return c.finish(ctx, sp, f)
	}
	said := c.undo(ctx, sp, f, errInterrupted)
	if sp.now().Flow != nil {
		return said
	}
	key, _ := sp.inUse()
	if key == nil { // the service's key alone opens it again
		src := c.sources(sp, &f)
		if err := c.open(ctx, sp, src); err != nil {
			return err
		}
		sp.mu.Lock()
		sp.cond, sp.since, sp.code, sp.reason = ServiceManaged, time.Now(), "", ""
		sp.mu.Unlock()
	}
	return nil
}

var errInterrupted = visage.Refuse(visage.Unavailable, "OperationInterrupted",
	"The service was stopped before the change could be made; nothing has changed. Ask for it again.")

// goOn takes the steps that are left.
func (c *Custody) goOn(ctx context.Context, sp *space, f flow) error {
	sp.mu.Lock()
	shut := sp.shut
	sp.mu.Unlock()
	if shut {
		if err := c.open(ctx, sp, c.sources(sp, &f)); err != nil {
			return err
		}
		c.tell(ctx, sp, audit.CustodyRestore, audit.Done, nil)
	}
	for {
		last := f.Step == stepDone
		if err := c.step(ctx, sp, &f); err != nil || last {
			return err
		}
		sp.mu.Lock()
		sp.lastOK = time.Now()
		sp.mu.Unlock()
		sp.bundle.Renew(time.Now().Add(c.policy(sp).Grace))
	}
}

// sources returns a source that wraps with the key a flow goes to, and unwraps with whichever key it is asked for. The
// keys are opened when they are first needed: one that is left behind may be gone when the flow ends.
func (c *Custody) sources(sp *space, f *flow) *router {
	r := &router{c: c, opened: map[string]keysource.Source{}, known: map[string]openable{}}
	if key, version := sp.inUse(); key != nil {
		r.known[key.Key.Unversioned()] = openable{key.at(version), key.As}
	}
	if f.To != nil {
		r.target = f.To.Key.Unversioned()
		r.known[r.target] = openable{f.To.at(f.Version), f.To.As}
	}
	return r
}

type openable struct {
	key visage.KeyRef
	as  visage.PrincipalID
}

// router is the keys of one change, for one caller at a time.
type router struct {
	c      *Custody
	target string // what wraps
	known  map[string]openable
	opened map[string]keysource.Source
}

func (r *router) to(ctx context.Context, uri string) (keysource.Source, error) {
	if src := r.opened[uri]; src != nil {
		return src, nil
	}
	k, ok := r.known[uri]
	if !ok {
		return nil, fmt.Errorf("key %s has no part in this: %w", uri, keysource.ErrWrong)
	}
	src, err := r.c.cfg.Open(ctx, k.key, k.as)
	if err != nil {
		return nil, err
	}
	r.opened[uri] = src
	return src, nil
}

// Wrap implements keysource.Source.
func (r *router) Wrap(ctx context.Context, inner []byte) (blob []byte, ref keysource.Ref, err error) {
	src, err := r.to(ctx, r.target)
	if err != nil {
		return nil, keysource.Ref{}, err
	}
	err = r.c.calling(ctx, func(ctx context.Context) error {
		blob, ref, err = src.Wrap(ctx, inner)
		return err
	})
	return blob, ref, err
}

// Unwrap implements keysource.Source.
func (r *router) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) (inner []byte, err error) {
	src, err := r.to(ctx, ref.URI)
	if err != nil {
		return nil, err
	}
	err = r.c.calling(ctx, func(ctx context.Context) error {
		inner, err = src.Unwrap(ctx, ref, blob)
		return err
	})
	return inner, err
}

// Describe implements keysource.Source.
func (r *router) Describe(ctx context.Context, ref keysource.Ref) (d keysource.Description, err error) {
	uri := ref.URI
	if uri == "" {
		uri = r.target
	}
	src, err := r.to(ctx, uri)
	if err != nil {
		return d, err
	}
	err = r.c.calling(ctx, func(ctx context.Context) error {
		d, err = src.Describe(ctx, ref)
		return err
	})
	return d, err
}
