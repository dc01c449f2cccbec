package custody

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

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

var errHeld = errors.New("the resource is locked by its owner, or deleted")

// errOvertaken says that what was being opened was locked meanwhile.
var errOvertaken = errors.New("the resource was locked while it was opened")

// open opens a locked space by what src unwraps, however long reading it takes, unless it is locked meanwhile.
func (c *Custody) open(ctx context.Context, sp *space, src keysource.Source, load effect) error {
	if s := sp.stateNow(); s.Held || s.Deleted {
		return errHeld
	}
	asked := time.Now()
	err := c.load(ctx, sp, src, load.locks)
	class := classOf(err)
	c.tell(ctx, sp, audit.KeyUnwrap, outcomeOf(class), map[audit.Detail]string{audit.DetailClass: string(class)})
	if err != nil {
		return err
	}
	c.apply(ctx, sp, event{kind: opened, locks: load.locks, asked: asked, expired: load.expired, key: c.subject(sp)})
	if sp.stateNow().Locks != load.locks {
		return errOvertaken
	}
	return nil
}

// openOwn opens what the service's key alone opens, where an event had that follow.
func (c *Custody) openOwn(ctx context.Context, sp *space, load *effect) error {
	if load == nil {
		return nil
	}
	err := c.open(ctx, sp, c.sources(sp, &flow{}), *load)
	if err != nil {
		c.log.ErrorContext(ctx, "resource not opened", "resource", sp.id.String(), "err", err)
	}
	return err
}

// load loads the keys of a space that has been locked as often as locks says. It loads none when the space is locked
// meanwhile, which also ends it.
func (c *Custody) load(ctx context.Context, sp *space, src keysource.Source, locks uint64) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	sp.mu.Lock()
	sp.stopLoad = stop
	sp.mu.Unlock()
	if _, ok := src.(*router); !ok {
		src = bounded{c.calls, src}
	}
	err := sp.bundle.Load(ctx, overtakable{src, sp, locks})
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.stopLoad = nil
	if err == nil && sp.state.Locks != locks {
		if sp.state.Locked { // the service's key has opened it, which nobody unwraps
			sp.bundle.LockNow(sp.state.Condition.cause())
		}
		return errOvertaken
	}
	return err
}

// overtakable unwraps nothing for a space that was locked since an opening began.
type overtakable struct {
	keysource.Source
	sp    *space
	locks uint64
}

// Unwrap implements keysource.Source.
func (s overtakable) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) (inner []byte, err error) {
	if s.sp.stateNow().Locks != s.locks {
		return nil, errOvertaken
	}
	return s.Source.Unwrap(ctx, ref, blob)
}

// Lock closes a resource under a customer's key at once: no operation that starts after it returns succeeds, and the
// keys are wiped. It stays locked, also over restarts, until Unlock.
// Refusals: CustomerManagedKeyNotEnabled when the key is the service's.
func (c *Custody) Lock(ctx context.Context, id sealed.SpaceID) error {
	sp, err := c.space(ctx, id)
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	sp.adminMu.Lock()
	defer sp.adminMu.Unlock()
	_, err = c.command(ctx, sp, event{kind: lockAsked})
	return err
}

// Unlock ends what Lock began, allows a resource to open that was refused its key for more than 30 days or whose policy
// is ManualRestore, and has the key asked at once. It opens when the key says yes; State tells.
func (c *Custody) Unlock(ctx context.Context, id sealed.SpaceID) error {
	sp, err := c.space(ctx, id)
	if err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	load, err := c.unlock(ctx, sp)
	if err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	if err := c.openOwn(ctx, sp, load); err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	return nil
}

// unlock ends the owner's lock. It is recorded before it takes effect.
func (c *Custody) unlock(ctx context.Context, sp *space) (load *effect, err error) {
	sp.adminMu.Lock()
	defer sp.adminMu.Unlock()
	if _, err := c.command(ctx, sp, event{kind: unlockAsked}); err != nil {
		return nil, err
	}
	return c.apply(ctx, sp, event{kind: unlocked}), nil
}
