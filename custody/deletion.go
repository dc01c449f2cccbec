package custody

import (
	"context"
	"fmt"

	"github.com/visage-face/visage/sealed"
)

// Suspend locks the data of a deleted resource, if a customer's key protects it or is about to. When Suspend returns,
// the keys are wiped. Until Recover, the customer's key is not asked, and a change under way waits. A suspension is not
// stored: the caller repeats it after a restart. Errors: sealed.ErrNoSpace.
func (c *Custody) Suspend(ctx context.Context, id sealed.SpaceID) error {
	sp, err := c.space(ctx, id)
	if err != nil {
		return fmt.Errorf("suspend: %w", err)
	}
	sp.adminMu.Lock()
	defer sp.adminMu.Unlock()
	c.applyEvent(ctx, sp, event{kind: resourceDeleted})
	return nil
}

// Recover ends a suspension. The resource is as it was when it was deleted, and its data opens if the customer's key
// says yes. Data under the service's key is opened by the caller. Errors: sealed.ErrNoSpace.
func (c *Custody) Recover(ctx context.Context, id sealed.SpaceID) error {
	sp, err := c.space(ctx, id)
	if err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	sp.adminMu.Lock()
	load := c.applyEvent(ctx, sp, event{kind: resourceRecovered})
	sp.adminMu.Unlock() // Lock waits for no vault
	if load != nil {
		c.openRecovered(ctx, sp, *load)
	}
	wake(c.wake)
	return nil
}

// openRecovered opens a recovered resource with its customer's key. If that fails, the watch asks the key again and
// decides: a refusal counts only when it is confirmed.
func (c *Custody) openRecovered(ctx context.Context, sp *space, load effect) {
	key, version := sp.keyInUse()
	if key != nil {
		src, err := c.cfg.Open(ctx, key.at(version), key.As)
		if err == nil && c.openData(ctx, sp, src, load) == nil {
			return
		}
	}
	c.applyEvent(ctx, sp, event{kind: openingFailed, class: classUnknown, lockCount: load.lockCount})
}
