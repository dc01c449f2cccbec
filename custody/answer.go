package custody

import (
	"context"
	"errors"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// class is the class of a key's answer.
type class string

const (
	classOK      class = "ok"
	classDenied  class = "denied"
	classWrong   class = "wrong"
	classUnknown class = "unknown"
	classExpired class = "expired" // the key unwraps, but its expiry date has passed
)

var classes = []class{classOK, classDenied, classWrong, classUnknown, classExpired}

func classOf(err error) class {
	switch {
	case err == nil:
		return classOK
	case errors.Is(err, keysource.ErrDenied):
		return classDenied
	case errors.Is(err, keysource.ErrWrong):
		return classWrong
	}
	return classUnknown // ErrExpired too: it refuses wrapping, and only unwrapping decides about access
}

// yes reports whether the key unwraps.
func (c class) yes() bool { return c == classOK || c == classExpired }

// outcomeOf returns the audited outcome of a class.
func outcomeOf(c class) audit.Outcome {
	switch c {
	case classOK, classExpired:
		return audit.Done
	case classUnknown:
		return audit.Unknown
	}
	return audit.Refused
}

// notAsked reports whether this instance has not asked a key, because of its own settings: sources refuse with a
// *visage.Refusal only what they do not ask their store.
func notAsked(err error) bool {
	_, refusal := errors.AsType[*visage.Refusal](err)
	return refusal
}

// answer is a key's answer for the resources that depend on it.
type answer struct {
	err     error // nil: the key unwraps
	expired bool  // the key unwraps, but its expiry date has passed
	// the newest version of the key, if the version in use is disabled and the newest is not; empty: none is known
	newest string
	store  int // whose key has answered, 0 the first
	// the resource's round when its key was asked; in a later round this answer is ignored, and another is on its way
	round uint64
}

// reasonOf returns the reason of a failure, if its source gives one.
func reasonOf(err error) keysource.Reason {
	if e, ok := errors.AsType[*keysource.Error](err); ok {
		return e.Reason
	}
	return ""
}

// applyAnswer applies a key's answer to a space, unless the space has begun a new round since the key was asked. If the
// data may open, its keys are loaded with src in the background: loading takes time, and polls must go on for the other
// resources under the key. A refusal while they are loaded counts only if it is confirmed, as in a poll.
func (c *Custody) applyAnswer(ctx context.Context, sp *space, src keysource.Source, a answer) {
	e := event{kind: keyAnswered, class: classOf(a.err), store: a.store, round: a.round,
		subject: c.keySubject(sp, a.store), reason: reasonOf(a.err)}
	switch {
	case e.class == classOK && a.expired:
		e.class = classExpired
	case e.class == classDenied:
		e.explanation = c.explainRefusal(sp, a)
	case e.class == classUnknown:
		e.explanation, e.notAsked = explainError(a.err), notAsked(a.err)
	case e.class == classWrong:
		c.log.ErrorContext(ctx, "wrong key: another key answers for a resource", "resource", sp.id.String(), "err",
			a.err)
	}
	load := c.applyRefusal(ctx, sp, e)
	if load == nil {
		return
	}
	c.background.Go(func() {
		err := c.openData(ctx, sp, src, *load)
		if classOf(err) == classDenied {
			err = c.confirmOpening(ctx, sp, *load)
		}
		if err == nil {
			return
		}
		class := classOf(err)
		if class != classDenied && class != classWrong {
			c.log.WarnContext(ctx, "resource not opened", "resource", sp.id.String(), "err", err)
		}
		failed := event{kind: openingFailed, class: class, lockCount: load.lockCount, round: a.round,
			store: load.store, reason: reasonOf(err),
			explanation: c.explainRefusal(sp, answer{err: err, store: load.store})}
		c.applyRefusal(ctx, sp, failed)
	})
}

// applyRefusal is applyEvent for an event that may be a refusal. Of several keys, it stores whose refusal locks the
// data before it locks: after a crash between the lock and its note, another key would open what the first has refused.
func (c *Custody) applyRefusal(ctx context.Context, sp *space, e event) (load *effect) {
	sp.mu.Lock()
	now := sp.state
	next, _ := now.On(e, c.policyLocked(sp), time.Now())
	sp.mu.Unlock()
	if next.RefusedBy == noStore || next.RefusedBy == now.RefusedBy {
		return c.applyEvent(ctx, sp, e)
	}
	c.noteRefusal(ctx, sp, now.RefusedBy, next.RefusedBy)
	load = c.applyEvent(ctx, sp, e)
	if at := sp.stateNow().RefusedBy; at != next.RefusedBy { // an unlock has begun another round meanwhile
		c.noteRefusal(ctx, sp, next.RefusedBy, at)
	}
	c.publish(ctx, sp) // after the lock, which must not wait for it
	return load
}

// noteRefusal stores whose refusal locks the data, in the place of the known one. A disk that hangs does not keep the
// data open for long, nor does a database whose commit goes on when ctx has ended.
func (c *Custody) noteRefusal(ctx context.Context, sp *space, stored, by refusal) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	noted := make(chan struct{})
	c.background.Go(func() {
		defer close(noted)
		err := c.storeAndAdopt(ctx, sp, func(n *note) { n.setRefusedBy(stored, by, c.shared) })
		if err != nil && !errors.Is(err, sealed.ErrNoSpace) {
			c.log.ErrorContext(ctx, "refusal of a resource's key not stored", "resource", sp.id.String(), "err", err)
		}
	})
	select {
	case <-noted:
	case <-ctx.Done():
	}
	cancel()
}

// confirmOpening loads keys again after a refusal, later and on new connections.
func (c *Custody) confirmOpening(ctx context.Context, sp *space, load effect) error {
	if !waitFor(ctx, confirmDelay) {
		return context.Cause(ctx) // an ended context confirms nothing
	}
	var f flow
	if n := sp.noteNow(); n.Flow != nil {
		f = *n.Flow
	}
	return c.openData(ctx, sp, c.keySources(sp, &f), load)
}
