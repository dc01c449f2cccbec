package custody

import (
	"context"
	"fmt"

	"github.com/visage-face/visage/sealed"
)

// Lock locks a resource under a customer's key at once: no operation that starts after Lock returns succeeds, and the
// keys are wiped. The resource stays locked until Unlock, also over restarts.
// Refusals: CustomerManagedKeyNotEnabled when the key is the service's.
func (c *Custody) Lock(ctx context.Context, id sealed.SpaceID) error {
	sp, err := c.space(ctx, id)
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	sp.adminMu.Lock()
	defer sp.adminMu.Unlock()
	_, err = c.applyCommand(ctx, sp, event{kind: lockRequested})
	return err
}

// Unlock ends the lock of Lock, and allows a resource to open that was revoked for more than 30 days or whose policy is
// ManualRestore. It asks the key at once, and the data opens when the key says yes: see Status.
func (c *Custody) Unlock(ctx context.Context, id sealed.SpaceID) error {
	sp, err := c.space(ctx, id)
	if err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	load, err := c.unlock(ctx, sp)
	if err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	if err := c.openWithServiceKey(ctx, sp, load); err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	return nil
}

// unlock ends the owner's lock. It is recorded before it takes effect.
func (c *Custody) unlock(ctx context.Context, sp *space) (load *effect, err error) {
	sp.adminMu.Lock()
	defer sp.adminMu.Unlock()
	if _, err := c.applyCommand(ctx, sp, event{kind: unlockRequested}); err != nil {
		return nil, err
	}
	return c.applyEvent(ctx, sp, event{kind: unlocked}), nil
}
