package custody

import (
	"context"
	"sync"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// askBeside asks the keys of a resource during a change as its watches do otherwise, until stop is called. A step can
// take long, for the resource is large or its store is slow, and can fail again and again. Each process asks by itself,
// also those that wait for the one that makes the change. A refusal locks the data, which ends the step under way.
func (c *Custody) askBeside(ctx context.Context, sp *space) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() {
		// beginChange may have taken changeTimeout since the key was asked; most changes end before this.
		for wait := confirmDelay; ; {
			timer, asked := time.NewTimer(wait), false
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-sp.ask:
				asked = true
			case <-timer.C:
			}
			timer.Stop()
			begun := time.Now()
			if f := sp.noteNow().Flow; f != nil {
				c.askDuringChange(ctx, sp, *f, asked)
			}
			wait = jitter(pollInterval) - time.Since(begun)
		}
	})
	return func() {
		cancel()
		work.Wait()
	}
}

// askDuringChange asks all keys that wrap the data key in use of an open resource; asked: because they may have
// changed, so a refusal is confirmed at once.
func (c *Custody) askDuringChange(ctx context.Context, sp *space, f flow, asked bool) {
	keys, err := sp.bundle.Keys(ctx)
	if err != nil {
		return
	}
	byCustomer := false
	present := sp.stores()
	var work sync.WaitGroup
	for _, s := range keys.Slots {
		if !s.Current || s.Role != sealed.Customer {
			continue
		}
		byCustomer = true
		work.Go(func() { c.askSlot(ctx, sp, f, present, s.Ref, asked) })
	}
	work.Wait()
	if len(f.After) == 0 && !byCustomer { // nobody can refuse any more, and the lease must not run out
		c.applyEvent(ctx, sp, event{kind: stepAnswered, asked: time.Now()})
	}
}

// askSlot asks the key of one slot. Locked data is opened by the next attempt of the change, which asks the key.
func (c *Custody) askSlot(ctx context.Context, sp *space, f flow, present []storeKey, slot keysource.Ref, asked bool) {
	at := sp.stateNow()
	if at.DataLocked {
		return
	}
	ask := func() (*changeSource, error) {
		src := c.keySources(sp, &f)
		src.skip = "" // the first key is asked however long it has been silent
		return src, sp.bundle.Probe(ctx, slot.URI, src)
	}
	asking := keysource.WithTrace(ctx)
	src, err := ask()
	if classOf(err) == classDenied && (asked || waitFor(ctx, confirmDelay)) {
		src, err = ask()
	}
	if ctx.Err() != nil || err != nil && !isKeyAnswer(err) {
		return
	}
	c.applyAnswer(asking, sp, src, answer{err: err, round: at.Round, store: storeOf(slot.URI, f, present)})
}
