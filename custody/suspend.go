package custody

import (
	"context"
	"fmt"

	"github.com/visage-face/visage/sealed"
)

// Suspend closes a resource that is deleted, if its key is a customer's or about to be: its keys are wiped when it returns,
// its customer's key is asked no more, and a change that is under way waits, until Resume. A restart forgets it.
// Errors: sealed.ErrNoSpace.
func (c *Custody) Suspend(ctx context.Context, id sealed.SpaceID) error {
	sp, err := c.space(ctx, id)
	if err != nil {
		return fmt.Errorf("suspend: %w", err)
	}
	sp.officer.Lock()
	defer sp.officer.Unlock()
	sp.mu.Lock()
	sp.gone = true
	if sp.stopLoad != nil {
		sp.stopLoad()
	}
	customers := sp.note.Key != nil || sp.note.Flow != nil
	sp.mu.Unlock()
	if customers {
		const reason = "The resource is deleted."
		sp.shutNow(Locked, reason)
		sp.door.Lock() // an opening that was under way has ended after this, and none begins while gone is set
		sp.shutNow(Locked, reason)
		sp.door.Unlock()
	}
	c.place(sp)
	return nil
}

// Resume ends what Suspend began: the resource is as it was at its deletion, and opens if its key says yes. Whose key is the
// service's is opened by whoever resumes it. Errors: sealed.ErrNoSpace.
func (c *Custody) Resume(ctx context.Context, id sealed.SpaceID) error {
	sp, err := c.space(ctx, id)
	if err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	sp.officer.Lock()
	defer sp.officer.Unlock()
	sp.mu.Lock()
	was := sp.gone
	sp.gone = false
	key, version, busy := sp.note.Key, sp.slot.Version, sp.note.Flow != nil
	if key == nil && !busy {
		sp.shut, sp.cond, sp.code, sp.reason = false, ServiceManaged, "", ""
	}
	sp.mu.Unlock()
	if !was {
		return nil
	}
	c.closeAtStart(sp)
	sp.mu.Lock()
	if sp.shut && sp.cond == Unavailable {
		sp.reason = "The key is being asked."
	}
	sp.mu.Unlock()
	policy := c.policy(sp)
	if key != nil && !busy && sp.mayOpen(policy) { // who has it back wants it open; the watch asks again in any case
		if src, err := c.cfg.Open(ctx, key.at(version), key.As); err == nil && c.open(ctx, sp, src) == nil {
			c.serve(ctx, sp, policy, false, true)
		}
	}
	c.place(sp)
	c.kick(sp)
	c.start()
	return nil
}
