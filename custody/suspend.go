package custody

import (
	"context"
	"fmt"

	"github.com/visage-face/visage/sealed"
)

// Suspend closes a resource that is deleted, if its key is a customer's or about to be: its keys are wiped when it
// returns, its customer's key is asked no more, and a change that is under way waits, until Resume. A restart forgets
// it. Errors: sealed.ErrNoSpace.
func (c *Custody) Suspend(ctx context.Context, id sealed.SpaceID) error {
	sp, err := c.space(ctx, id)
	if err != nil {
		return fmt.Errorf("suspend: %w", err)
	}
	sp.adminMu.Lock()
	defer sp.adminMu.Unlock()
	c.applyEvent(ctx, sp, event{kind: suspended})
	return nil
}

// Resume ends what Suspend began: the resource is as it was at its deletion, and opens if its key says yes. Whose key
// is the service's is opened by whoever resumes it. Errors: sealed.ErrNoSpace.
func (c *Custody) Resume(ctx context.Context, id sealed.SpaceID) error {
	sp, err := c.space(ctx, id)
	if err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	sp.adminMu.Lock()
	load := c.applyEvent(ctx, sp, event{kind: resumed})
	sp.adminMu.Unlock() // Lock waits for no vault
	if load != nil {
		c.openResumed(ctx, sp, *load)
	}
	wake(c.wake)
	return nil
}

// openResumed opens a resource that is there again by its customer's key. It is the watch's to say why that fails: a
// refusal counts when it is confirmed.
func (c *Custody) openResumed(ctx context.Context, sp *space, load effect) {
	key, version := sp.keyInUse()
	if key != nil {
		src, err := c.cfg.Open(ctx, key.at(version), key.As)
		if err == nil && c.openData(ctx, sp, src, load) == nil {
			return
		}
	}
	c.applyEvent(ctx, sp, event{kind: openingFailed, class: classUnknown, locks: load.locks})
}
