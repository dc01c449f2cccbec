package custody

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// How keys are asked after. A refusal is acted upon within pollTime × 1.2 + callTime + confirmDelay + callTime +
// newestTime + the 2 s of draining: 56 s at the very worst, 40 s with a vault that answers at once.
const (
	pollInterval = 30 * time.Second // ± 20 %
	confirmDelay = 2 * time.Second  // between a refusal and the question whether it was meant
	// questions over the connection that a refusal was confirmed on, before others' are used again
	privatePolls     = 10
	pollsPerDescribe = 10               // polls between two looks at the key's dates
	followInterval   = time.Hour        // between two looks for a newer version
	followGuard      = 10 * time.Minute // a resource follows no more often than this
	newestTimeout    = confirmDelay     // to ask for the newest version, which only a sentence needs
)

// due has Run attend to a watch.
func (c *Custody) queueWatch(ctx context.Context, w *watch) {
	select {
	case c.due <- w:
	case <-ctx.Done():
	}
}

// attend polls once, unless that is under way, and sets the timer for the next time if anybody still depends on the
// key.
func (c *Custody) startPoll(ctx context.Context, work *sync.WaitGroup, w *watch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.asking { // it was woken just when its time had come
		return
	}
	asked := w.asked
	w.asking, w.asked = true, false
	work.Go(func() {
		wait, more := c.poll(ctx, w, asked)
		c.mu.Lock()
		defer c.mu.Unlock()
		w.asking = false
		if w.asked {
			wait = 0
		}
		if more && ctx.Err() == nil {
			w.timer.Reset(wait)
		}
	})
}

// poll asks once and acts upon the answer. It returns when to ask again, and whether.
func (c *Custody) poll(ctx context.Context, w *watch, asked bool) (wait time.Duration, more bool) {
	all := c.dependents(w)
	if len(all) == 0 {
		return 0, false
	}
	turns := make([]uint64, len(all))
	for i, sp := range all {
		turns[i] = sp.stateNow().Turn
	}
	err, valid := c.askKey(ctx, w, all, asked)
	if ctx.Err() != nil {
		return 0, false // an ended context is no answer
	}
	if !valid {
		return 0, true
	}
	class := classOf(err)
	switch class {
	case classOK:
		w.failures = 0
		c.checkExpiry(ctx, w, asked)
	case classUnknown:
		w.failures++
	}
	wait = jitter(pollInterval)
	if class == classUnknown {
		wait = min(jitter(time.Second<<min(w.failures-1, 5)), pollInterval)
	}
	if class == classOK && w.expired {
		class = classExpired
	}
	c.polls.WithLabelValues(string(class)).Inc()
	answer := answer{err: err, expired: w.expired}
	if class == classDenied && reasonOf(err) == keysource.Disabled {
		answer.newest = c.newestVersion(ctx, w)
	}
	next := time.Now().Add(wait)
	var work sync.WaitGroup
	for i, sp := range all {
		answer := answer
		answer.turn = turns[i]
		work.Go(func() {
			if c.dependsOn(w, sp) {
				c.applyAnswer(ctx, sp, w.src, answer)
				sp.mu.Lock()
				sp.next = next
				sp.mu.Unlock()
			}
		})
	}
	work.Wait() // locking waits for those inside, so all at once
	if err == nil && w.key.follow {
		c.beginFollow(ctx, w, all, asked)
	}
	return wait, true
}

// inquire asks the key by the probe of one of those that depend on it: the answer holds for all. A refusal is asked for
// twice, the second time on a new connection and with a new token. An answer about a resource that has left the watch
// meanwhile is not valid, and neither is one about keys that cannot be read: the next is asked then.
func (c *Custody) askKey(ctx context.Context, w *watch, all []*space, asked bool) (answer error, valid bool) {
	for _, sp := range all {
		err := c.askOnce(ctx, w, sp, false)
		if classOf(err) == classDenied && c.dependsOn(w, sp) {
			if !asked && !waitFor(ctx, confirmDelay) {
				return nil, false
			}
			err = c.askOnce(ctx, w, sp, true)
		}
		_, damaged := errors.AsType[*sealed.CorruptError](err)
		switch {
		case errors.Is(err, sealed.ErrNoSpace):
			c.forget(sp)
		case !c.dependsOn(w, sp):
		case damaged:
			c.log.ErrorContext(ctx, "keys of a resource not read", "resource", sp.id.String(), "err", err)
			answer = err
		default:
			return err, true
		}
	}
	return answer, answer != nil
}

// spread varies a time by 20 % either way, so that those that started together do not stay together.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// ask has the probe of sp unwrapped; fresh: on a new connection, with a new token.
func (c *Custody) askOnce(ctx context.Context, w *watch, sp *space, fresh bool) error {
	return c.calls.do(ctx, func(ctx context.Context) error {
		open, apart := c.cfg.Watch, max(w.privatePolls-1, 0)
		if fresh {
			open, apart = c.cfg.Open, privatePolls
		}
		if w.src == nil || fresh || w.privatePolls == 1 {
			ref := w.ref
			if w.key.follow {
				ref.Version = "" // so that it can tell the newest
			}
			src, err := open(ctx, ref, w.key.as)
			if err != nil {
				return err
			}
			w.src = src
		}
		w.privatePolls = apart
		return sp.bundle.Probe(ctx, w.src)
	})
}

// dates looks whether the key in use has expired, which unwrapping does not show. The date is the last that was read;
// it is read anew now and then, and at every poll of a key that has expired: a later one opens what is locked for that.
func (c *Custody) checkExpiry(ctx context.Context, w *watch, asked bool) {
	defer func() { w.expired = !w.expires.IsZero() && !time.Now().Before(w.expires) }()
	if w.okPolls++; w.okPolls%pollsPerDescribe != 1 && !asked && !w.expired {
		return
	}
	var d keysource.Description
	err := c.calls.do(ctx, func(ctx context.Context) (err error) {
		d, err = w.src.Describe(ctx, keysource.Ref{URI: w.key.uri, Version: w.key.version})
		return err
	})
	if err == nil { // access goes by unwrapping alone, so a refusal to describe changes nothing
		w.expires = d.Expires
	}
}

// newest returns the newest version of a key whose version in use refuses, when it is another and could be used: the
// resources would have gone over to it. Empty when that is not so, or not known.
func (c *Custody) newestVersion(ctx context.Context, w *watch) string {
	if !w.key.follow || w.src == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, newestTimeout) // the locking waits for it
	defer cancel()
	var d keysource.Description
	err := c.calls.do(ctx, func(ctx context.Context) (err error) {
		d, err = w.src.Describe(ctx, keysource.Ref{})
		return err
	})
	if err != nil || d.Ref.Version == w.key.version || !d.Enabled {
		return ""
	}
	return d.Ref.Version
}
