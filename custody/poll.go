package custody

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// The times of polls. A refusal locks within pollInterval × 1.2 + callTimeout + confirmDelay + callTimeout +
// newestTimeout + noteTimeout + 2 s of draining: 58 s at worst, and 40 s if the vault and the disk answer at once. The
// interval is between two questions, so that what follows from an answer is within it, however slow the vault is.
const (
	pollInterval = 30 * time.Second // ± 20 %
	confirmDelay = 2 * time.Second  // between a refusal and the question that confirms it
	// polls over the private connection of a confirmation, before a shared one is used again
	privatePolls     = 10
	pollsPerDescribe = 10               // polls between two readings of the key's expiry date
	followInterval   = time.Hour        // between two searches for a newer version, and after a failed move
	followGuard      = 10 * time.Minute // the shortest time between two moves of a resource to newer versions
	newestTimeout    = confirmDelay     // for the newest version, which only the explanation of a refusal needs
	noteTimeout      = confirmDelay     // for the note of a refusal before it locks, of a resource with several keys
)

// queueWatch has Run poll the key of a watch.
func (c *Custody) queueWatch(ctx context.Context, w *watch) {
	select {
	case c.due <- w:
	case <-ctx.Done():
	}
}

// startPoll polls the key of a watch once, unless a poll is under way, and sets the timer of the next poll if resources
// still depend on the key.
func (c *Custody) startPoll(ctx context.Context, work *sync.WaitGroup, w *watch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.asking { // woken at the moment when its timer fired
		return
	}
	asked := w.asked
	w.asking, w.asked = true, false
	work.Go(func() {
		next, more := c.poll(ctx, w, asked)
		c.mu.Lock()
		defer c.mu.Unlock()
		w.asking = false
		if w.asked {
			next = time.Now()
		}
		if more && ctx.Err() == nil {
			w.timer.Reset(time.Until(next))
		}
	})
}

// poll asks the key of a watch and applies the answer to all resources that depend on it. It returns when to poll
// again, and whether.
func (c *Custody) poll(ctx context.Context, w *watch, asked bool) (next time.Time, more bool) {
	begun := time.Now()
	all := c.dependents(w)
	if len(all) == 0 {
		return begun, false
	}
	rounds := make([]uint64, len(all))
	for i, sp := range all {
		rounds[i] = sp.stateNow().Round
	}
	asking := keysource.WithTrace(ctx)
	err, valid := c.askKey(asking, w, all, asked)
	if ctx.Err() != nil {
		return begun, false // an ended context is no answer
	}
	if !valid {
		return begun, true
	}
	class := classOf(err)
	switch class {
	case classOK:
		w.failures = 0
		c.checkExpiry(ctx, w, asked)
		c.mu.Lock()
		w.ends = w.expires
		c.mu.Unlock()
	case classUnknown:
		w.failures++
	}
	next = begun.Add(jitter(pollInterval))
	if class == classUnknown {
		again := time.Now().Add(jitter(time.Second << min(w.failures-1, 5)))
		if again.Before(next) {
			next = again
		}
	}
	if class == classOK && w.expired {
		class = classExpired
	}
	c.polls.WithLabelValues(string(class)).Inc()
	c.reportPoll(class, all)
	reply := answer{err: err, expired: w.expired}
	if class == classDenied && reasonOf(err) == keysource.Disabled {
		reply.newest = c.newestVersion(ctx, w)
	}
	c.mu.Lock()
	w.next = next
	c.mu.Unlock()
	var work sync.WaitGroup
	for i, sp := range all {
		reply := reply
		reply.round = rounds[i]
		work.Go(func() {
			if store, depends := c.storeOf(w, sp); depends {
				reply.store = store
				c.applyAnswer(asking, sp, w.src, reply)
			}
		})
	}
	work.Wait() // at the same time, because each lock waits for running operations
	if err == nil && w.key.follow {
		c.beginFollow(ctx, w, all)
	}
	return next, true
}

// reportPoll tells Config.Polled of an answer.
func (c *Custody) reportPoll(answer class, dependents []*space) {
	if c.cfg.Polled == nil {
		return
	}
	ids := make([]visage.ResourceID, len(dependents))
	for i, sp := range dependents {
		ids[i] = visage.ResourceID(sp.id)
	}
	c.cfg.Polled(outcomeOf(answer), ids)
}

// askKey asks the key with the probe of one of the resources that depend on it; the answer holds for all. After a
// refusal it asks again, on a new connection and with a new token. If the resource has left the watch meanwhile, or its
// keys cannot be read, askKey asks with the probe of the next one.
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

// jitter varies a time by ± 20 %, so that polls that started together do not stay together.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// askOnce has the key unwrap the probe of sp; fresh: on a new connection, with a new token.
func (c *Custody) askOnce(ctx context.Context, w *watch, sp *space, fresh bool) error {
	open, left := c.cfg.Watch, max(w.privatePolls-1, 0)
	if fresh {
		open, left = c.cfg.Open, privatePolls
	}
	if w.src == nil || fresh || w.privatePolls == 1 {
		ref := w.ref
		if w.key.follow {
			ref.Version = "" // so that src can describe the newest version
		}
		src, err := open(ctx, ref, w.key.as)
		if err != nil {
			return err
		}
		w.src = src
	}
	w.privatePolls = left
	return sp.bundle.Probe(ctx, w.key.uri, w.src)
}

// checkExpiry checks whether the version in use has expired, which unwrapping does not show. It reads the expiry date
// at every 10th poll, when the key was asked for at once, and at every poll of an expired key, which a later date
// revives.
func (c *Custody) checkExpiry(ctx context.Context, w *watch, asked bool) {
	defer func() { w.expired = !w.expires.IsZero() && !time.Now().Before(w.expires) }()
	if w.okPolls++; w.okPolls%pollsPerDescribe != 1 && !asked && !w.expired {
		return
	}
	d, err := w.src.Describe(ctx, keysource.Ref{URI: w.key.uri, Version: w.key.version})
	if err == nil { // only unwrapping decides about access, so a refusal to describe changes nothing
		w.expires = d.Expires
	}
}

// newestVersion returns the newest version of a key whose version in use is disabled, if it is another one and enabled:
// the resources could not follow it in time. Empty: there is none, or it is unknown.
func (c *Custody) newestVersion(ctx context.Context, w *watch) string {
	if !w.key.follow || w.src == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, newestTimeout) // the lock waits for it
	defer cancel()
	d, err := w.src.Describe(ctx, keysource.Ref{})
	if err != nil || d.Ref.Version == w.key.version || !d.Enabled {
		return ""
	}
	return d.Ref.Version
}
