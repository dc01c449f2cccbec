package custody

import (
	"context"
	"fmt"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// State is how a resource's key stands.
type State struct {
	Condition Condition
	Since     time.Time
	Code      string        // the code that data operations are refused with; empty when they are not
	Reason    string        // a sentence; empty when all is well
	Key       visage.KeyRef // as it is addressed today
	Kept      visage.KeyRef // as it was addressed when the resource was put under it
	As        visage.PrincipalID
	Version   string // the version in use; empty when the key is the service's
	Policy    Policy
	// LastSuccess and NextCheck are of the poll; zero when the key is the service's or has not answered since the
	// start.
	LastSuccess, NextCheck time.Time
	Operation              Operation // the one under way, else the last
}

// State tells how a resource's key stands. It asks nobody, and works whatever the state is. Errors: sealed.ErrNoSpace.
func (c *Custody) State(ctx context.Context, id sealed.SpaceID) (State, error) {
	sp, err := c.space(ctx, id)
	if err != nil {
		return State{}, fmt.Errorf("read who holds the key: %w", err)
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	now := sp.state
	s := State{
		Condition: now.shown(), Since: now.Since, Code: now.Code, Reason: now.Reason, Version: sp.slot.Version,
		Policy: c.policyLocked(sp), LastSuccess: now.LastOK, NextCheck: sp.next,
	}
	if sp.note.Key != nil {
		s.Kept, s.As = sp.note.Key.Key, sp.note.Key.As
		s.Key = c.cfg.Today(s.Kept)
	}
	switch {
	case sp.note.Flow != nil:
		s.Operation = sp.note.Flow.operation()
	case sp.note.Last != nil:
		s.Operation = *sp.note.Last
	}
	return s, nil
}

// SetPolicy changes what happens to a resource when its key does not simply say yes. It works while it is locked.
func (c *Custody) SetPolicy(ctx context.Context, id sealed.SpaceID, p Policy) error {
	if p.Grace == 0 {
		p.Grace = c.cfg.Policy.Grace
	}
	if err := p.valid(); err != nil {
		return visage.Refuse(visage.Invalid, "InvalidEncryptionPolicy", "The policy cannot hold: %v.", err)
	}
	sp, err := c.space(ctx, id)
	if err != nil {
		return err
	}
	_, err = c.storeAndApply(ctx, sp, func(n *note) { n.Policy = &p }, event{kind: policyChanged})
	return err
}
