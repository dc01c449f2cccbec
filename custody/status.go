package custody

import (
	"context"
	"fmt"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Status describes the state of a resource's key.
type Status struct {
	Condition Condition
	Since     time.Time
	Code      string // of the refusal of data operations; empty: they are not refused
	Reason    string // a sentence; empty: nothing is wrong
	// Cause is the answer of the key behind the condition in one word, for readers of other languages: a reason of
	// keysource, or "denied", "wrong", "unknown" or "expired". Empty: nothing is wrong, or no answer since the start.
	Cause   string
	Key     visage.KeyRef // with its present address
	Kept    visage.KeyRef // with the address at the time of enabling
	As      visage.PrincipalID
	Version string // the version in use; empty: the service's key, or one of a store whose keys have no versions
	Policy  Policy
	// KeyEnds is the expiry date of the version in use, as the vault gave it last, some minutes ago at most; zero: it
	// has none, or it is not known
	KeyEnds time.Time
	// LastSuccess and NextCheck are times of polls; zero: the service's key, or no answer since the start
	LastSuccess, NextCheck time.Time
	Operation              Operation // the one under way, else the last
}

// Status returns the state of a resource's key. It does not ask the key. Errors: sealed.ErrNoSpace.
func (c *Custody) Status(ctx context.Context, id sealed.SpaceID) (Status, error) {
	sp, err := c.space(ctx, id)
	if err != nil {
		return Status{}, fmt.Errorf("read the state of the resource's key: %w", err)
	}
	var ends time.Time
	c.mu.Lock()
	if sp.watch != nil {
		ends = sp.watch.ends
	}
	c.mu.Unlock()
	sp.mu.Lock()
	defer sp.mu.Unlock()
	now := sp.state
	s := Status{
		KeyEnds:   ends,
		Condition: now.shown(), Since: now.Since, Code: now.Code, Reason: now.Reason, Version: sp.slot.Version,
		Policy: c.policyLocked(sp), LastSuccess: now.LastOK, NextCheck: sp.next,
	}
	if s.Condition == Degraded || s.Condition == Revoked || s.Condition == Unavailable {
		s.Cause = now.Cause
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

// SetPolicy changes the policy of a resource, also while it is locked. Refusal: InvalidEncryptionPolicy.
func (c *Custody) SetPolicy(ctx context.Context, id sealed.SpaceID, p Policy) error {
	if p.Grace == 0 {
		p.Grace = c.cfg.Policy.Grace
	}
	if p.valid() != nil {
		return visage.Refuse(visage.Invalid, "InvalidEncryptionPolicy",
			"graceSeconds must be between %d and %d; got %d.", MinGrace/time.Second, MaxGrace/time.Second,
			p.Grace/time.Second)
	}
	sp, err := c.space(ctx, id)
	if err != nil {
		return err
	}
	_, err = c.storeAndApply(ctx, sp, func(n *note) { n.Policy = &p }, event{kind: policyChanged})
	return err
}
