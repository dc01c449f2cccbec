package sealed

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
)

// Processes that share a store write times that others judge: what has expired is erased, and its key destroyed. One
// whose clock is days ahead would erase what others have just stored, and what one stores whose clock is behind would
// be old at once. The server of the engine has a clock as well, which all of them can ask: a process whose own clock is
// far from it does nothing.

const (
	// mostOff is how far the clocks may be apart: little beside the days after which stored people and deleted
	// resources are erased, and more than clocks that are set from a network differ.
	mostOff = 15 * time.Minute
	// compareEvery is how often they are compared. A clock that is set in between is noticed at once: see clock.off.
	compareEvery = 10 * time.Second
	// mostUnsure is how long an answer of the server may take to be of use.
	mostUnsure = time.Minute
)

// ClockError says that the clock of this machine and that of the engine's server are too far apart. It is a
// visage.Outage.
type ClockError struct {
	Off time.Duration // how far the machine's clock is ahead; negative: behind
}

// Error says by how much, and what helps.
func (e *ClockError) Error() string {
	off, which := e.Off, "ahead of"
	if off < 0 {
		off, which = -off, "behind"
	}
	return fmt.Sprintf("the clock of this machine is %v %s the database's clock; at most %v is allowed: correct "+
		"whichever is wrong, for example with NTP", off.Round(time.Second), which, mostOff)
}

// Outage is the sentence for a caller.
func (e *ClockError) Outage() string {
	return "The clocks of this server and of its database differ too much, so the server does nothing until they " +
		"agree. Try again later."
}

// clock compares the clock of this machine with that of an engine's server.
type clock struct {
	server engine.Clock // nil: there is none, and nothing to compare
	last   atomic.Pointer[comparison]
}

// comparison is how far the machine's clock was ahead at a moment.
type comparison struct {
	at  time.Time
	off time.Duration
}

// compare asks the server. When that fails, the last comparison holds.
func (c *clock) compare(ctx context.Context) {
	if c.server == nil {
		return
	}
	before := time.Now()
	theirs, err := c.server.Now(ctx)
	took := time.Since(before)
	if err != nil || took > mostUnsure {
		return
	}
	at := before.Add(took / 2)
	c.last.Store(&comparison{at, at.Round(0).Sub(theirs)})
}

// off returns how far the machine's clock is ahead now; 0 before the first comparison. It is what the last comparison
// said, and by how much the clock was set since: the monotonic clock knows how much time has passed. The clock of a
// machine that was suspended seems to have been set, until the next comparison.
func (c *clock) off() time.Duration {
	last := c.last.Load()
	if last == nil {
		return 0
	}
	now := time.Now()
	return last.off + now.Round(0).Sub(last.at.Round(0)) - now.Sub(last.at)
}

// check returns a *ClockError if the clocks are too far apart.
func (c *clock) check() error {
	if off := c.off(); off.Abs() > mostOff {
		return &ClockError{off}
	}
	return nil
}

// punctual is an engine that does nothing while the clocks are too far apart.
type punctual struct {
	engine.Engine
	clock *clock
}

// View implements engine.Engine.
func (p punctual) View(ctx context.Context, fn func(engine.Reader) error) error {
	if err := p.clock.check(); err != nil {
		return err
	}
	return p.Engine.View(ctx, fn)
}

// Update implements engine.Engine.
func (p punctual) Update(ctx context.Context, fn func(engine.Writer) error) error {
	return p.Engine.Update(ctx, func(w engine.Writer) error {
		if err := p.clock.check(); err != nil { // also one that was set while the transaction waited
			return err
		}
		return fn(w)
	})
}

// Commit implements engine.Engine.
func (p punctual) Commit(
	ctx context.Context, scope format.ID, fn func(engine.Writer) error,
) (wait func() error, err error) {
	return p.Engine.Commit(ctx, scope, func(w engine.Writer) error {
		if err := p.clock.check(); err != nil {
			return err
		}
		return fn(w)
	})
}
