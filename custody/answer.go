package custody

import (
	"context"
	"errors"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource"
)

// class is how a key answered.
type class string

const (
	classOK      class = "ok"
	classDenied  class = "denied"
	classWrong   class = "wrong"
	classUnknown class = "unknown"
	classExpired class = "expired" // it unwraps, and its time is over
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
	return classUnknown // ErrExpired too: it is said of wrapping, and access goes by unwrapping
}

// outcomeOf is what the audit says of a class.
func outcomeOf(c class) audit.Outcome {
	switch c {
	case classOK, classExpired:
		return audit.Done
	case classUnknown:
		return audit.Unknown
	}
	return audit.Refused
}

// verdict is what a key has answered for the resources under it.
type verdict struct {
	err     error // nil: it unwraps
	expired bool  // it is out of date, though it unwraps
	// the newest version of the key, where that is another than refuses and can be used; empty: none is known
	newest string
	// of the resource when its key was asked; in a later one this answer does not count, and another is on its way
	turn uint64
}

// reasonOf narrows a failure down, as far as its source does.
func reasonOf(err error) keysource.Reason {
	if e, ok := errors.AsType[*keysource.Error](err); ok {
		return e.Reason
	}
	return ""
}

// answered acts upon what a key has answered for a space, if the question was asked in the space's turn. What opens is
// opened with src, beside the polls: that reads what it opens, and others depend on the same key.
func (c *Custody) answered(ctx context.Context, sp *space, src keysource.Source, v verdict) {
	e := event{kind: keyAnswered, class: classOf(v.err), turn: v.turn, key: c.subject(sp)}
	switch {
	case e.class == classOK && v.expired:
		e.class = classExpired
	case e.class == classDenied:
		e.said = c.refused(sp, v)
	case e.class == classUnknown:
		e.said = why(v.err)
	case e.class == classWrong:
		c.log.ErrorContext(ctx, "wrong key: another key answers for a resource", "resource", sp.id.String(), "err",
			v.err)
	}
	load := c.apply(ctx, sp, e)
	if load == nil {
		return
	}
	c.opens.Go(func() {
		err := c.open(ctx, sp, src, *load)
		if err == nil {
			return
		}
		class := classOf(err)
		if class != classDenied && class != classWrong {
			c.log.WarnContext(ctx, "resource not opened", "resource", sp.id.String(), "err", err)
		}
		failed := event{kind: openingFailed, class: class, locks: load.locks, turn: v.turn,
			said: c.refused(sp, verdict{err: err})}
		c.apply(ctx, sp, failed)
	})
}
